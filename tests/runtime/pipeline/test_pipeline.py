"""What a run does with frames and results, from Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebone
from edgebone.core.errors import EdgeboneError, OutputError
from edgebone.pipeline import Pipeline, Step, Summary, Tracks
from edgebone.sinks import open_sink
from edgebone.sinks.callback import CallbackSink
from support.pictures import BLUE, GREEN, RED, picture

PICTURES = [picture(color) for color in (RED, GREEN, BLUE)]


class Happened:
    """An event of a step of one's own."""

    def __init__(self, what: str) -> None:
        self.what = what

    def to_dict(self) -> dict[str, Any]:
        return {"event": "seen", "what": self.what}


class Telling(Step):
    """Tells of each frame that is not green, and draws a white square."""

    def look(self, frame: Any, results: Any, model: edgebone.Model) -> tuple[Any, Sequence[Happened]]:
        return results, [] if results.label == "green" else [Happened(results.label)]

    def draw(self, image: np.ndarray, frame: Any) -> np.ndarray:
        image[-10:, -10:] = 255
        return image

    def summary(self) -> list[str]:
        return ["told"]


def test_steps_look_and_draw_and_sinks_get_results_and_events(colors_bundle: Path, tmp_path: Path) -> None:
    with edgebone.load(colors_bundle) as model:
        pipeline = Pipeline(model, [Telling()])
        pipeline.sinks = [
            open_sink(tmp_path / "all.jsonl"),
            open_sink(tmp_path / "all.events.jsonl"),
            open_sink(f"{tmp_path / 'pictures'}/", draw=pipeline.draw),
        ]
        summary = pipeline.run(PICTURES)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [line["classes"][0]["label"] for line in lines] == ["red", "green", "blue"]
    events = [json.loads(line) for line in (tmp_path / "all.events.jsonl").read_text().splitlines()]
    assert events == [{"event": "seen", "what": "red"}, {"event": "seen", "what": "blue"}]
    assert isinstance(summary, Summary)
    assert (summary.stats.frames, list(summary.lines)) == (3, ["told"])
    import cv2

    drawn = [cv2.imread(str(path)) for path in sorted((tmp_path / "pictures").rglob("*.*"))]
    assert len(drawn) == 3
    assert all(image[-10:, -10:].mean() > 240 for image in drawn)


def test_a_model_that_lacks_what_a_step_needs_is_refused_before_anything_runs(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model, pytest.raises(EdgeboneError, match="follows boxes"):
        Pipeline(model, [Tracks()])


def test_a_failure_leaves_nothing_half_written_and_a_limit_ends_in_good_order(
    colors_bundle: Path, tmp_path: Path
) -> None:
    with edgebone.load(colors_bundle) as model:
        video = tmp_path / "a.mp4"
        sinks = [open_sink(video), CallbackSink(lambda frame, _: 1 / 0 if frame.index == 1 else None)]
        with pytest.raises(ZeroDivisionError):
            Pipeline(model, sinks=sinks).run(PICTURES)
        assert list(tmp_path.iterdir()) == []
        assert Pipeline(model, sinks=[open_sink(video)]).run(PICTURES, most_frames=2).stats.frames == 2
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mqtt://broker/seen", "no sink has this scheme"),
        ("seen", "the name fits no kind of output"),
        ("seen.txt", "the name fits no kind of output"),
    ],
)
def test_an_output_that_no_sink_knows_is_refused(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=words):
        open_sink(name if "://" in name else tmp_path / name)
