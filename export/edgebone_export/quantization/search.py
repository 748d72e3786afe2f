"""Looks for the variant with the fewest layers left in FP32 that holds the accuracy budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgebone.core.errors import EngineError
from edgebone.evaluate.rehearsal import Rehearsal, Score
from edgebone_export.quantization.recipes import Recipe

# A network that is mostly FP32 gains nothing from the rest.
_MOST_KEPT = 0.75
# Layers that are named where the budget does not hold.
_NAMED = 5


@dataclass(frozen=True)
class Found:
    """A variant that holds the budget.

    Attributes:
        content: The ONNX file.
        kept: Names of the layers left in FP32.
        score: How it did.
    """

    content: bytes
    kept: tuple[str, ...]
    score: Score


@dataclass(frozen=True)
class NotFound:
    """No variant holds the budget; ``reason`` says by how much, and which layers cost most."""

    reason: str


def search(
    recipe: Recipe, rehearsal: Rehearsal, max_drop: float, progress: Callable[[str], None] = lambda _: None
) -> Found | NotFound:
    """Lower all layers; where that costs too much, put the costliest ones back until the budget holds.

    The number to put back is doubled until it does, and then halved in between: some ten variants are tried, not one
    a layer.

    Args:
        recipe: The way to fewer bits.
        rehearsal: The evaluation set, with FP32's score.
        max_drop: Points of the metric that may be lost.
        progress: Called with a line a variant.
    """
    total = len(recipe.layers)

    def attempt(kept: tuple[str, ...]) -> Found:
        content = recipe.make(kept)
        try:
            with recipe.open(content, kept) as engine:
                score = rehearsal.score(engine)
        except EngineError as error:
            if "NaN" not in str(error):
                raise
            score = Score(0.0, 0.0)
        progress(
            f"{recipe.name}: {total - len(kept)} of {total} layers lowered: {rehearsal.data.metric} {score.value:.2f} "
            f"({rehearsal.baseline.value:.2f} in FP32)"
        )
        return Found(content, kept, score)

    def holds(found: Found) -> bool:
        # A rounding error of the sum is no loss.
        return rehearsal.baseline.value - found.score.value <= max_drop + 1e-9

    first = attempt(())
    if holds(first):
        return first
    costs = recipe.costs()
    order = list(costs)
    failing, number = 0, 1
    best: Found | None = None
    while number <= total * _MOST_KEPT:
        tried = attempt(tuple(order[:number]))
        if holds(tried):
            best = tried
            break
        failing, number = number, number * 2
    if best is None:
        lost = rehearsal.baseline.value - first.score.value
        worst = ", ".join(f"{name} ({cost:.2g})" for name, cost in list(costs.items())[:_NAMED])
        return NotFound(
            f"it loses {lost:.2f} points of {rehearsal.data.metric} with every layer lowered, {max_drop:g} are "
            f"allowed, and {failing} of {total} layers left in FP32 do not bring it back; the costliest layers (noise "
            f"over signal): {worst}"
        )
    passing = number
    while passing - failing > max(1, passing // 8):
        middle = (passing + failing) // 2
        tried = attempt(tuple(order[:middle]))
        if holds(tried):
            best, passing = tried, middle
        else:
            failing = middle
    return best
