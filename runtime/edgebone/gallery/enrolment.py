"""Turns folders, lists and cameras into labelled vectors."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.ahead import ahead
from edgebone.core.errors import SourceError, TensorError
from edgebone.evaluate.pictures import find_pictures, read_rows
from edgebone.gallery.embedding import embed_prepared, prepared_views
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.gallery import Gallery
from edgebone.gallery.signature import with_thumbnail
from edgebone.gallery.vectors import Floats
from edgebone.gallery.views import SIGNATURE
from edgebone.model.model import Model
from edgebone.preprocess import Pixels
from edgebone.sources import open_source
from edgebone.sources.globs import pictures_matching
from edgebone.sources.images import read_image
from edgebone.sources.limits import Limits, Pick
from edgebone.sources.undamaged import undamaged

# The number of pictures whose views share the network's batches.
_AT_ONCE = 8


@dataclass(frozen=True)
class Sample:
    """One picture and its label.

    Attributes:
        source: The file's or the camera's name.
        label: Its label; empty if it is only looked up.
        image: uint8, height × width × 3, BGR; None is read from the file later.
    """

    source: str
    label: str
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Embedded:
    """Pictures' vectors.

    Attributes:
        samples: The pictures, without those that could not be read.
        vectors: float32, shape (n, r, d): r is 2 for references of signatures, else 1.
        unreadable: A line for each picture that could not be read.
    """

    samples: tuple[Sample, ...]
    vectors: Floats
    unreadable: tuple[str, ...]


def picture_files(text: str) -> list[Path] | None:
    """Return the pictures of a file, a folder with its subfolders, a glob or a CSV; None for a video or camera.

    Raises:
        SourceError: It has no pictures.
    """
    if not os.path.exists(text):  # noqa: PTH110  (Path.exists raises on a name that is too long)
        if "://" in text or text.startswith(("usb:", "csi:")):
            return None
        if glob.has_magic(text):
            return pictures_matching(text)
    return find_pictures(Path(text))


def labelled(text: str, label: str | None, by_name: bool) -> tuple[list[Sample] | None, int]:
    """Return the pictures of a source with their labels; None for a video or camera.

    Args:
        text: A CSV with the columns file and label, or a folder whose subfolders are the labels; with one label for
            all, a folder, a picture or a glob.
        label: The label for all; None takes the labels from the CSV or the folders.
        by_name: Use the file's name as the label if there is no other.

    Returns:
        The pictures, and how many were left out because they are outside the label folders.

    Raises:
        SourceError: It has no pictures.
        GalleryError: It has no labels.
    """
    path = Path(text)
    if label is None and path.suffix.lower() == ".csv":
        return _of_csv(path), 0
    files = picture_files(text)
    if files is None or label is not None:
        return None if files is None else [Sample(str(file), label or "") for file in files], 0
    under = [file.relative_to(path).parts if path.is_dir() else (file.name,) for file in files]
    if not by_name and all(len(parts) == 1 for parts in under):
        raise GalleryError(f"{text} has no labels: give --label, or make a folder for each label")
    chosen = [(file, parts[0]) for file, parts in zip(files, under, strict=True) if by_name or len(parts) > 1]
    return [Sample(str(file), name) for file, name in chosen], len(files) - len(chosen)


def unlabelled(texts: Sequence[str]) -> list[Sample]:
    """Return pictures to look up: files, folders and globs, in order.

    Raises:
        SourceError: A source has none, or is a video or a camera.
    """
    samples = []
    for text in texts:
        files = picture_files(text)
        if files is None:
            raise SourceError(f"{text} is not a picture; for a video or a camera use: edgebone run")
        samples += [Sample(str(file), "") for file in files]
    return samples


def _of_csv(path: Path) -> list[Sample]:
    rows = read_rows(path)
    if not rows or not {"file", "label"} <= rows[0].keys():
        columns = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise SourceError(f"{path}: needs the columns file and label, has {columns}")
    samples = []
    for number, row in enumerate(rows, start=2):
        file, label = (row["file"] or "").strip(), (row["label"] or "").strip()
        if not file or not label:
            raise SourceError(f"{path}: line {number} has no {'label' if file else 'file'}")
        samples.append(Sample(str(path.parent / file), label))
    return samples


def frames_of(text: str, label: str, every: int, most: int, damaged: list[str]) -> Iterator[Sample]:
    """Yield frames of a video or a camera; a damaged frame of a camera is replaced by the next one.

    Args:
        text: The video's path or the camera's address.
        label: The label for all.
        every: Take every N-th frame.
        most: The largest number of frames.
        damaged: Receives a line for each damaged frame of a camera.

    Raises:
        SourceError: It cannot be opened or read, or a recording is damaged.
    """
    with contextlib.closing(open_source(text)) as source:
        pick = Pick(Limits(every=every))
        frames = undamaged(source, pick.wants, lambda _, error: damaged.append(str(error)))
        for frame, image in itertools.islice(frames, most):
            yield Sample(frame.source, label, image)


def embed_samples(model: Model, gallery: Gallery, samples: Iterable[Sample], head: str | None, keep: bool) -> Embedded:
    """Compute vectors for a gallery.

    Args:
        model: The loaded bundle.
        gallery: The gallery, which defines the views.
        samples: The pictures.
        head: The head that computes the embedding; None for the only one.
        keep: Whether the vectors will be enrolled, so that signatures also get a vector of their thumbnail.

    Raises:
        BundleError: There is no such head, or none or several where none is named.
    """
    read: list[Sample] = []
    unreadable: list[str] = []
    references = 2 if keep and gallery.views == SIGNATURE else 1
    parts = [np.empty((0, references, gallery.dimension), np.float32)]

    def prepare(sample: Sample) -> tuple[Sample, list[Pixels] | str]:
        known = Sample(sample.source, sample.label)
        try:
            image = read_image(sample.source) if sample.image is None else sample.image
            pictures = with_thumbnail(model, image) if references == 2 else (image,)
            return known, [prepared_views(model, picture, gallery.views) for picture in pictures]
        except SourceError as error:
            return known, str(error)
        except TensorError as error:
            return known, f"{sample.source}: {error}"

    def embed(group: Sequence[tuple[Sample, list[Pixels] | str]]) -> tuple[list[Sample], list[str], Floats]:
        unread = [found for _, found in group if isinstance(found, str)]
        views = [own for _, found in group if not isinstance(found, str) for own in found]
        vectors = embed_prepared(model, views, head) if views else parts[0]
        known = [sample for sample, found in group if not isinstance(found, str)]
        return known, unread, vectors.reshape(-1, references, vectors.shape[-1])

    with contextlib.closing(ahead(prepare, samples)) as prepared:
        groups = iter(lambda: list(itertools.islice(prepared, _AT_ONCE)), [])
        # Two at a time: the engine runs one while the other is decoded or waits for a core.
        with contextlib.closing(ahead(embed, groups, threads=2, waiting=0)) as embedded:
            for known, unread, vectors in embedded:
                read += known
                unreadable += unread
                parts.append(vectors)
    return Embedded(tuple(read), np.concatenate(parts), tuple(unreadable))
