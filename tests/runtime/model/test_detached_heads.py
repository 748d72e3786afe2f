"""Heads behind the backbone: each at its own rate, on demand, and swapped while frames go through."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

import edgebone
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.golden import read_golden
from edgebone.core.head_file import HeadFile, head_bytes
from edgebone.core.manifest import Head
from edgebone.engines.on_device import DeviceTensor, keep_for_heads
from edgebone.engines.opening import open_engine
from edgebone.engines.spec import Candidate
from edgebone.model.attached_heads import DetachedHead, DetachedHeads
from edgebone.selftest import replay
from edgebone_export.heads.attach.attach import attach
from support.bundles import contents
from support.camera_servers import wait_for
from support.engines import OnnxRuntimeOnGpu
from support.heads import changed, linear_head, saved
from support.networks import classifier, tinted_picture, write_network
from support.program import edgebone as program
from support.slow_engine import slow_model
from support.sources import Paced, Ticking

PICTURES = [tinted_picture(number) for number in range(12)]
OLD, NEW = ("old a", "old b", "old c"), ("new a", "new b", "new c", "new d")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a free batch. Shared: do not change it."""
    return write_network(tmp_path_factory.mktemp("detached") / "network.bundle", classifier(batch="batch"), (1, 4))


@pytest.fixture(scope="module")
def bundle(network: Path) -> Path:
    """The same with the heads ``slow`` and ``rare`` detached. Shared: do not change it."""
    heads = [linear_head(network, "slow", labels=OLD), linear_head(network, "rare", ["features_s4"], seed=1)]
    return attach(network, heads, network.with_name("detached.bundle"), detached=True).path


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def named(results: Any) -> tuple[str, ...]:
    return tuple(results)


def test_the_manifest_calls_a_detached_head_apart(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        heads = msgspec.to_builtins(opened.manifest.heads)
    assert {name: head.get("apart", False) for name, head in heads.items()} == {
        "classification": False,
        "slow": True,
        "rare": True,
    }


def test_heads_run_at_their_own_rate_and_on_demand(bundle: Path, engine: str, tmp_path: Path) -> None:
    for number, picture in enumerate(PICTURES):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), picture)
    folder = tmp_path
    with edgebone.load(bundle, engine=engine, every={"slow": 3, "rare": 0}) as model:
        for sources in ([folder], [PICTURES], [folder, folder], [PICTURES, PICTURES[:7]]):
            seen = [named(results) for _, results in model.stream(*sources)]
            lengths = [len(source) if isinstance(source, list) else len(PICTURES) for source in sources]
            assert len(seen) == sum(lengths)
            # Each source counts its own frames.
            assert sum("slow" in names for names in seen) == sum((length + 2) // 3 for length in lengths)
            if len(sources) == 1:
                assert [number for number, names in enumerate(seen) if "slow" in names] == [0, 3, 6, 9]
            assert all("rare" not in names and "classification" in names for names in seen)
        # A call runs what has a rate; the others where they are named.
        assert named(model(PICTURES[0])) == ("classification", "slow")
        assert named(model(PICTURES[0], heads=["rare"])) == ("rare",)
        assert named(model(PICTURES[0], heads=["classification"])) == ("classification",)
        several: Any = model(PICTURES[:6], heads=["rare", "slow"])
        assert [named(item) for item in several] == [("slow", "rare")] * 6
        with pytest.raises(BundleError, match="there is no head shelf; the bundle has classification, slow, rare"):
            model(PICTURES[0], heads=["shelf"])


def test_what_a_head_says_does_not_depend_on_its_rate(bundle: Path, engine: str) -> None:
    with edgebone.load(bundle, engine=engine) as model:
        every: list[Any] = [results for _, results in model.stream(PICTURES)]
    with edgebone.load(bundle, engine=engine, every={"slow": 5}) as model:
        some: list[Any] = [results for _, results in model.stream(PICTURES)]
    for number in range(0, len(PICTURES), 5):
        np.testing.assert_allclose(
            some[number]["slow"].probabilities, every[number]["slow"].probabilities, atol=1e-6
        )  # fmt: skip
        assert some[number]["rare"].label == every[number]["rare"].label


def test_a_head_that_is_asked_for_runs_once_on_the_next_frame_of_every_source(bundle: Path, engine: str) -> None:
    with edgebone.load(bundle, engine=engine, every={"slow": 4, "rare": 0}) as model:
        ran: Counter[str] = Counter()
        with model.stream(PICTURES) as stream:
            for number, (_, results) in enumerate(stream):
                ran.update(results.keys())  # type: ignore[union-attr]
                if number in (1, 6):
                    stream.ask("rare")
            with pytest.raises(BundleError, match="there is no head shelf"):
                stream.ask("shelf")
        assert ran == {"classification": 12, "slow": 3, "rare": 2}
        asked: Counter[str] = Counter()
        with model.stream(PICTURES, PICTURES) as stream:
            stream.ask("rare")
            for _, results in stream:
                asked.update(results.keys())  # type: ignore[union-attr]
        assert asked["rare"] == 2
        assert asked["classification"] == 24


def test_a_rate_that_cannot_be_is_refused(bundle: Path) -> None:
    for every, message in (
        ({"shelf": 2}, "there is no head shelf; the bundle has classification, slow, rare"),
        ({"slow": -1}, "every frame .1., on every N-th .2, 3, …. or on demand .0., not -1"),
        ({"classification": 2}, "head classification is part of the network's graph, which always runs whole"),
    ):
        with pytest.raises(BundleError, match=message):
            edgebone.load(bundle, every=every)


def test_a_head_is_swapped_while_frames_go_through_and_none_is_lost(
    bundle: Path, network: Path, engine: str, tmp_path: Path
) -> None:
    new = saved(linear_head(network, "another-name", labels=NEW, seed=5), tmp_path)
    with edgebone.load(bundle, engine=engine) as model:
        before: Any = model(PICTURES)
        labels: list[str] = []
        answers: list[Any] = []
        with model.stream(PICTURES * 10) as stream:
            for number, (_, results) in enumerate(stream):
                answers.append(results)
                labels.append(results["slow"].label)  # type: ignore[index, union-attr]
                if number == 40:
                    model.swap_head("slow", new)
        after: Any = model(PICTURES)
    assert len(labels) == 10 * len(PICTURES)
    point = next(number for number, label in enumerate(labels) if label.startswith("new"))
    assert 40 < point <= 44
    assert all(label.startswith("old") for label in labels[:point])
    assert all(label.startswith("new") for label in labels[point:])
    for number, results in enumerate(answers):
        wanted = (before if number < point else after)[number % len(PICTURES)]
        np.testing.assert_allclose(results["slow"].probabilities, wanted["slow"].probabilities, atol=1e-6)
        np.testing.assert_allclose(results["rare"].probabilities, wanted["rare"].probabilities, atol=1e-6)


def test_swaps_from_another_thread_never_hold_up_or_lose_a_frame(bundle: Path, network: Path, engine: str) -> None:
    heads = [linear_head(network, "slow", labels=OLD), linear_head(network, "slow", labels=NEW, seed=5)]
    failures: list[BaseException] = []
    done = threading.Event()

    def swap_on() -> None:
        try:
            for turn in range(12):
                model.swap_head("slow", heads[(turn + 1) % 2])
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    with edgebone.load(bundle, engine=engine) as model:
        before, after = model(PICTURES[0]), None
        with model.stream(PICTURES * 200) as stream:
            worker = threading.Thread(target=swap_on)
            worker.start()
            frames = 0
            for _, results in stream:
                frames += 1
                assert named(results) == ("classification", "slow", "rare")
                if done.is_set() and frames % len(PICTURES) == 0:
                    break
            worker.join()
            assert stream.stats.frames == frames
            assert stream.stats.dropped == 0
        after = model(PICTURES[0])
    assert failures == []
    assert before["slow"].label in OLD  # type: ignore[index, union-attr]
    # An even number of swaps ends where it began.
    np.testing.assert_array_equal(before["slow"].probabilities, after["slow"].probabilities)  # type: ignore[index, union-attr]


def test_a_head_that_does_not_go_with_the_backbone_is_refused_and_the_old_one_goes_on(
    bundle: Path, network: Path, engine: str, tmp_path: Path
) -> None:
    good = linear_head(network, "slow", labels=NEW)
    foreign = linear_head(write_network(tmp_path / "o", classifier(seed=4, batch="batch"), (1, 4)), "slow")
    flipped = bytearray(head_bytes(good.manifest, good.graph))
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / "flipped.head").write_bytes(flipped)
    other = msgspec.structs.replace(good.manifest.backbone.preprocess, interpolation="nearest")
    backbone = msgspec.structs.replace(good.manifest.backbone, preprocess=other)
    nonsense = HeadFile(good.manifest, b"no graph", "nonsense.head")
    decoder = Head("classification@9", ("scores",), NEW, {})
    undecodable = HeadFile(msgspec.structs.replace(good.manifest, head=decoder), good.graph, "undecodable.head")
    elsewhere = linear_head(network, "slow", ["features_s2"])
    cases: list[tuple[str, str | Path | HeadFile, type[Exception], str]] = [
        ("slow", foreign, BundleError, "it was fitted on another backbone"),
        ("slow", tmp_path / "flipped.head", BundleError, "flipped.head: (not a head|its graph was altered)"),
        ("slow", tmp_path / "no.head", BundleError, "no.head: the head cannot be read"),
        ("slow", changed(good, backbone=backbone), BundleError, "interpolation nearest instead of bilinear"),
        ("slow", nonsense, EngineError, "head slow: "),
        ("slow", undecodable, BundleError, "classification@9"),
        ("slow", elsewhere, BundleError, "head slow reads features_s2, which the backbone's graph does not output"),
        ("shelf", good, BundleError, "there is no head shelf to swap, only slow, rare"),
        (
            "classification",
            good,
            BundleError,
            "to swap a head, attach it with: edgebone attach --detached",
        ),
    ]
    with edgebone.load(bundle, engine=engine) as model:
        before: Any = model(PICTURES[0])
        frames = 0
        for number, (_, results) in enumerate(model.stream(PICTURES)):
            frames += 1
            if number < len(cases):
                name, head, kind, message = cases[number]
                with pytest.raises(kind, match=message):
                    model.swap_head(name, head)
            assert results["slow"].label in OLD  # type: ignore[index, union-attr]
        assert frames == len(PICTURES) > len(cases)
        after: Any = model(PICTURES[0])
    np.testing.assert_array_equal(before["slow"].probabilities, after["slow"].probabilities)


def test_the_golden_sample_tells_a_head_from_another(bundle: Path, network: Path, engine: str, tmp_path: Path) -> None:
    with open_bundle(bundle) as opened:
        assert replay(opened, read_golden(opened), Candidate(engine, "fp32", "fp32")).passed
    manifest, files = contents(bundle)
    other = linear_head(network, "slow", labels=OLD, seed=8)
    files["heads/slow.head"] = head_bytes(other.manifest, other.graph)
    exchanged = write_bundle(tmp_path / "exchanged.bundle", manifest, files)
    with open_bundle(exchanged) as opened:
        found = replay(opened, read_golden(opened), Candidate(engine, "fp32", "fp32"))
    assert not found.passed
    assert "tolerance is" in found.detail


def test_doctor_replays_detached_heads(bundle: Path, network: Path, tmp_path: Path) -> None:
    done = program("doctor", bundle)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    manifest, files = contents(bundle)
    other = linear_head(network, "slow", labels=OLD, seed=8)
    files["heads/slow.head"] = head_bytes(other.manifest, other.graph)
    done = program("doctor", write_bundle(tmp_path / "exchanged.bundle", manifest, files))
    assert done.returncode == 5
    assert "the golden sample does not replay on" in done.stderr
    assert "Traceback" not in done.stderr
    # Without a manifest that says so, the file is not even read.
    (tmp_path / "exchanged.bundle" / "heads" / "slow.head").write_bytes(b"something else")
    done = program("doctor", tmp_path / "exchanged.bundle")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (3, 1), done.stderr


def test_behind_a_gpu_heads_read_what_the_backbone_left_there(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    gpu, copied = OnnxRuntimeOnGpu(), []
    to_device = gpu.OrtValue.ortvalue_from_numpy

    def counted(array: np.ndarray, *where: Any) -> Any:
        copied.append(array.shape)
        return to_device(array, *where)

    gpu.OrtValue.ortvalue_from_numpy = counted
    picture = np.random.default_rng(3).integers(0, 256, (2, 1, 32, 32, 3), np.uint8)
    with open_bundle(bundle) as opened, edgebone.load(bundle, engine="onnxruntime") as plain:
        wanted = [plain.run(plain.prepare([], one), ["slow", "rare"]).heads for one in picture]
        monkeypatch.setitem(sys.modules, "onnxruntime", gpu)
        candidate = Candidate("onnxruntime-cuda", "fp32", "fp32")
        with open_engine(opened, candidate) as engine, DetachedHeads(opened, candidate, {}) as heads:
            keep_for_heads(engine, opened.manifest)
            # Both frames are computed before the heads look at the first: the second must not overwrite it.
            outputs = [engine.run({opened.manifest.input.name: one}) for one in picture]
            ran = [heads.run(own) for own in outputs]
    for found, own in zip(ran, wanted, strict=True):
        for name in ("slow", "rare"):
            for key, value in own[name].outputs.items():
                np.testing.assert_allclose(found[name].outputs[key], value, rtol=1e-5, atol=1e-5)
    assert set(copied) == {picture[0].shape}
    tap = opened.manifest.taps["features_s4"]
    assert isinstance(outputs[0][tap.output], DeviceTensor)
    assert np.asarray(outputs[0][tap.output]).shape == (1, *tap.shape)


def held_up(engine: Any, frames: int) -> None:
    """As a caller that works for as long as the engine takes up so many frames."""
    until = len(engine.batches) + frames
    wait_for(lambda: len(engine.batches) >= until)


def test_a_caller_that_is_slower_than_the_camera_gets_what_it_asks_for(bundle: Path) -> None:
    cameras = [Ticking(f"camera {number}", 500, 10**6) for number in range(2)]
    with slow_model(bundle, 0.001, every={"slow": 3, "rare": 0}) as model, model.stream(*cameras) as stream:
        results = iter(stream)
        next(results)
        for _ in range(4):
            stream.ask("rare")
            answered: Counter[str] = Counter()
            # Two that were on their way when it was asked, and one with the answer, of each camera.
            for _ in range(6):
                held_up(model.engine, 8)
                frame, result = next(results)
                answered.update([frame.source] if "rare" in result else [])
            assert set(answered) == {camera.name for camera in cameras}
        for _ in range(4):
            next(results)
        # Once everybody has it, it is not computed any more.
        held_up(model.engine, 8)
        assert not any("rare" in next(results)[1] for _ in range(10))


def test_a_rare_head_reaches_a_caller_that_is_slower_than_the_camera(bundle: Path) -> None:
    camera = Ticking("camera", 500, 10**6)
    with slow_model(bundle, 0.001, every={"slow": 10, "rare": 0}) as model, model.stream(camera) as stream:
        seen: list[bool] = []
        began = 0
        for frame, result in stream:
            # None was kept back for the head.
            assert frame.index >= began
            seen.append("slow" in result)
            if len(seen) == 20:
                break
            began = camera.read_count
            held_up(model.engine, 12)
    # Its turn came in every one of these pauses. Only a result that is taken right behind it may be without it.
    assert all(any(pair) for pair in itertools.pairwise(seen)), seen


def test_a_caller_that_keeps_up_gets_a_rare_head_as_often_as_it_says(bundle: Path) -> None:
    camera = Paced("camera", 31)
    with edgebone.load(bundle, every={"slow": 5, "rare": 0}) as model, model.stream(camera) as stream:
        seen = []
        for _, result in stream:
            seen.append("slow" in result)
            camera.give()
    assert [number for number, was in enumerate(seen) if was] == [0, 5, 10, 15, 20, 25, 30]


def test_of_a_file_and_a_camera_in_one_stream_each_counts_its_own_frames(bundle: Path, tmp_path: Path) -> None:
    for number, picture in enumerate(PICTURES):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), picture)
    camera = Ticking("camera", 100, 30)
    with edgebone.load(bundle, every={"slow": 3, "rare": 0}) as model, model.stream(tmp_path, camera) as stream:
        stream.ask("rare")
        seen: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
        for frame, results in stream:
            seen[frame.source == "camera"].append(named(results))
    assert [number for number, names in enumerate(seen[False]) if "slow" in names] == [0, 3, 6, 9]
    assert [number for number, names in enumerate(seen[False]) if "rare" in names] == [0]
    assert any("slow" in names for names in seen[True])
    assert any("rare" in names for names in seen[True])


def test_a_closed_model_takes_no_head_and_leaves_no_engine_open(
    bundle: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = linear_head(network, "slow", labels=NEW)
    opened: list[DetachedHead] = []
    then: list[Callable[[], None]] = []
    open_head = DetachedHeads._open

    def noted(self: DetachedHeads, name: str, artefact: HeadFile) -> DetachedHead:
        opened.append(open_head(self, name, artefact))
        for act in then:
            act()
        return opened[-1]

    def open_engines() -> int:
        count = 0
        for head in opened:
            with head.held() as usable:
                count += usable
        return count

    monkeypatch.setattr(DetachedHeads, "_open", noted)
    model = edgebone.load(bundle)
    assert open_engines() == len(opened) == 2
    model.close()
    assert open_engines() == 0
    with pytest.raises(EngineError, match="head slow cannot be swapped: the model is closed; load the bundle again"):
        model.swap_head("slow", new)
    assert open_engines() == 0
    # Closed by another thread while the new head is opened.
    model = edgebone.load(bundle)
    then.append(model.close)
    with pytest.raises(EngineError, match="head slow cannot be swapped: the model is closed"):
        model.swap_head("slow", new)
    assert len(opened) == 5
    assert open_engines() == 0


def test_a_tap_that_the_network_does_not_give_is_refused_by_name(bundle: Path, engine: str, tmp_path: Path) -> None:
    manifest, files = contents(bundle)
    taps = {name: msgspec.structs.replace(tap, output="nowhere") for name, tap in manifest.taps.items()}
    broken = write_bundle(tmp_path / "b.bundle", msgspec.structs.replace(manifest, taps=taps), files)
    with pytest.raises(BundleError, match=r"head slow reads \w+, which the backbone's graph does not output"):
        edgebone.load(broken, engine=engine)


def test_a_head_whose_graph_gives_something_else_is_refused_and_the_old_one_goes_on(bundle: Path, engine: str) -> None:
    with edgebone.load(bundle, engine=engine) as model:
        head: Any = model.head_file("slow")
        outputs = tuple(msgspec.structs.replace(spec, name="other") for spec in head.manifest.outputs)
        own = msgspec.structs.replace(head.manifest.head, outputs=("other",))
        altered = msgspec.structs.replace(head.manifest, outputs=outputs, head=own)
        with pytest.raises(BundleError, match=r"head slow: its graph outputs scores, its head.json says other"):
            model.swap_head("slow", replace(head, manifest=altered))
        assert named(model(PICTURES[0])) == ("classification", "slow", "rare")
