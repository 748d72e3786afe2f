"""Whether a stream does what it is there for: what ``/healthz`` answers."""

from __future__ import annotations

from edgebone.stream.stats import StreamStats

STANDS_S = 10.0
"""After so long with one run, or with one result, a stream stands."""


def what_is_wrong(stats: StreamStats) -> list[str]:
    """Why a stream is not well, in lines; none where it is.

    It is well where at least one of its sources gives frames or has come to its end, the engine has answered within
    :data:`STANDS_S`, and whoever takes the results has taken the next one within it. A source that is still connecting
    gives no frames yet. Names of sources carry no credentials.
    """
    wrong = []
    if stats.infer_now_s > STANDS_S:
        wrong.append(f"the engine has not answered for {stats.infer_now_s:.0f} s")
    if stats.sink_now_s > STANDS_S:
        wrong.append(f"what takes the results has been at one for {stats.sink_now_s:.0f} s")
    well = [
        source for source in stats.sources if source.state == "LIVE" or (source.state, source.error) == ("ENDED", "")
    ]
    if stats.sources and not well:
        wrong += [
            f"{source.name}: {source.state.lower()}{f': {source.error}' if source.error else ''}"
            for source in stats.sources
        ]
    return wrong
