"""Fit an anomaly head: a memory of patches of normal pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import FittedHead, OnMaps
from edgebone_export.heads.kinds import AnomalySettings
from edgebone_export.heads.maps.anomaly_net import NearestNormal, Patches
from edgebone_export.heads.maps.feature_maps import (
    Maps,
    channel_statistics,
    check_maps,
    check_same_taps,
    finest_first,
    read,
)
from edgebone_export.heads.maps.graph import run, write_graph
from edgebone_export.heads.maps.training import numbers_of
from edgebone_export.heads.report import Report, number_text, share_text
from edgebone_export.heads.vectors.metrics import auroc, share

_OUTPUTS = ("score", "anomaly_map")
_LEAST_PICTURES = 5
# Number of parts that the normal pictures are split into for the threshold.
_PARTS = 5
_BATCH = 8
# Number of patches that the memory is chosen from; more take longer and add little.
_CANDIDATES = 30_000
_Vectors = NDArray[np.float32]


def fit_anomaly(
    train_maps: Maps,
    *,
    held_out_normal: Maps,
    held_out_anomalous: Maps | None = None,
    picture: NDArray[np.int64] | None = None,
    coreset: int = 1000,
    dimensions: int = 128,
    false_alarm_rate: float = 0.01,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Memorise patches of normal pictures; patches far from all of them are anomalies.

    Source: PatchCore (Roth et al. 2022, https://arxiv.org/abs/2106.08265), whose score is the weighted distance of one
    patch; here it is the mean over the farthest patches. The threshold comes from the training pictures, each scored by
    a memory of the others (in five parts); the held-out ones are only measured on.

    Args:
        train_maps: Maps of normal pictures by tap; the head reads all of them. Only one batch is read at a time, so
            ``np.memmap`` works.
        held_out_normal: Maps of other normal pictures at the same taps, to measure on.
        held_out_anomalous: Maps of anomalous pictures at the same taps, to measure on; None if there are none.
        picture: (n,): the picture that each training row is a view of; None if each row is a picture of its own.
        coreset: Largest number of patches to memorise; the head's run time grows with it.
        dimensions: Largest length of a patch's vector.
        false_alarm_rate: Accepted share of normal pictures that raise an alarm, between 0 and 1.
        seed: The same seed produces the same head.
        progress: Called with one line per step.

    Returns:
        A head that returns scores, float32 (batch,), and distances, float32 (batch, height, width), for ``anomaly@1``.

    Raises:
        ExportError: Maps do not match, there are too few normal pictures, or a setting is not valid.
    """
    started = time.monotonic()
    if coreset < 1 or dimensions < 1 or not 0 < false_alarm_rate < 1:
        raise ExportError(
            f"an anomaly head needs 1 patch or more, 1 dimension or more, and a false alarm rate between 0 and 1, "
            f"found {coreset}, {dimensions} and {false_alarm_rate:g}"
        )
    others = {"held-out normal pictures": held_out_normal}
    if held_out_anomalous is not None:
        others["anomalous pictures"] = held_out_anomalous
    counts = {what: check_maps(maps, what) for what, maps in {"normal pictures": train_maps, **others}.items()}
    for what, maps in others.items():
        check_same_taps(maps, train_maps, what)
    numbers = numbers_of(picture, counts["normal pictures"])
    pictures = len(np.unique(numbers))
    if pictures < _LEAST_PICTURES:
        raise ExportError(f"an anomaly head needs {_LEAST_PICTURES} normal pictures, better 50; found {pictures}")
    patches = Patches(channel_statistics(train_maps, seed), dimensions, seed)
    vectors, owner = _sampled(patches, train_maps, numbers, seed)
    finest = train_maps[finest_first(train_maps)[0]]
    cells = int(finest.shape[2] * finest.shape[3])

    def remember(known: NDArray[np.bool_]) -> NearestNormal:
        return NearestNormal(patches, greedy_coreset(vectors[known], coreset, seed), cells)

    progress(f"choosing {min(coreset, len(vectors))} of {len(vectors)} patches of {pictures} pictures")
    net = remember(np.ones(len(vectors), np.bool_))
    progress("scores of normal pictures, each by a memory of others")
    parts = np.array_split(np.random.default_rng(seed).permutation(np.unique(numbers)), _PARTS)
    # Only the first view, the picture itself: a mirror image adds nothing.
    own_rows = np.unique(numbers, return_index=True)[1]
    known_normal = np.concatenate(
        [
            _scores(remember(~np.isin(owner, part)), train_maps, own_rows[np.isin(numbers[own_rows], part)])
            for part in parts
        ]
    )
    threshold, chosen_by = threshold_of(known_normal, false_alarm_rate)
    progress("scores of held-out pictures")
    normal = _scores(net, held_out_normal)
    graph = write_graph(net, {tap: np.asarray(array[:3]) for tap, array in held_out_normal.items()}, _OUTPUTS)
    report: dict[str, Any] = {
        "task": "anomaly",
        "kind": "patchcore",
        "taps": list(finest_first(train_maps)),
        "train": {"pictures": pictures},
        "patches": int(net.memory.out_channels),
        "dimensions": int(vectors.shape[1]),
        "threshold": threshold,
        "threshold_by": chosen_by,
        "false_alarm_rate": false_alarm_rate,
        "held_out": {
            "normal": {"pictures": len(normal), "false_alarms": share(normal > threshold), **_spread(normal)},
            "anomalous": None,
        },
        "seed": seed,
    }
    if held_out_anomalous is not None:
        odd = _scores(net, held_out_anomalous)
        truth = np.arange(len(normal) + len(odd)) >= len(normal)
        report["held_out"]["anomalous"] = {
            "pictures": len(odd),
            "found": share(odd > threshold),
            "auroc": auroc(truth, np.concatenate([normal, odd])),
            **_spread(odd),
        }
    report["seconds"] = round(time.monotonic() - started, 2)
    return FittedHead(graph.content, graph.outputs, "anomaly@1", (), {"threshold": threshold}, report)


def _spread(scores: NDArray[np.float64]) -> dict[str, float]:
    """Return the scores' quartiles."""
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    return dict(zip(names, np.quantile(scores, (0, 0.25, 0.5, 0.75, 1)).round(6).tolist(), strict=True))


def _sampled(patches: Patches, maps: Maps, picture: NDArray[np.int64], seed: int) -> tuple[_Vectors, NDArray[np.int64]]:
    """Return vectors of patches, the same number per row: (m, dimensions), and the picture of each: (m,)."""
    rows = len(next(iter(maps.values())))
    each = max(1, _CANDIDATES // rows)
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, rows, _BATCH):
        (vectors,) = run(patches, read(maps, range(start, min(start + _BATCH, rows))))
        cells = vectors.flatten(2).numpy()
        found += [picture[:, rng.permutation(picture.shape[1])[:each]].T for picture in cells]
    whole = np.concatenate(found)
    if not np.isfinite(whole).all():
        raise ExportError("the normal pictures' maps contain NaN or infinity; check the backbone's output")
    return np.ascontiguousarray(whole), np.repeat(picture, [len(item) for item in found])


def greedy_coreset(vectors: _Vectors, size: int, seed: int) -> _Vectors:
    """Choose vectors that cover all others, always the farthest one next (Sener, Savarese 2018).

    Args:
        vectors: (n, d).
        size: Number of vectors to choose; all if there are no more.
        seed: Seed of the first vector.

    Returns:
        (size, d); fewer if all others are duplicates.
    """
    if len(vectors) <= size:
        return vectors
    squares = (vectors**2).sum(axis=1)
    chosen = [int(np.random.default_rng(seed).integers(len(vectors)))]
    away = np.full(len(vectors), np.inf, np.float32)
    while True:
        last = vectors[chosen[-1]]
        np.minimum(away, squares - 2 * (vectors @ last) + squares[chosen[-1]], out=away)
        farthest = int(away.argmax())
        if len(chosen) == size or away[farthest] <= 0:
            return vectors[chosen]
        chosen.append(farthest)


def _scores(net: nn.Module, maps: Maps, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the score of each picture, or of some rows."""
    wanted = np.arange(len(next(iter(maps.values())))) if rows is None else rows
    parts = [run(net, read(maps, wanted[start : start + _BATCH]))[0] for start in range(0, len(wanted), _BATCH)]
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def threshold_of(normal: NDArray[np.float64], false_alarm_rate: float) -> tuple[float, str]:
    """Return the score that a given share of normal pictures exceeds, estimated from a sample.

    With enough pictures it is the score that a new one exceeds with at most that probability, whatever the scores'
    distribution (split conformal, Vovk et al. 2005). Fewer cannot show so small a rate: then the logarithms are assumed
    to be normally distributed, and no picture of the sample may raise an alarm.

    Args:
        normal: Scores of normal pictures, above 0.
        false_alarm_rate: Share of alarms, between 0 and 1.

    Returns:
        The threshold, and how it was found, in words.
    """
    rank = math.ceil((len(normal) + 1) * (1 - false_alarm_rate))
    if rank <= len(normal):
        return round(float(np.sort(normal)[rank - 1]), 6), f"score {rank} of {len(normal)} in ascending order"
    logs = np.log(normal)
    tail = NormalDist(float(logs.mean()), float(logs.std(ddof=1)) + 1e-9).inv_cdf(1 - false_alarm_rate)
    needed = math.ceil(1 / false_alarm_rate) - 1
    found = max(math.exp(tail), float(normal.max()))
    return round(
        found, 6
    ), f"the tail of a log-normal distribution: {needed} pictures would show it, {len(normal)} cannot"


def fit_from_settings(given: OnMaps, settings: AnomalySettings) -> FittedHead:
    """See :func:`fit_anomaly`."""
    return fit_anomaly(
        given.train.maps, held_out_normal=given.held_out.maps, held_out_anomalous=given.odd,
        picture=given.train.picture, **settings.said("anomalous"), seed=given.seed, progress=given.progress,
    )  # fmt: skip


def lines(report: Report) -> list[str]:
    """Return the report of an anomaly head as text lines."""
    normal, odd = report["held_out"]["normal"], report["held_out"]["anomalous"]
    lines = [
        f"anomaly, {report['kind']}: {report['patches']} patches of {report['train']['pictures']} normal pictures, "
        f"{report['seconds']:.1f} s",
        f"threshold {number_text(report['threshold'])}: {report['threshold_by']}",
        f"held out: {share_text(normal['false_alarms'])} of normal pictures raise an alarm",
    ]
    if odd is not None:
        lines.append(f"anomalous pictures: {share_text(odd['found'])} found, AUROC {number_text(odd['auroc'])}")
    return lines
