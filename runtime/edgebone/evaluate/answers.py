"""A model's answers to files of pictures; one that cannot be read costs its own answer and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgebone.core.errors import SourceError, TensorError
from edgebone.core.results import Results
from edgebone.model import Looker

LeftOut = Callable[[SourceError], None]


def refuse(error: SourceError) -> None:
    """What evaluating does with a picture that cannot be read, where nothing else is asked for.

    Raises:
        SourceError: Always.
    """
    raise error


def answers(
    model: Looker, pictures: Sequence[Path], left_out: LeftOut, progress: Callable[[int], None]
) -> Iterator[tuple[int, Results]]:
    """Each picture's place and results, in batches of the model's size.

    Args:
        model: The model.
        pictures: The files; of a file with several pages the first is looked at.
        left_out: Told why a picture is left out; it may raise.
        progress: Called with the number of pictures done.

    Raises:
        SourceError: None of the pictures could be read, or ``left_out`` raised it.
    """
    found = 0
    for start in range(0, len(pictures), model.max_batch):
        batch = pictures[start : start + model.max_batch]
        try:
            results: list[Results | None] = list(model(list(batch)))
        except (SourceError, TensorError):
            results = [_one(model, path, left_out) for path in batch]
        for place, result in enumerate(results, start):
            if result is not None:
                found += 1
                yield place, result
        progress(start + len(batch))
    if not found:
        raise SourceError(f"none of the {len(pictures)} pictures could be read")


def _one(model: Looker, path: Path, left_out: LeftOut) -> Results | None:
    try:
        return model([path])[0]
    except SourceError as error:
        left_out(error)
        return None
    except TensorError as error:
        left_out(SourceError(f"{path}: {error}"))
        return None
