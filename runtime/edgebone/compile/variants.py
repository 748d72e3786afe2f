"""Which variants are compiled."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.errors import EngineError
from edgebone.core.manifest import Manifest


def chosen_variants(manifest: Manifest, names: Sequence[str], where: str) -> list[str]:
    """The named variants once each, or all of them where none is named.

    Raises:
        EngineError: There is no such variant.
    """
    unknown = [name for name in names if name not in manifest.variants]
    if unknown:
        raise EngineError(f"{where}: there is no variant {unknown[0]}, only {', '.join(manifest.variants)}")
    return list(dict.fromkeys(names or manifest.variants))
