"""Computes vectors of pictures, and a fingerprint of how they are computed."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Union

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.ahead import ahead
from edgebone.core.frame import Frame
from edgebone.core.geometry import Geometry
from edgebone.core.golden import read_golden
from edgebone.core.head_file import HeadManifest
from edgebone.core.manifest import Head, Preprocess
from edgebone.core.results import Embedding
from edgebone.decode.heads import find_head
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.vectors import Floats, as_unit
from edgebone.gallery.views import OWN, View
from edgebone.model.model import Model
from edgebone.model.running import Prepared
from edgebone.preprocess import Pixels, preprocess
from edgebone.sources.images import read_image
from edgebone.tasks.embedding import EMBEDDING

Picture = Union[str, "os.PathLike[str]", NDArray[np.uint8], Frame]
_MOST_BATCH = 32


def embed_pictures(
    model: Model, pictures: Sequence[Picture], head: str | None = None, views: Sequence[View] = OWN
) -> Floats:
    """Compute pictures' vectors: the mean of the views' unit vectors, normalised again.

    Args:
        model: A loaded bundle with an embedding.
        pictures: Files, arrays (uint8, height × width × 3, BGR) or frames.
        head: The head that computes it; None for the only one.
        views: The views of each picture.

    Returns:
        float32, shape (n, d), of length one.

    Raises:
        SourceError: A file cannot be read.
        BundleError: No such head, or none is named and the bundle has none or several.
        GalleryError: The network returned NaN or infinity, or the head was swapped meanwhile.
    """
    with closing(ahead(lambda picture: prepared_views(model, _pixels(picture), views), pictures)) as prepared:
        return embed_prepared(model, prepared, head)


def prepared_views(model: Model, image: NDArray[np.uint8], views: Sequence[View] = OWN) -> Pixels:
    """Return the network's inputs for a picture's views: uint8 (views, height, width, 3).

    Args:
        model: A loaded bundle.
        image: uint8, height × width × 3, BGR.
        views: The picture's views.

    Raises:
        TensorError: It is not such an array, or cannot be resized.
    """
    spec = model.manifest.preprocess
    whole = msgspec.structs.replace(spec, mode="stretch", resize=None)
    inputs = np.empty((len(views), *spec.size_hw, 3), np.uint8)
    for view, out in zip(views, inputs, strict=True):
        preprocess(spec if view == "own" else whole, image, out)
        if view == "mirror":
            out[:] = cv2.flip(out, 1)
    return inputs


def embed_prepared(model: Model, prepared: Iterable[Pixels], head: str | None = None) -> Floats:
    """Compute the vectors of pictures whose views are already prepared; see :func:`embed_pictures`.

    Args:
        model: A loaded bundle with an embedding.
        prepared: The views of each picture, from :func:`prepared_views`, the same number for each.
        head: The head that computes it; None for the only one.

    Returns:
        float32, shape (n, d), of length one.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
        GalleryError: The network returned NaN or infinity, or the head was swapped meanwhile.
    """
    name = embedding_head(model, head)
    # Only a detached head can be swapped, and it is in memory; others would be read from the bundle.
    file = model.head_file(name) if model.manifest.heads[name].detached else None
    before = file.manifest if file else None
    counts: list[int] = []

    def inputs() -> Iterator[Pixels]:
        for own in prepared:
            counts.append(len(own))
            yield from own

    found = list(_run(model, name, inputs()))
    if any(item.head is not None and item.head is not before for item in found):
        raise GalleryError(f"head {name} was swapped while pictures were embedded; embed them again")
    if not found:
        return np.empty((0, dimension_of(model, name)), np.float32)
    vectors = np.stack([result.vector for result in found])
    unit = as_unit(vectors, vectors.shape[1]).reshape(len(counts), counts[0], vectors.shape[1])
    return as_unit(unit.mean(axis=1), vectors.shape[1])


def _run(model: Model, head: str, prepared: Iterator[NDArray[np.uint8]]) -> Iterator[Embedding]:
    """Yield the network's embeddings, in the largest batches that it accepts."""
    size = min(model.max_batch, _MOST_BATCH)
    # Other results need a geometry to be placed in the picture; a vector does not.
    nowhere = Geometry((1, 1), model.manifest.preprocess.size_hw, (1.0, 1.0), (0.0, 0.0))
    while batch := list(itertools.islice(prepared, size)):
        buffer = model.new_buffer(len(batch))
        buffer[: len(batch)] = batch
        ran = model.run(Prepared(model.engine, buffer, []), [head])
        results = model.answers([nowhere] * len(batch), ran, [[head]] * len(batch))
        for result in results:
            yield EMBEDDING.pick(result, head)


def _pixels(picture: Picture) -> NDArray[np.uint8]:
    if isinstance(picture, Frame):
        return picture.image
    return picture if isinstance(picture, np.ndarray) else read_image(Path(picture))


def embedding_head(model: Model, name: str | None = None) -> str:
    """Return the name of the head that computes an embedding.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
    """
    advice = "export one with: edgebone export MODEL --output embedding"
    return find_head(_heads_now(model), EMBEDDING, name, "a gallery", advice=advice, how="")[0]


def _heads_now(model: Model) -> dict[str, Head]:
    """Return the bundle's heads, swapped ones in their current state."""
    files = {name: model.head_file(name) for name, head in model.manifest.heads.items() if head.detached}
    return {**model.manifest.heads, **{name: file.manifest.head for name, file in files.items() if file}}


def dimension_of(model: Model, head: str | None = None) -> int:
    """Return the number of values of the head's embedding.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
    """
    name = embedding_head(model, head)
    file = model.head_file(name)
    head_now = file.manifest.head if file else model.manifest.heads[name]
    specs = file.manifest.outputs if file else model.manifest.outputs
    return next(int(spec.shape[-1]) for spec in specs if spec.name == head_now.outputs[0])


def space_of(model: Model, head: str | None = None, views: Sequence[View] = OWN) -> str:
    """Return a fingerprint of how vectors are computed: vectors with equal fingerprints are comparable.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
    """
    manifest = model.manifest
    name = embedding_head(model, head)
    file = model.head_file(name)
    if file is not None:
        return space_of_head(file.manifest, manifest.preprocess, views)
    # Not from the bundle's graph, which changes whenever a head is attached.
    outputs, weights = manifest.heads[name].outputs, manifest.model.weights
    made_by: list[object]
    if weights.sha256:
        made_by = [manifest.model.name, weights.sha256, outputs, dimension_of(model, name)]
    else:
        # Weights that come from no file are identified by the network's recorded outputs, which do not change when
        # heads are attached; but another export elsewhere differs in the last bits.
        golden = read_golden(model.bundle)
        answers = (golden.network_input, *(golden.outputs[output] for output in outputs))
        made_by = [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in answers]
    return _hash(made_by, manifest.preprocess, views)


def space_of_head(head: HeadManifest, preprocess: Preprocess, views: Sequence[View] = OWN) -> str:
    """Return the fingerprint of vectors computed by a fitted head."""
    made_by: list[object] = [head.sha256, {name: tap.fingerprint for name, tap in head.reads.items()}]
    return _hash(made_by, preprocess, views)


def _hash(made_by: list[object], preprocess: Preprocess, views: Sequence[View]) -> str:
    return hashlib.sha256(msgspec.json.encode([made_by, preprocess, list(views)], order="sorted")).hexdigest()


def about(model: Model, head: str | None = None, views: Sequence[View] = OWN) -> str:
    """Describe how vectors are computed: ``mobilenet_v2 IMAGENET1K_V1, head embedding, own view``."""
    info = model.manifest.model
    seen = " and ".join(views) + (" view" if len(views) == 1 else " views")
    return f"{info.name} {info.weights.name}, head {embedding_head(model, head)}, {seen}"
