"""Reports unreadable inputs at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.errors import SourceError
from edgebone.sources.picture_files import PictureFiles
from edgebone.sources.protocol import Source
from edgebone.stream.stats import StreamStats


def check_all_read(sources: Sequence[Source], stats: StreamStats, forgiving: bool) -> None:
    """Raise an error at the end of a run if inputs could not be read.

    Args:
        sources: The run's sources.
        stats: Their figures.
        forgiving: Whether unreadable inputs are tolerated as long as something was read.

    Raises:
        SourceError: Pictures were left out; if forgiving, all sources failed.
    """
    if forgiving:
        errors = [source.error for source in stats.sources if source.error]
        if len(errors) == len(sources):
            raise SourceError(errors[0] if len(errors) == 1 else f"none of the {len(errors)} sources could be read")
        return
    pictures = [seen for source, seen in zip(sources, stats.sources, strict=True) if isinstance(source, PictureFiles)]
    damaged = sum(seen.damaged for seen in pictures)
    if damaged:
        those = "1 picture" if damaged == 1 else f"{damaged} pictures"
        raise SourceError(f"{those} could not be read and were left out; the others are done")
