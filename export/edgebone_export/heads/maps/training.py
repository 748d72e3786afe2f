"""The training loop of a small head on precomputed maps."""

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
    """Check that settings are above 0.

    Raises:
        ExportError: A setting is not; the message names the first one.
    """
    for name, value in settings.items():
        if not value > 0:
            raise ExportError(f"{name} must be above 0, found {value:g}")


@dataclass(frozen=True)
class Schedule:
    """Length and speed of training.

    Attributes:
        epochs: Largest number of passes over the rows.
        batch: Rows per step.
        learning_rate: Initial learning rate of AdamW; it decays to 0 along a cosine.
        weight_decay: Weight decay of AdamW; biases and batch norms have none.
        score_every: Epochs between two validations.
        patience: Number of validations without a better score before training stops.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 1e-2
    score_every: int = 1
    patience: int = 10

    def __post_init__(self) -> None:
        """Check that settings are valid."""
        check_positive(epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate)


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes:
        epoch: Epoch of the kept weights, from 1.
        epochs: Number of epochs run.
        score: Validation score of the kept weights.
        seconds: Training time.
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
    """Train a module in place; it ends in eval mode with the weights of the best validation score.

    The same seed produces the same weights on the same machine.

    Args:
        net: The module; its weights must already be drawn from a seed.
        rows: Number of training rows.
        loss: Returns the loss of some rows, by their indices.
        score: Returns the validation score, higher is better; called with the module in eval mode.
        schedule: Length and speed of training.
        seed: Seed of the order of rows.
        progress: Called with one line per validation.

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
                raise ExportError(f"epoch {epoch}: the loss is not finite; check the maps for NaN, or train slower")
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
    """Return the picture that each row is a view of; None means that each row is a picture of its own.

    Raises:
        ExportError: Their number is not that of the rows.
    """
    if picture is None:
        return np.arange(rows)
    if picture.shape != (rows,):
        raise ExportError(f"expected a picture number for each of {rows} rows of maps, found {list(picture.shape)}")
    return picture


def set_aside(picture: NDArray[np.int64], seed: int) -> tuple[Rows, Rows]:
    """Set a fifth of the pictures aside for validation, with all of their views.

    Args:
        picture: (n,): the picture that each row is a view of.
        seed: Seed of the choice.

    Returns:
        The training rows, and the validation rows.

    Raises:
        ExportError: There is only one picture.
    """
    numbers = np.unique(picture)
    if len(numbers) < 2:
        raise ExportError(f"training needs two or more pictures, since some are for validation; found {len(numbers)}")
    chosen = np.random.default_rng(seed).permutation(numbers)[: max(1, round(_FOR_VALIDATION * len(numbers)))]
    aside = np.isin(picture, chosen)
    return np.flatnonzero(~aside), np.flatnonzero(aside)
