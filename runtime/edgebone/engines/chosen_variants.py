"""Which variants are compiled."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.errors import EngineError
from edgebone.core.manifest import Manifest
from edgebone.core.near import did_you_mean


def chosen_variants(manifest: Manifest, names: Sequence[str], where: str) -> list[str]:
    """The named variants and frame variants once each, or all of them where none is named.

    Raises:
        EngineError: There is no such variant.
    """
    known = [*manifest.variants, *manifest.frame_variants]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise EngineError(
            f"{where}: there is no variant {unknown[0]}; {did_you_mean(unknown[0], known)}there are {', '.join(known)}"
        )
    return list(dict.fromkeys(names or known))
