"""Determine what a network's outputs mean: one of several classes, independent labels, or values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from edgebone.core.manifest import Head
from edgebone_export.errors import ExportError
from edgebone_export.models.output_kinds import Kind

FinalActivation = Literal["softmax", "sigmoid"]

# As in transformers' configurations.
_PROBLEM_TYPES: dict[object, Kind] = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
_ENDS: dict[str, FinalActivation] = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid"}
# Operators that only reshape values or select some of them.
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "Alias")
_SUM_TOLERANCE = 1e-3


def configured_kind(module: nn.Module) -> Kind | None:
    """Return the kind in a network's own configuration, such as transformers' ``config.problem_type``."""
    return _PROBLEM_TYPES.get(getattr(getattr(module, "config", None), "problem_type", None))


def final_activation(module: nn.Module, example: torch.Tensor) -> FinalActivation | None:
    """Return whether a network ends in a softmax, or in a sigmoid of each value.

    Args:
        module: Takes ``example`` and returns one tensor (n, k), alone or in a tuple.
        example: (n, 3, height, width).

    Returns:
        None for raw scores, or if PyTorch recorded no gradient to decide by.
    """
    with torch.enable_grad():
        # A sum, since a network may change its input in place, which PyTorch forbids for leaves with gradients.
        given = module(example.detach().requires_grad_() + 0)
    scores: torch.Tensor = given[0] if isinstance(given, (tuple, list)) else given
    step: Any = scores.grad_fn
    while step is not None and step.name().rstrip("0123456789").removesuffix("Backward") in _VIEWS:
        step = step.next_functions[0][0]
    last = None if step is None else _ENDS.get(step.name().rstrip("0123456789").removesuffix("Backward"))
    whole = bool(((scores.detach().sum(dim=1) - 1).abs() <= _SUM_TOLERANCE).all())
    # One column of a softmax is a probability like a sigmoid's.
    return "sigmoid" if last == "softmax" and (scores.shape[1] == 1 or not whole) else last


def head_of(
    name: str, kind: Kind | None, ends: FinalActivation | None, output: str, labels: Sequence[str], named: bool
) -> dict[str, Head]:
    """Return the head that reads one output of k values per picture.

    Args:
        name: The network's name, for messages.
        kind: Meaning of the values; None assumes classes if nothing else is possible.
        ends: The softmax or sigmoid that the network ends in.
        output: The graph's output.
        labels: One name per value.
        named: Whether the names are more than indices.

    Raises:
        ExportError: The meaning is ambiguous, or contradicts the network.
    """
    count = len(labels)
    if count == 1 and kind in (None, "classification"):
        wrong = "a softmax over one class is always 100 %" if kind else "its meaning is not known"
        raise ExportError(
            f"{name} returns one value per picture, and {wrong}: pass --kind binary if a label applies or not, --kind "
            "regression for a value, or --output raw for the tensor itself"
        )
    if kind is None and ends == "sigmoid":
        raise ExportError(
            f"{name} returns {count} values per picture, each from a sigmoid: pass --kind multilabel if several labels "
            "may apply, --kind classification if one class does, --kind regression for values, or --output raw"
        )
    if kind == "binary" and count != 1:
        raise ExportError(
            f"{name} returns {count} values per picture, but --kind binary needs one: pass --kind multilabel if "
            "several labels may apply, or --kind classification if one class does"
        )
    if kind == "multilabel" and ends == "softmax":
        raise ExportError(
            f"{name} ends in a softmax, so its {count} values add up to 1: one class applies: --kind classification"
        )
    if kind == "regression":
        names = list(labels) if named else ["value"] if count == 1 else [f"value {place}" for place in range(count)]
        if len(set(names)) < count:
            raise ExportError(f"{name}: values are identified by their labels, and two labels are the same")
        return {"values": Head("regression@1", (output,), (), {"names": names})}
    if kind in ("binary", "multilabel"):
        texts = tuple(labels) if named or count > 1 else ("positive",)
        return {"labels": Head("multilabel@1", (output,), texts, {"activation": "none"} if ends else {})}
    params = {"activation": "none" if ends else "softmax", "top_k": 5}
    return {"classification": Head("classification@1", (output,), tuple(labels), params)}
