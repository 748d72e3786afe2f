"""Make an artefact of a fitted head that records what it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgebone.core.bundle import Bundle
from edgebone.core.head_file import SCHEMA, Backbone, HeadFile, HeadManifest, head_bytes, parse_head
from edgebone.core.manifest import Head, Tap
from edgebone.core.version import created_at, created_by
from edgebone.engines.spec import Candidate
from edgebone_export.heads.features.fitted import FittedHead
from edgebone_export.heads.features.readings import Reading, with_pooling


def make_artefact(
    name: str,
    fitted: FittedHead,
    bundle: Bundle,
    taps: Mapping[str, Tap],
    reads: Sequence[Reading] | Sequence[str],
    candidate: Candidate,
) -> HeadFile:
    """Tie a head to the backbone that it was fitted on.

    Args:
        name: Name of the head.
        fitted: The fitted head.
        bundle: Bundle of the backbone.
        taps: Taps of the backbone.
        reads: Readings that make ``vector``; or the taps that the head reads directly.
        candidate: The variant, engine and precision that computed the features.
    """
    manifest = bundle.manifest
    readings = [item for item in reads if isinstance(item, Reading)]
    names = dict.fromkeys(item.tap if isinstance(item, Reading) else item for item in reads)
    graph = with_pooling(fitted.graph, readings, taps) if readings else fitted.graph
    head = Head(fitted.decoder, tuple(spec.name for spec in fitted.outputs), tuple(fitted.labels), dict(fitted.params))
    made = HeadManifest(
        schema=SCHEMA,
        name=name,
        created_by=created_by(),
        created_at=created_at(),
        head=head,
        outputs=fitted.outputs,
        reads={tap: taps[tap] for tap in names},
        backbone=Backbone(
            manifest.model.name,
            manifest.model.weights.name,
            manifest.preprocess,
            candidate.variant,
            f"{candidate.engine} {candidate.precision}",
        ),
        report=dict(fitted.report),
        sha256="",
    )
    return parse_head(head_bytes(made, graph), f"head {name}")
