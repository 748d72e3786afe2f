"""``edgebone fit``: from labelled pictures to a bundle with a head, by the command that users type."""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import msgspec
import numpy as np
import pytest
import typer

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, EdgeboneError
from edgebone.core.head_file import read_head
from edgebone.core.machine import Machine
from edgebone.core.manifest import Plan
from edgebone.engines.spec import Candidate
from edgebone_export.cli.head_options import own_parameters, own_settings
from edgebone_export.errors import ExportError
from edgebone_export.heads import kinds
from edgebone_export.heads.attach.attach import attach, detach
from edgebone_export.heads.features.features import pick
from edgebone_export.heads.features.fitted import FittedHead, OnVectors
from edgebone_export.heads.fit.fit import fit
from edgebone_export.heads.fit.report_text import report_text
from edgebone_export.heads.fit.work import Settings
from edgebone_export.heads.kinds import HeadSettings, Option, find_kind, names_of
from edgebone_export.heads.vectors.classifier import fit_classifier
from support.networks import classifier, write_network
from support.pictures import TINTS, tinted, write_folder
from support.program import edgebone as program

# No test finds what another one kept.
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("fit") / "net.bundle", classifier(batch="batch"), (1, 4))


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *rows])
    return path


def refused(*arguments: object) -> str:
    """What the program says in its one line, when it does not do it."""
    done = program("fit", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("edgebone: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.slow
def test_a_folder_of_classes_becomes_a_bundle_that_tells_them(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data")
    (data / "red" / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "tints.bundle"
    done = program("fit", bundle, "--data", data, "-o", out, "--kind", "linear", "--views", 2)
    assert done.returncode == 0, done.stderr
    assert "held out: accuracy" in done.stdout
    assert ", n 6)" in done.stdout
    assert "cross-validation: accuracy" in done.stdout
    assert "1 pictures cannot be read" in done.stderr
    assert "broken.jpg" in done.stderr
    with edgebone.load(out) as model:
        for name, bgr in TINTS.items():
            assert model(tinted(bgr, 77)).label == name
    with open_bundle(out) as opened:
        assert tuple(opened.manifest.heads) == ("classification",)
        assert opened.manifest.heads["classification"].labels == tuple(TINTS)

    again = program("fit", bundle, "--data", data, "-o", out, "--views", 2, "--json", "--force")
    shown = json.loads(again.stdout)
    assert shown["pictures_from_cache"] == shown["pictures"] - len(shown["unreadable"]) == 36
    assert shown["report"]["held_out"]["accuracy"]["n"] == 6
    refusal = refused(bundle, "--data", data, "-o", out)
    assert "exists" in refusal
    assert "--force" in refusal


@pytest.mark.slow
def test_leaks_are_listed_and_not_counted_and_the_old_heads_stay_if_asked(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data")
    val = write_folder(tmp_path / "val", 4, seed=500)
    shutil.copy(data / "red" / "3.png", val / "red" / "copied.png")
    out = tmp_path / "two.bundle"
    done = program(
        "fit", bundle, "--data", data, "--val", val, "--head", "tint", "--keep", "--detached", "--no-cache",
        "--kind", "prototype", "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 held-out pictures are among those to fit on" in done.stderr
    assert "copied.png" in done.stderr
    assert ", n 12)" in done.stdout
    assert not (tmp_path / "cache" / "edgebone" / "features").exists()
    with open_bundle(out) as opened:
        assert set(opened.manifest.heads) == {"classification", "tint"}
        assert opened.manifest.heads["tint"].detached
    detach(out, ["tint"], tmp_path / "one.bundle", save=tmp_path)
    assert read_head(tmp_path / "tint.head").manifest.head.labels == tuple(TINTS)


@pytest.mark.slow
def test_two_classes_get_an_operating_point_and_a_band_where_nothing_is_said(bundle: Path, tmp_path: Path) -> None:
    near = {"benign": (100, 130, 120), "malignant": (104, 124, 132)}
    data = write_folder(tmp_path / "data", 30, near)
    head = tmp_path / "lesion.head"
    done = program(
        "fit", bundle, "--data", data, "--kind", "logistic", "--positive", "malignant", "--sensitivity", 0.95,
        "--abstain", "0.4,0.99", "--head", "lesion", "-o", head,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "decided as malignant from" in done.stdout
    assert "sensitivity" in done.stdout
    made = read_head(head).manifest
    assert made.name == "lesion"
    assert made.head.params["positive"] == "malignant"
    assert made.head.params["abstain"] == [0.4, 0.99]


@pytest.mark.slow
def test_several_labels_numbers_and_vectors_come_from_the_same_command(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data")
    pictures = sorted(data.rglob("*.png"))
    names = [(path.relative_to(tmp_path), path.parent.name) for path in pictures]
    tags = {"blue": "blue|cold", "green": "", "red": "warm"}
    several = write_csv(tmp_path / "labels.csv", ("file", "labels"), [(path, tags[name]) for path, name in names])
    light = {"blue": 1.0, "green": 2.0, "red": 3.0}
    numbers = write_csv(
        tmp_path / "numbers.csv", ("file", "wave", "note"), [(path, light[name], "x") for path, name in names]
    )
    out = tmp_path / "all.bundle"
    done = program("fit", bundle, "--data", several, "--kind", "multilabel", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "mAP" in done.stdout
    more = tmp_path / "more.bundle"
    done = program("fit", out, "--data", numbers, "--kind", "regression", "--columns", "wave", "--keep", "-o", more)
    assert done.returncode == 0, done.stderr
    assert "wave: R²" in done.stdout
    most = tmp_path / "most.bundle"
    done = program("fit", more, "--data", data, "--kind", "embedding", "--dimension", 8, "--keep", "-o", most)
    assert done.returncode == 0, done.stderr
    with edgebone.load(most) as model:
        found = model(tinted(TINTS["blue"], 77))
    assert set(found["labels"].labels) == {"blue", "cold"}
    assert found["values"].values[0] == pytest.approx(1.0, abs=0.4)
    assert found["embedding"].vector.shape[0] <= 8


def test_a_class_with_one_picture_is_learned_from_and_reported(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 6)
    for path in sorted((data / "green").iterdir())[1:]:
        path.unlink()
    done = program("fit", bundle, "--data", data, "-o", tmp_path / "out.bundle")
    assert done.returncode == 0, done.stderr
    assert "not tested, since it needs a second picture: green" in done.stdout


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("case", "case"),
        ("empty", "expected a folder of pictures per class"),
        ("one class", "all pictures have one class"),
        ("nothing readable", "none of"),
        ("nowhere", "nowhere"),
        ("loose", "1 pictures lie beside the class folders, such as loose.png"),
    ],
)
def test_data_that_cannot_be_fitted_on_is_refused(bundle: Path, tmp_path: Path, what: str, said: str) -> None:
    data = tmp_path / "data"
    if what == "case":
        write_folder(data, 2, {"Red": TINTS["red"], "red": TINTS["red"]})
    elif what == "one class":
        write_folder(data, 6, {"red": TINTS["red"]})
    elif what == "nothing readable":
        for name in "ab":
            (data / name).mkdir(parents=True)
            (data / name / "x.jpg").write_bytes(b"no")
    elif what == "empty":
        (data / ".thumbnails").mkdir(parents=True)
        cv2.imwrite(str(data / ".thumbnails" / "0.png"), tinted((1, 2, 3), 0))
    elif what == "loose":
        cv2.imwrite(str(write_folder(data, 3) / "loose.png"), tinted((1, 2, 3), 0))
    else:
        data = tmp_path / "nowhere"
    out = tmp_path / "out.bundle"
    with pytest.raises(EdgeboneError) as refusal:
        fit(bundle, data, out)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "forest"), "there is no kind 'forest'; choose linear"),
        (("--positive", "a", "--kind", "regression"), "--positive is for"),
        (("--abstain", "0.4"), "--abstain is LOW,HIGH"),
        (
            ("--epochs", "3"),
            "--epochs is for --kind segmentation, detection; it says nothing to linear, which has --positive, "
            "--sensitivity, --abstain, --abstain-below, --decision-accuracy",
        ),
        (("--hidden", "3"), "it says nothing to linear"),
        (("--head", "segmentation"), "--head is the head's name; for a head of the kind segmentation: --kind"),
        (("--images", ".", "--kind", "multilabel"), "which has no options of its own"),
        (("--detached", "-o", "alone.head"), "--keep and --detached are about a bundle"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    bundle: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = program("fit", bundle, "--data", tmp_path, "-o", tmp_path / "out.bundle", *options)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_the_help_has_a_panel_for_the_options_of_each_kind() -> None:
    done = program("fit", "--help")
    panels = [line.rstrip(":") for line in done.stdout.splitlines() if re.match(r"\w.*:$", line)]
    assert panels == [
        "Arguments",
        "Data",
        "Features",
        "Engine",
        "Options of --kind linear, logistic, mlp, prototype",
        "Options of --kind mlp",
        "Options of --kind regression",
        "Options of --kind embedding",
        "Options of --kind segmentation, detection",
        "Options of --kind segmentation",
        "Options of --kind anomaly",
        "Options",
    ]


@dataclass(frozen=True)
class ShrunkSettings(HeadSettings):
    """Of the kind that :func:`fit_shrunk` fits."""

    shrink: Annotated[int | None, Option("How much.", least=1)] = None


def fit_shrunk(given: OnVectors, settings: ShrunkSettings) -> FittedHead:
    found = fit_classifier(given.train, given.held_out, given.names, **settings.said("shrink"), seed=given.seed)
    return replace(found, report={"task": "shrunk", "by": settings.shrink})


def shrunk_lines(report: Mapping[str, Any]) -> list[str]:
    return [f"shrunk by {report['by']}"]


def test_a_further_kind_is_its_own_file_and_a_row(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"fit": "test_fit:fit_shrunk", "lines": "test_fit:shrunk_lines"}
    row = replace(find_kind("linear"), name="shrunk", task="shrunk", head="tint", settings=ShrunkSettings, **places)
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, row))
    data = write_folder(tmp_path / "data", 4)
    settings = Settings("shrunk", options=own_settings("shrunk", {"shrink": 3, "epochs": None}))
    made = fit(bundle, data, tmp_path / "a.head", settings)
    assert made.head.manifest.name == "tint"
    assert report_text(made.head.manifest.report) == ["shrunk by 3"]
    assert own_parameters()[-1].name == "shrink"
    with pytest.raises(typer.BadParameter, match=r"--epochs is for .*; it says nothing to shrunk, which has --shrink$"):
        own_settings("shrunk", {"epochs": 3})


def test_a_setting_that_a_kind_does_not_have_is_refused_before_the_work(bundle: Path, tmp_path: Path) -> None:
    for settings, said in (
        (Settings("mlp", options={"hiden": 3}), "kind mlp have no hiden; did you mean hidden"),
        (Settings(options={"epochs": 3}), "kind linear have no epochs; it has positive, sensitivity"),
        (Settings("forst"), "no kind of head forst; choose linear, logistic"),
    ):
        with pytest.raises(ExportError, match=said):
            fit(bundle, tmp_path, tmp_path / "a.head", settings)


@pytest.mark.parametrize("kind", names_of())
def test_a_kinds_settings_are_those_of_its_function(kind: str) -> None:
    module, _, _ = find_kind(kind).fit.partition(":")
    (taken,) = [
        inspect.signature(function).parameters
        for name, function in vars(importlib.import_module(module)).items()
        if name.startswith("fit_") and name != "fit_from_settings" and function.__module__ == module
    ]
    of_data = {"columns", "labels", "images", "val_images", "anomalous"}
    given = {"kind", "picture", "seed", "progress", "held_out_normal", "held_out_anomalous"}
    own = {item.name for item in fields(find_kind(kind).settings)}
    options = {name for name, item in taken.items() if item.kind is item.KEYWORD_ONLY} - given
    assert own - of_data == options - ({"hidden"} if kind in ("linear", "logistic", "prototype") else set())


def test_a_tap_that_is_not_there_and_a_broken_bundle_are_named(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 4)
    out = tmp_path / "out.bundle"
    assert "the backbone has no features_s64" in refused(bundle, "--data", data, "--read", "features_s64", "-o", out)
    with pytest.raises(BundleError, match="data"):
        fit(data, data, out)


@pytest.mark.slow
def test_a_stream_is_named_by_a_gallery_that_outlives_a_further_head(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 6)
    embed, more, both = tmp_path / "embed.bundle", tmp_path / "tint.head", tmp_path / "both.bundle"
    gallery = tmp_path / "tints.gallery"
    fit(bundle, data, embed, Settings("embedding"), detached=True)
    fit(bundle, data, more, Settings("prototype", name="tint"))
    done = program("gallery", "enrol", gallery, data, "--model", embed)
    assert done.returncode == 0, done.stderr
    attach(embed, [more], both, detached=True)
    for network, every in ((embed, "embedding=2"), (both, "tint=3")):
        done = program("run", network, data / "red", "--gallery", gallery, "--head-every", every, "--json")
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 6
        assert '"red"' in done.stdout.splitlines()[0]
    assert ["tint" in line["heads"] for line in lines] == [True, False, False] * 2
    assert program("run", both, data, "--head-every", "tint").returncode == 2


def scene(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8), (48, 40), interpolation=cv2.INTER_CUBIC)


def write_bursts(folder: Path, scenes: int, shots: int) -> list[Path]:
    """A few shots of each of some scenes: nearly the same picture again and again."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for number in range(scenes):
        picture = scene(rng)
        for shot in range(shots):
            paths.append(folder / f"{number:02}-{shot}.png")
            noisy = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(paths[-1]), noisy)
    return paths


@pytest.mark.parametrize("kind", ["logistic", "multilabel", "regression"])
def test_shots_of_a_scene_are_never_on_both_sides(bundle: Path, tmp_path: Path, kind: Any) -> None:
    shots = write_bursts(tmp_path / "bursts", 24, 5)
    says = np.random.default_rng(1).integers(0, 2, 24)
    column = {"logistic": "label", "multilabel": "labels", "regression": "value"}[kind]
    words = {"logistic": "ab", "multilabel": ("", "tag"), "regression": "01"}[kind]
    rows = [(path, words[says[number // 5]]) for number, path in enumerate(shots)]
    data = write_csv(tmp_path / "data.csv", ("file", column), rows)
    report = fit(bundle, data, tmp_path / "chance.head", Settings(kind)).head.manifest.report
    assert 16 <= report["scenes"] <= 24
    # Whole scenes are held out.
    held_out = report["held_out"]
    assert (held_out["accuracy"]["n"] if kind == "logistic" else held_out["rows"]) % 5 == 0
    # What a scene is called is chance: whoever has not seen it cannot know.
    found = report["cross_validation"]
    if kind == "logistic":
        assert found["accuracy"]["value"] < 0.75
    elif kind == "multilabel":
        assert found["mAP"] < 0.85
    else:
        assert found["values"][0]["r2"] < 0.3


def test_pictures_that_have_nothing_in_common_are_not_held_together(bundle: Path, tmp_path: Path) -> None:
    near = {"benign": (100, 130, 120), "malignant": (106, 122, 140)}
    data, val = write_folder(tmp_path / "data", 40, near), write_folder(tmp_path / "val", 40, near, seed=7000)
    settings = Settings("logistic", val=val, options={"positive": "malignant"})
    report = fit(bundle, data, tmp_path / "out.head", settings).head.manifest.report
    validated, held_out = (report[place]["accuracy"]["value"] for place in ("cross_validation", "held_out"))
    assert held_out > 0.9
    assert validated == pytest.approx(held_out, abs=0.1)


def test_the_same_picture_under_two_labels_is_listed(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 6)
    shutil.copy(data / "red" / "3.png", data / "blue" / "copied.png")
    report = fit(bundle, data, tmp_path / "out.head", Settings("prototype"))
    (pair,) = report.contradictory
    assert "red/3.png" in pair
    assert "blue/copied.png" in pair
    assert report.leaked == ()


def test_an_embedding_is_measured_where_there_are_classes_and_takes_pictures_alone(
    bundle: Path, tmp_path: Path
) -> None:
    data = write_folder(tmp_path / "data", 8)
    report = fit(bundle, data, tmp_path / "a.head", Settings("embedding")).head.manifest.report
    assert report["held_out"]["accuracy"]["value"] > 0.9
    assert report["train"]["pictures"] + report["held_out"]["accuracy"]["n"] == 24
    files = write_csv(tmp_path / "files.csv", ("file",), [(path,) for path in sorted(data.rglob("*.png"))])
    alone = fit(bundle, files, tmp_path / "b.head", Settings("embedding")).head.manifest.report
    assert alone["train"]["pictures"] == 24
    assert alone["held_out"] is None


def test_what_cannot_work_is_said_before_the_work(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 3)
    steps: list[str] = []
    for where, settings, keep, said in (
        ("out.bundle", Settings(), True, "already has a head classification; rename the new one with --head"),
        ("a.head", Settings(variant="int7"), False, "no variant int7; the bundle has fp32"),
        ("data/red/0.png/a.head", Settings(), False, "part of its path is a file"),
    ):
        with pytest.raises(EdgeboneError) as refusal:
            fit(bundle, data, tmp_path / where, settings, keep=keep, progress=steps.append)
        assert said in str(refusal.value)
    assert not steps
    report = fit(bundle, data, tmp_path / "new" / "a.head", Settings("prototype"))
    assert report.path.is_file()


def test_features_are_those_of_the_plan_of_this_machine(bundle: Path, tmp_path: Path) -> None:
    machine = Machine.probe()
    with open_bundle(bundle) as opened:
        assert pick(opened, "auto", None) == Candidate("openvino", "fp32", "fp32")
        plan = Plan(
            str(machine), "latency", "onnxruntime", "fp32", "fp32", "latency", 1, None, 1.0, 1.0, 1.0, 1.0, None, "now"
        )
        planned = msgspec.structs.replace(opened.manifest, plans={machine.key: plan})
        files = {name: opened.read(name) for name in opened.manifest.files}
    write_bundle(tmp_path / "planned.bundle", planned, files)
    with open_bundle(tmp_path / "planned.bundle") as opened:
        assert pick(opened, "auto", None) == Candidate("onnxruntime", "fp32", "fp32")
        assert pick(opened, "openvino", None).engine == "openvino"


def test_features_in_the_cache_that_are_damaged_or_of_another_picture_are_computed_anew(
    bundle: Path, tmp_path: Path
) -> None:
    data, cache = write_folder(tmp_path / "data", 3), tmp_path / "kept"
    fit(bundle, data, tmp_path / "a.head", Settings("prototype"), cache=cache)
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    assert len(files) == 9
    whole = files[0].read_bytes()
    middle = len(whole) // 2
    for planted in (
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        whole[:-1],
        b"",
        files[1].read_bytes(),
    ):
        files[0].write_bytes(planted)
        again = fit(bundle, data, tmp_path / "a.head", Settings("prototype", seed=5), cache=cache, overwrite=True)
        assert again.from_cache == (8, 9)
        assert files[0].read_bytes() == whole
