"""Names of output kinds, without PyTorch, so that a wrong one is rejected at once."""

from __future__ import annotations

from typing import Literal, get_args

from edgebone.core.near import did_you_mean
from edgebone_export.errors import ExportError

OutputKind = Literal["logits", "embedding", "features", "detections", "segmentation", "depth", "raw"]
Kind = Literal["classification", "binary", "multilabel", "regression"]
Decode = Literal["graph", "host"]


def check_kinds(output_kind: str | None, kind: str | None) -> None:
    """Check the names of an output kind and a kind.

    Raises:
        ExportError: One is unknown; the message lists similar names and all.
    """
    for what, word, known in (("output", output_kind, get_args(OutputKind)), ("kind", kind, get_args(Kind))):
        if word is not None and word not in known:
            raise ExportError(f"no {what} {word}; {did_you_mean(word, known)}choose {', '.join(known)}")
