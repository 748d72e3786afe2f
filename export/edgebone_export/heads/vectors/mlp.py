"""A network with one hidden layer, trained one epoch at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.features.fitted import Features
from edgebone_export.heads.vectors.graph import Affine, Layer, Relu

EPOCHS = tuple(range(1, 61))
_BATCH = 128
_DROPOUT = 0.5
_RATE = 1e-3
_DECAY = 1e-2


class NetworkPath:
    """One hidden layer with ReLU and dropout, trained with AdamW."""

    def __init__(
        self, x: Features, y: NDArray[Any], weights: NDArray[np.float64], width: int, hidden: int, seed: int
    ) -> None:
        """Draw the initial weights.

        Args:
            x: Standardised features, float32 (n, d).
            y: int64 classes (n,).
            weights: Weight of each row (n,).
            width: Number of classes.
            hidden: Size of the hidden layer.
            seed: Seed of initial weights, order of rows and dropout. The global generator is not changed.
        """
        import torch

        self._random = torch.Generator().manual_seed(seed)
        self._x, self._y = torch.from_numpy(x), torch.from_numpy(y)
        self._weights = torch.from_numpy((weights / weights.mean()).astype(np.float32))
        first = torch.randn(x.shape[1], hidden, generator=self._random) * float(np.sqrt(2 / x.shape[1]))
        last = torch.randn(hidden, width, generator=self._random) * float(np.sqrt(1 / hidden))
        self._parts = [first, torch.zeros(hidden), last, torch.zeros(width)]
        for part in self._parts:
            part.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self._parts, lr=_RATE, weight_decay=_DECAY)

    def advance(self, _epoch: float) -> None:
        """Train for one more epoch."""
        import torch
        from torch.nn import functional

        first, first_bias, last, last_bias = self._parts
        for rows in torch.split(torch.randperm(len(self._x), generator=self._random), _BATCH):
            hidden = torch.addmm(first_bias, self._x[rows], first).relu()
            kept = torch.rand(hidden.shape, generator=self._random) >= _DROPOUT
            scores = torch.addmm(last_bias, hidden * kept / (1 - _DROPOUT), last)
            losses = functional.cross_entropy(scores, self._y[rows], reduction="none")
            self._optimizer.zero_grad()
            (losses * self._weights[rows]).mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()

    def scores(self, x: Features) -> Features:
        """Return logits (n, width) of standardised features (n, d)."""
        import torch

        first, first_bias, last, last_bias = self._parts
        with torch.no_grad():
            hidden = torch.addmm(first_bias, torch.from_numpy(x), first).relu_()
            return np.asarray(torch.addmm(last_bias, hidden, last).numpy())

    def layers(self) -> tuple[Layer, ...]:
        """Return layers that compute the same scores."""
        first, first_bias, last, last_bias = (part.detach().numpy().astype(np.float64) for part in self._parts)
        return (Affine(first, first_bias), Relu(), Affine(last, last_bias))
