"""``edgebone models``: what can be exported by name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def models(
    pattern: Annotated[str, typer.Argument(help="Shell wildcards, or a part of the name.")] = "*",
) -> None:
    """List torchvision's and, where installed, timm's models."""
    from edgebone_export.need_packages import need_torch

    need_torch()
    from edgebone_export.backbones import list_models, unknown

    names = list_models(pattern)
    if not names:
        raise unknown(pattern)
    sys.stdout.write("".join(f"{name}\n" for name in names))
