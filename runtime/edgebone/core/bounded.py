"""Types of a manifest's values: numbers in a plausible range, and names short enough to show."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edgebone.core import limits

Name = Annotated[str, Meta(max_length=limits.NAME_LENGTH)]
Names = Annotated[tuple[Name, ...], Meta(max_length=limits.NAMES)]
Labels = Annotated[tuple[Name, ...], Meta(max_length=limits.LABELS)]
Path = Annotated[str, Meta(max_length=limits.PATH_LENGTH)]

# JSON has no infinity, but it has numbers whose sum overflows to infinity.
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
NotNegative = Annotated[float, Meta(ge=0, le=1e300)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]

Side = Annotated[int, Meta(ge=1, le=limits.NETWORK_SIDE)]
Stride = Annotated[int, Meta(ge=1, le=limits.NETWORK_SIDE)]
Batch = Annotated[int, Meta(ge=1, le=limits.BATCH)]
Threads = Annotated[int, Meta(ge=1, le=limits.THREADS)]
Most = Annotated[int, Meta(ge=1, le=limits.RESULTS)]
Size = Annotated[int, Meta(ge=1, le=limits.AXIS)]
