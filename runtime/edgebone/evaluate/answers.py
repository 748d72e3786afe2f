"""Runs a model on picture files; an unreadable one loses only its own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from edgebone.core.ahead import ahead
from edgebone.core.errors import SourceError, TensorError
from edgebone.core.results import Results
from edgebone.evaluate.predictor import Predictor

LeftOut = Callable[[SourceError], None]


def refuse(error: SourceError) -> None:
    """The default handling of unreadable pictures: raise the error.

    Raises:
        SourceError: Always.
    """
    raise error


def answers(
    model: Predictor, pictures: Sequence[Path], left_out: LeftOut, progress: Callable[[int], None]
) -> Iterator[tuple[int, Results]]:
    """Yield each picture's index and results, in batches of the model's size; the next pictures are read meanwhile.

    Args:
        model: The model.
        pictures: The files; only the first page of each is used.
        left_out: Called with the reason for each picture left out; it may raise.
        progress: Called with the number of pictures done.

    Raises:
        SourceError: None of the pictures could be read, or ``left_out`` raised it.
    """
    found = done = 0
    batches = [pictures[start : start + model.max_batch] for start in range(0, len(pictures), model.max_batch)]
    # A batch's pictures are all in memory: at most two large ones.
    threads = None if model.max_batch == 1 else 2
    with closing(ahead(lambda batch: _of_batch(model, batch), batches, threads)) as answered:
        for results in answered:
            for place, result in enumerate(results, done):
                if isinstance(result, SourceError):
                    left_out(result)
                else:
                    found += 1
                    yield place, result
            done += len(results)
            progress(done)
    if not found:
        raise SourceError(f"none of the {len(pictures)} pictures could be read")


def _of_batch(model: Predictor, batch: Sequence[Path]) -> Sequence[Results | SourceError]:
    if len(batch) > 1:
        # One unreadable picture fails the batch: run them one by one to find it.
        with suppress(SourceError, TensorError):
            return model(list(batch))
    return [_one(model, path) for path in batch]


def _one(model: Predictor, path: Path) -> Results | SourceError:
    try:
        return model([path])[0]
    except SourceError as error:
        return error
    except TensorError as error:
        return SourceError(f"{path}: {error}")
