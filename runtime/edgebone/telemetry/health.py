"""Checks a stream's health for ``/healthz``."""

from __future__ import annotations

from edgebone.stream.stats import StreamStats

STALLED_S = 10.0
"""The time on one run or one result after which a stream is stalled."""


def what_is_wrong(stats: StreamStats) -> list[str]:
    """Return the reasons why a stream is unhealthy, as lines; empty if it is healthy.

    A stream is healthy if at least one source delivers frames or has ended, and if the engine and the consumer of the
    results have each finished their current item within :data:`STALLED_S`. A source that is still connecting does not
    deliver frames yet. Names of sources contain no credentials.
    """
    wrong = []
    if stats.infer_now_s > STALLED_S:
        wrong.append(f"the engine has not answered for {stats.infer_now_s:.0f} s")
    if stats.sink_now_s > STALLED_S:
        wrong.append(f"the consumer has been busy with one result for {stats.sink_now_s:.0f} s")
    well = [
        source for source in stats.sources if source.state == "LIVE" or (source.state, source.error) == ("ENDED", "")
    ]
    if stats.sources and not well:
        wrong += [
            f"{source.name}: {source.state.lower()}{f': {source.error}' if source.error else ''}"
            for source in stats.sources
        ]
    return wrong
