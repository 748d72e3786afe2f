"""Evaluates engines on one evaluation set, one after the other; pictures are read and prepared once."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Accuracy, Head, Manifest
from edgebone.core.results import Result, Results
from edgebone.core.tensors import Array
from edgebone.decode import make_decoders, spec_of
from edgebone.engines.batches import batch_of, runs
from edgebone.engines.protocol import Engine
from edgebone.evaluate.evaluation_set import EvaluationSet, prepared
from edgebone.evaluate.heads import settings_of
from edgebone.preprocess import Pixels

_log = logging.getLogger("edgebone.evaluate")


@dataclass(frozen=True)
class Score:
    """An engine's score.

    Attributes:
        value: The set's metric, 0 to 100.
        agreement: How often its answers equal the baseline's, 0 to 100; the minimum over all heads.
    """

    value: float
    agreement: float


class Rehearsal:
    """An evaluation set with its network inputs and a baseline's answers.

    Args:
        manifest: The bundle's manifest.
        data: The evaluation set.
        baseline: The engine that others are compared with: FP32.

    Attributes:
        data: The evaluation set without unreadable pictures, which are logged.
        inputs: The network inputs: uint8 (n, height, width, 3).
        baseline: The baseline's score.

    Raises:
        SourceError: None of its pictures can be read, or their sizes differ from the labels.
    """

    def __init__(self, manifest: Manifest, data: EvaluationSet, baseline: Engine) -> None:
        self._manifest = manifest
        self._decoders = make_decoders(manifest, **settings_of(manifest.graph_heads))
        spec = manifest.preprocess
        data.check()
        inputs: Pixels = np.zeros((len(data.pictures), *spec.size_hw, 3), np.uint8)
        self._geometries: list[Geometry] = []
        read: list[Path | NDArray[np.uint8]] = []
        with closing(prepared(spec, data.pictures, data.name)) as made:
            for picture, found in zip(data.pictures, made, strict=True):
                if isinstance(found, str):
                    _log.warning("left out: %s", found)
                    continue
                inputs[len(read)], geometry = found
                self._geometries.append(geometry)
                read.append(picture)
        if not read:
            raise SourceError(f"{data.name}: none of its {len(data.pictures)} pictures can be read")
        self.data = dataclasses.replace(data, pictures=tuple(read))
        self.inputs = inputs[: len(read)]
        self._baseline = self._answers(baseline)
        self.baseline = self._score(self._baseline)

    def score(self, engine: Engine) -> Score:
        """Score an engine.

        Raises:
            EngineError: It fails, or returns NaN.
        """
        return self._score(self._answers(engine))

    def accuracy(self, score: Score, engine: str) -> Accuracy:
        """Return a score with the baseline's, for the manifest."""
        return Accuracy(
            metric=self.data.metric,
            value=round(score.value, 3),
            fp32=round(self.baseline.value, 3),
            agreement=round(score.agreement, 3),
            pictures=len(self.data.pictures),
            data=self.data.name,
            engine=engine,
        )

    def _answers(self, engine: Engine) -> list[dict[str, Result]]:
        batch = batch_of(engine)
        found: list[dict[str, Result]] = []
        for outputs in runs(engine, self.inputs, batch):
            geometries = self._geometries[len(found) : len(found) + batch]
            found += [self._decode(outputs, index, geometry) for index, geometry in enumerate(geometries)]
        return found

    def _decode(self, outputs: dict[str, Array], index: int, geometry: Geometry) -> dict[str, Result]:
        return {
            name: decoder([outputs[output][index] for output in self._manifest.heads[name].outputs], geometry)
            for name, decoder in self._decoders.items()
        }

    def _score(self, answers: list[dict[str, Result]]) -> Score:
        pairs = list(zip(answers, self._baseline, strict=True))
        heads = {name: self._manifest.heads[name] for name in self._decoders}
        agreed = 100 * min(
            float(np.mean([agreement(head, a[name], b[name]) for a, b in pairs])) for name, head in heads.items()
        )
        if self.data.count is None:
            return Score(agreed, agreed)
        return Score(self.data.count(_Remembered(self.data, answers)), agreed)


class _Remembered:
    """Recorded answers, for the functions that count over a model."""

    max_batch = 1

    def __init__(self, data: EvaluationSet, answers: list[dict[str, Result]]) -> None:
        # A set may list a picture twice, with the same answer.
        self._answers = {str(picture): answer for picture, answer in zip(data.pictures, answers, strict=True)}

    def __call__(self, picture: list[Any]) -> list[Results]:
        lost = [path for path in picture if str(path) not in self._answers]
        if lost:
            raise SourceError(f"{lost[0]}: it could not be read")
        answers = [self._answers[str(path)] for path in picture]
        return [next(iter(answer.values())) if len(answer) == 1 else {**answer} for answer in answers]


def agreement(head: Head, a: Result, b: Result) -> float:
    """Return how much two answers of a head to one picture agree, 0 to 1; boxes from the head's score threshold up."""
    return spec_of("", head).task.agreement(a, b, head.params)
