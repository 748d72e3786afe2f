"""Caches: what is damaged, replaced or somebody else's is not taken, and what is taken computes the same."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebone import load
from edgebone.core.caches import Cached, NetworkCache, _warn, cache_folder, cached
from edgebone.core.machine import Machine
from edgebone.engines.openvino import engine as openvino_engine
from edgebone.engines.openvino.engine import OpenVinoEngine
from support.bundles import colors_onnx, write_colors_bundle
from support.machine import needs
from support.pictures import GREEN, picture
from support.program import edgebone

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of the test's own, and warnings that were not given yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    _warn.cache_clear()
    yield tmp_path / "xdg"
    _warn.cache_clear()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_nobody_else_can_look_into_the_cache(home: Path) -> None:
    assert cache_folder("openvino") == home / "edgebone" / "openvino"
    (home / "edgebone").chmod(0o755)
    (home / "edgebone" / "openvino").chmod(0o755)
    assert cache_folder("openvino")
    assert (mode(home / "edgebone"), mode(home / "edgebone" / "openvino")) == (0o700, 0o700)


@pytest.mark.parametrize("whose", ["the cache's own", "the folder above it", "one far above"])
@pytest.mark.parametrize("why", ["writable by all", pytest.param("another user's", marks=AS_ROOT)])
def test_a_cache_that_others_may_have_written_is_not_used_and_that_is_said_once(
    home: Path, tmp_path: Path, whose: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cache_folder("openvino")
    assert folder
    place = {"the cache's own": folder, "the folder above it": home}.get(whose, tmp_path)
    if why == "writable by all":
        place.chmod(0o777)
    else:
        os.chown(place, 12345, 12345)
    for _ in range(2):
        assert cache_folder("openvino") is None
    (said,) = caplog.messages
    assert str(folder) in said
    assert ("belongs to another user" if why == "another user's" else f"other users can write to {place}") in said


def test_a_folder_as_tmp_is_is_no_reason_for_distrust(home: Path) -> None:
    assert cache_folder("openvino")
    home.chmod(0o1777)
    assert cache_folder("openvino")


@AS_ROOT
def test_a_group_that_nobody_else_is_in_may_write(home: Path) -> None:
    assert cache_folder("openvino")
    home.chmod(0o775)
    os.chown(home, 0, 0)
    assert cache_folder("openvino")
    os.chown(home, 0, 12345)
    assert cache_folder("openvino") is None


def test_a_relative_cache_directory_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder("features") == tmp_path / ".cache" / "edgebone" / "features"


@AS_ROOT
def test_a_run_with_somebody_elses_cache_says_so_and_goes_on(colors_bundle: Path, home: Path) -> None:
    home.mkdir()
    os.chown(home, 12345, 12345)
    done = edgebone("run", colors_bundle, "synthetic://64x48@30?frames=2", "--engine", "openvino")
    assert done.returncode == 0
    assert done.stderr.count("is not used as a cache") == 1
    assert not list((home / "edgebone" / "openvino").iterdir())


def test_what_is_kept_comes_back_and_anything_else_does_not(tmp_path: Path) -> None:
    one, other = cached(tmp_path, "graph", 1, None), cached(tmp_path, "graph", 2, None)
    assert one.load() is None
    one.keep(b"content" * 9, b"note")
    other.keep(b"another" * 9, b"note")
    assert one.load() == (b"content" * 9, b"note")
    whole = one.path.read_bytes()
    for place in range(len(whole)):
        one.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert one.load() is None
        one.path.write_bytes(whole[:place])
        assert one.load() is None
    for planted in (other.path.read_bytes(), whole + b"\0"):
        one.path.write_bytes(planted)
        assert one.load() is None
    one.path.write_bytes(whole)
    assert Cached(one.path, one.key + b"!").load() is None
    one.path.unlink()
    os.mkfifo(one.path)
    assert one.load() is None


# OpenVINO


def net(seed: int) -> bytes:
    """Inverted residuals as MobileNetV2 has them, with weights of their own: 32 × 32 pixels to ten classes."""
    random_ = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["c0"], perm=[0, 3, 1, 2]),
    ]
    weights: list[onnx.TensorProto] = []

    def conv(name: str, source: str, cout: int, cin: int, size: int, stride: int, group: int = 1) -> str:
        scale = np.sqrt(2 / (cin * size * size))
        values = random_.standard_normal((cout, cin, size, size)) * scale
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
        pads = [size // 2] * 4
        nodes.append(
            helper.make_node("Conv", [source, f"{name}.w"], [name], pads=pads, strides=[stride] * 2, group=group)
        )
        return name

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.r"]))
        return f"{source}.r"

    value, channels = relu(conv("stem", "c0", 16, 3, 3, 2)), 16
    for index, (wide, stride) in enumerate([(24, 2), (24, 1), (32, 2), (32, 1)]):
        start, inner = value, channels * 6
        value = relu(conv(f"b{index}.expand", value, inner, channels, 1, 1))
        value = relu(conv(f"b{index}.depth", value, inner, 1, 3, stride, inner))
        value = conv(f"b{index}.project", value, wide, inner, 1, 1)
        if stride == 1:
            nodes.append(helper.make_node("Add", [start, value], [f"b{index}"]))
            value = f"b{index}"
        channels = wide
    weights.append(numpy_helper.from_array(random_.standard_normal((channels, 10)).astype(np.float32), "fc"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def opened(content: bytes, cache: Path, name: str, **settings: Any) -> OpenVinoEngine:
    return OpenVinoEngine(content, batch_range=(1, 1), cache=NetworkCache(cache, name), **settings)


def answer(engine: OpenVinoEngine) -> np.ndarray:
    fed = np.random.default_rng(7).integers(0, 256, (1, 32, 32, 3), np.uint8)
    return engine.run({"images": fed})["logits"]


def damaged(whole: bytes, seed: int) -> bytes:
    """A file with one to 64 flipped bits, cut off, or with a piece of it moved or gone."""
    chance = random.Random(seed)
    content = bytearray(whole)
    kind = chance.choice(["bits", "bits", "bits", "cut", "zeros", "moved"])
    if kind == "bits":
        for _ in range(chance.choice([1, 8, 64])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[chance.randrange(len(content)) :]
    elif kind == "zeros":
        start = chance.randrange(len(content))
        content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    else:
        content = content[4096:] + content[:4096]
    return bytes(content)


def wrong_answers(cache: Path, tries: int) -> int:
    """How many of so many damaged cache files gave another answer."""
    content = net(1)
    with opened(content, cache, "a") as engine:
        assert not engine.from_cache
        right = answer(engine)
    (file,) = cache.iterdir()
    whole, wrong = file.read_bytes(), 0
    with opened(content, cache, "a") as engine:
        assert engine.from_cache
        assert np.array_equal(answer(engine), right)
    for seed in range(tries):
        file.write_bytes(damaged(whole, seed))
        with opened(content, cache, "a") as engine:
            assert engine.from_cache == (file.read_bytes() == damaged(whole, seed) == whole)
            wrong += not np.allclose(answer(engine), right, rtol=1e-4, atol=1e-5)
    return wrong


@needs("openvino")
def test_a_damaged_compiled_network_is_compiled_anew(tmp_path: Path) -> None:
    assert wrong_answers(tmp_path / "cache", 8) == 0


@pytest.mark.slow
@needs("openvino")
def test_of_200_damaged_compiled_networks_none_answers_wrongly(tmp_path: Path) -> None:
    assert wrong_answers(tmp_path / "cache", 200) == 0


@needs("openvino")
def test_a_compiled_network_under_anothers_name_is_not_taken(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    files, answers = [], []
    for seed in (1, 2):
        with opened(net(seed), cache, str(seed)) as engine:
            answers.append(answer(engine))
        files += [path for path in cache.iterdir() if path not in files]
    assert not np.allclose(*answers)
    shutil.copy(files[1], files[0])
    with opened(net(1), cache, "1") as engine:
        assert not engine.from_cache
        assert np.allclose(answer(engine), answers[0], rtol=1e-4)


@needs("openvino")
def test_what_a_compiled_network_depends_on_is_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, cache = colors_onnx((1, 4)), tmp_path / "cache"

    def from_cache(**settings: Any) -> bool:
        with OpenVinoEngine(content, cache=NetworkCache(cache, "a"), **{"batch_range": (1, 4), **settings}) as engine:
            return engine.from_cache

    for settings in (
        {},
        {"hint": "throughput"},
        {"threads": 1},
        {"batch_range": (2, 2)},
        {"batch_range": (4, 4)},
    ):
        assert not from_cache(**settings)
        assert from_cache(**settings)
    machine = msgspec.structs.replace(Machine.probe(), cpu="another")
    monkeypatch.setattr(Machine, "probe", lambda *_: machine)
    assert not from_cache()


@needs("openvino")
def test_an_engine_out_of_the_cache_is_the_same_one(tmp_path: Path) -> None:
    for batch in ((1, 1), (1, 4)):
        cache = NetworkCache(tmp_path, str(batch))
        first, second = (OpenVinoEngine(colors_onnx(batch), batch_range=batch, cache=cache) for _ in range(2))
        with first, second:
            assert second.from_cache
            assert (first.inputs, first.outputs, first.precision) == (second.inputs, second.outputs, second.precision)
            fed = {"images": np.random.default_rng(3).integers(0, 256, (batch[1], 32, 32, 3), np.uint8)}
            assert np.array_equal(first.run(fed)["logits"], second.run(fed)["logits"])


@needs("openvino")
def test_a_compiled_network_that_fails_the_golden_sample_is_compiled_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in the cache that is whole, under the right name, and of another network: made by who may write there."""
    path = write_colors_bundle(tmp_path / "a.bundle")
    with load(path, engine="openvino") as model:
        assert isinstance(model.engine, OpenVinoEngine)
        place = model.engine.cached
        assert place is not None
        other = onnx.load_from_string(colors_onnx((1, 1)))
        other.graph.initializer[1].float_data[:] = reversed(other.graph.initializer[1].float_data)
        import openvino

        graph = openvino_engine._read(openvino, other.SerializeToString(), 1)
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        assert openvino_engine._keep(place, openvino.Core().compile_model(graph, "CPU", config), ["logits"])
    with load(path, engine="openvino") as model:
        assert model(picture(GREEN)).label == "green"  # type: ignore[union-attr]
        assert isinstance(model.engine, OpenVinoEngine)
        assert not model.engine.from_cache
    assert "fails its golden sample (tolerance is 0.001)" in caplog.text
    with load(path, engine="openvino") as model:
        assert isinstance(model.engine, OpenVinoEngine)
        assert model.engine.from_cache
        assert model(picture(GREEN)).label == "green"  # type: ignore[union-attr]
