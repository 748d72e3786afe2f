"""The row of the kind. It is read for every help of ``edgebone fit``: nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgebone_export.heads.kinds import HeadKind, HeadSettings, Option


@dataclass(frozen=True)
class NearestMeanSettings(HeadSettings):
    """The settings of the kind: an option of the command line each, where something is said of them."""

    sharpness: Annotated[int | None, Option("How sure the nearest class is: 1 is the least.", least=1)] = None


KIND = HeadKind(
    name="nearest-mean",
    task="classification",
    head="classification",
    fitted_on="vectors",
    settings=NearestMeanSettings,
    data="edgebone_export.heads.data.sets:classes",
    fit="edgebone_nearest_mean.fit:fit_nearest_mean",
    lines="edgebone_nearest_mean.fit:lines",
    vector_alone=True,
)
