"""A model's answers to files of pictures; one that cannot be read costs its own answer and no more."""

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
    """What evaluating does with a picture that cannot be read, where nothing else is asked for.

    Raises:
        SourceError: Always.
    """
    raise error


def answers(
    model: Predictor, pictures: Sequence[Path], left_out: LeftOut, progress: Callable[[int], None]
) -> Iterator[tuple[int, Results]]:
    """Each picture's place and results, in batches of the model's size: the next are read while the engine runs.

    Args:
        model: The model.
        pictures: The files; of a file with several pages the first is looked at.
        left_out: Told why a picture is left out; it may raise.
        progress: Called with the number of pictures done.

    Raises:
        SourceError: None of the pictures could be read, or ``left_out`` raised it.
    """
    found = done = 0
    batches = [pictures[start : start + model.max_batch] for start in range(0, len(pictures), model.max_batch)]
    # A batch's pictures are all in memory: of large ones no more than two.
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
        # One that cannot be read fails them all: then one by one says which.
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
