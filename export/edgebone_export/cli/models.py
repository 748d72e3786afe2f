"""``edgebone models``: what can be exported by name."""

from __future__ import annotations

from typing import Annotated

import typer

from edgebone.cli.output import say


def models(
    pattern: Annotated[str, typer.Argument(help="Shell wildcards, or a part of the name.")] = "*",
) -> None:
    """List torchvision's and, where installed, timm's models and transformers' families (hf:)."""
    from edgebone_export.need_packages import need_torch

    need_torch()
    from edgebone_export.models.registry import list_models, unknown

    names = list_models(pattern)
    if not names:
        raise unknown(pattern)
    for name in names:
        say(name)
