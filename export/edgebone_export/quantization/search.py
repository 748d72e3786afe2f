"""Search for the variant with the fewest FP32 layers that meets the accuracy budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgebone.core.errors import EngineError
from edgebone.evaluate.rehearsal import Rehearsal, Score
from edgebone_export.quantization.recipes import Recipe

# A network that is mostly FP32 gains nothing from lowering the rest.
_MOST_KEPT = 0.75
# Number of layers named in the message if the budget is not met.
_NAMED = 5


@dataclass(frozen=True)
class Found:
    """A variant that meets the budget.

    Attributes:
        content: The ONNX file.
        kept: Names of the layers left in FP32.
        score: Its score.
    """

    content: bytes
    kept: tuple[str, ...]
    score: Score


@dataclass(frozen=True)
class NotFound:
    """No variant meets the budget; ``reason`` has the loss and the costliest layers."""

    reason: str


def search(
    recipe: Recipe, rehearsal: Rehearsal, max_drop: float, progress: Callable[[str], None] = lambda _: None
) -> Found | NotFound:
    """Lower all layers; if that loses too much, restore the costliest ones to FP32 until the budget is met.

    The number restored is doubled until the budget is met, then bisected: about ten variants are tried instead of one
    per layer.

    Args:
        recipe: The quantization recipe.
        rehearsal: The evaluation set, with FP32's score.
        max_drop: Largest loss of the metric, in points.
        progress: Called with one line per variant.
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
        # A rounding error of the sum does not count as a loss.
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
            f"it loses {lost:.2f} points of {rehearsal.data.metric} with every layer lowered, but the budget is "
            f"{max_drop:g}, and leaving {failing} of {total} layers in FP32 does not recover it; the costliest layers "
            f"(noise over signal): {worst}"
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
