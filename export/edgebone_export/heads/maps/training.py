"""The loop that trains a small head on maps that are computed already."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgebone_export.errors import ExportError

Rows = NDArray[np.int64]
_FOR_VALIDATION = 0.2
_MOST_GRADIENT = 10.0


def check_positive(**settings: float) -> None:
    """Refuse settings that are not above 0.

    Raises:
        ExportError: Names the first that is not.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ExportError(f"{name} must be above 0, got {value:g}")


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast.

    Attributes:
        epochs: At most so many passes over the rows.
        batch: Rows a step.
        learning_rate: Of AdamW at the start; it falls to nothing along a cosine.
        weight_decay: Of AdamW, on weights; biases and batch norms have none.
        score_every: Epochs between two looks at the rows for validation.
        patience: After so many looks without a better score, training ends.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 1e-2
    score_every: int = 1
    patience: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_positive(epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate)


@dataclass(frozen=True)
class Trained:
    """How it went.

    Attributes:
        epoch: The epoch after which the weights were kept, from 1.
        epochs: How many were run.
        score: The validation score of these weights.
        seconds: How long it took.
    """

    epoch: int
    epochs: int
    score: float
    seconds: float


def train(
    net: nn.Module,
    rows: int,
    loss: Callable[[Rows], Tensor],
    score: Callable[[], float],
    schedule: Schedule,
    seed: int,
    progress: Callable[[str], None],
) -> Trained:
    """Train a module in place; it ends with the weights that had the best validation score, in eval mode.

    The same seed gives the same weights on the same machine.

    Args:
        net: The module; its weights must have been drawn from a seed already.
        rows: How many rows there are to train on.
        loss: Gives the loss of some rows, by their numbers.
        score: Gives the validation score, higher being better; called with the module in eval mode.
        schedule: How long, and how fast.
        seed: The order of the rows.
        progress: Called with a line a look.

    Raises:
        ExportError: The loss is not finite.
    """
    started = time.monotonic()
    steps = math.ceil(rows / schedule.batch)
    optimizer = torch.optim.AdamW(_groups(net, schedule.weight_decay), lr=schedule.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs * steps)
    order = np.random.default_rng(seed)
    best, best_epoch, kept, without = -math.inf, 0, copy.deepcopy(net.state_dict()), 0
    epoch = 0
    while epoch < schedule.epochs and without < schedule.patience:
        epoch += 1
        net.train()
        total = 0.0
        for part in np.array_split(order.permutation(rows), steps):
            optimizer.zero_grad(set_to_none=True)
            value = loss(np.sort(part))
            if not torch.isfinite(value):
                raise ExportError(f"epoch {epoch}: the loss is no number; check the maps for NaN, or train more slowly")
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), _MOST_GRADIENT)
            optimizer.step()
            cosine.step()
            total += float(value.detach()) / steps
        if epoch % schedule.score_every and epoch < schedule.epochs:
            continue
        net.eval()
        found = score()
        progress(f"epoch {epoch} of {schedule.epochs}: loss {total:.3f}, validation {found:.3f}")
        without += 1
        if found > best:
            best, best_epoch, kept, without = found, epoch, copy.deepcopy(net.state_dict()), 0
    net.load_state_dict(kept)
    net.eval()
    return Trained(best_epoch, epoch, best, round(time.monotonic() - started, 2))


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    weights = [item for item in net.parameters() if item.ndim > 1]
    others = [item for item in net.parameters() if item.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def numbers_of(picture: NDArray[np.int64] | None, rows: int) -> NDArray[np.int64]:
    """The picture that each row is a view of; None where each is one of its own.

    Raises:
        ExportError: There are not as many as rows.
    """
    if picture is None:
        return np.arange(rows)
    if picture.shape != (rows,):
        raise ExportError(f"{rows} rows of maps need the number of a picture each, got {list(picture.shape)}")
    return picture


def set_aside(picture: NDArray[np.int64], seed: int) -> tuple[Rows, Rows]:
    """Set a fifth of the pictures aside for validation, with all of their views.

    Args:
        picture: (n,): the picture that each row is a view of.
        seed: Which are set aside.

    Returns:
        The rows to train on, and those for validation.

    Raises:
        ExportError: There is one picture only.
    """
    numbers = np.unique(picture)
    if len(numbers) < 2:
        raise ExportError(f"{len(numbers)} pictures to train on: give two or more, since some are for validation")
    chosen = np.random.default_rng(seed).permutation(numbers)[: max(1, round(_FOR_VALIDATION * len(numbers)))]
    aside = np.isin(picture, chosen)
    return np.flatnonzero(~aside), np.flatnonzero(aside)
