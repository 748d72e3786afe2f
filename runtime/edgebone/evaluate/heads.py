"""Which head of a bundle is evaluated."""

from __future__ import annotations

from edgebone.core.errors import BundleError
from edgebone.core.manifest import Head
from edgebone.core.near import did_you_mean
from edgebone.decode import is_detector

_METRICS = {"classification": "top-1 and top-5", "detection": "COCO's mAP", "segmentation": "mIoU"}


def choose_head(heads: dict[str, Head], name: str | None = None) -> tuple[str, str, Head]:
    """The head to evaluate, and its kind.

    Args:
        heads: The bundle's heads.
        name: The one that the user wants; None takes the only one that can be evaluated.

    Returns:
        Its kind (``classification``, ``detection`` or ``segmentation``), its name, and the head.

    Raises:
        BundleError: There is no such head, none that can be evaluated, or several.
    """
    kinds = evaluable_heads(heads)
    known = ", ".join(f"{key}: {head.decoder}" for key, head in heads.items())
    if name is not None and name not in kinds:
        hint = did_you_mean(name, kinds)
        raise BundleError(f"there is no head {name} that can be evaluated; {hint}the bundle has {known}")
    if name is None and len(kinds) != 1:
        metrics = ", ".join(f"{kind} by {metric}" for kind, metric in _METRICS.items())
        advice = "choose one with --head" if kinds else f"what can be: {metrics}"
        raise BundleError(f"{len(kinds)} heads of this bundle can be evaluated ({known}); {advice}")
    chosen = name or next(iter(kinds))
    return kinds[chosen], chosen, heads[chosen]


def evaluable_heads(heads: dict[str, Head]) -> dict[str, str]:
    """The kind of each head that can be evaluated, by its name."""
    return {name: kind for name, head in heads.items() if (kind := _kind(name, head))}


def _kind(name: str, head: Head) -> str | None:
    if is_detector(name, head):
        return "detection"
    kind = head.decoder.partition("@")[0]
    return kind if kind in _METRICS else None
