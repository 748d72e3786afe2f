"""What the numbers are that a network gives for a picture: one of several classes, labels that hold or not, values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from edgebone.core.manifest import Head
from edgebone_export.errors import ExportError
from edgebone_export.models.output_kinds import Kind

EndsIn = Literal["softmax", "sigmoid"]

# As transformers' configurations say it.
_PROBLEM_TYPES: dict[object, Kind] = {
    "single_label_classification": "classification",
    "multi_label_classification": "multilabel",
    "regression": "regression",
}
_ENDS: dict[str, EndsIn] = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid"}
# What only gives the same numbers another shape, or fewer of them.
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "Clone", "Alias")
_SUM_TOLERANCE = 1e-3


def said_by(module: nn.Module) -> Kind | None:
    """What a network's own configuration says, as transformers' ``config.problem_type`` does."""
    return _PROBLEM_TYPES.get(getattr(getattr(module, "config", None), "problem_type", None))


def ends_in(module: nn.Module, example: torch.Tensor) -> EndsIn | None:
    """Whether a network gives probabilities: those of one softmax, or each from a sigmoid of its own.

    Args:
        module: Takes ``example``, and gives one tensor (n, k), alone or in a tuple.
        example: (n, 3, height, width).

    Returns:
        None for scores, and where PyTorch recorded no gradient to tell by.
    """
    with torch.enable_grad():
        # A sum, since a network may change its input in place, which PyTorch allows of nothing that has gradients.
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
    name: str, kind: Kind | None, ends: EndsIn | None, output: str, labels: Sequence[str], named: bool
) -> dict[str, Head]:
    """The head that reads one output of k numbers a picture.

    Args:
        name: The network's, for messages.
        kind: What the numbers are; None takes classes where they can be nothing else.
        ends: Whether they are probabilities already.
        output: The graph's output.
        labels: A name a number.
        named: Whether the names are more than their places.

    Raises:
        ExportError: They could be several things, or cannot be what is said.
    """
    count = len(labels)
    if count == 1 and kind in (None, "classification"):
        wrong = "a softmax over one class is always 100 %" if kind else "nothing says what it is"
        raise ExportError(
            f"{name} gives one number a picture, and {wrong}: say --kind binary where a label holds or not, --kind "
            "regression for a value, or --output raw for the tensor as it is"
        )
    if kind is None and ends == "sigmoid":
        raise ExportError(
            f"{name} gives {count} numbers a picture, a sigmoid of each: say --kind multilabel where several labels "
            "may hold, --kind classification where one class does, --kind regression for values, or --output raw"
        )
    if kind == "binary" and count != 1:
        raise ExportError(
            f"{name} gives {count} numbers a picture, and --kind binary is one: say --kind multilabel where several "
            "labels may hold, or --kind classification where one class does"
        )
    if kind == "multilabel" and ends == "softmax":
        raise ExportError(
            f"{name} ends in a softmax, so that its {count} numbers add up to 1: one class holds, --kind classification"
        )
    if kind == "regression":
        names = list(labels) if named else ["value"] if count == 1 else [f"value {place}" for place in range(count)]
        if len(set(names)) < count:
            raise ExportError(f"{name}: numbers are told apart by their names, and two of the labels are the same")
        return {"values": Head("regression@1", (output,), (), {"names": names})}
    if kind in ("binary", "multilabel"):
        texts = tuple(labels) if named or count > 1 else ("positive",)
        return {"labels": Head("multilabel@1", (output,), texts, {"activation": "none"} if ends else {})}
    params = {"activation": "none" if ends else "softmax", "top_k": 5}
    return {"classification": Head("classification@1", (output,), tuple(labels), params)}
