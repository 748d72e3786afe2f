"""The contract that every engine keeps, run against each one that is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebone.core.caches import NetworkCache
from edgebone.core.errors import EngineError, TensorError
from edgebone.core.machine import Machine, usable_cores
from edgebone.engines.opening import open_model
from edgebone.engines.spec import Candidate
from edgebone.engines.table import ROWS
from support.bundles import colors_onnx, colors_outputs
from support.cuda_double import CudaDouble, TensorRTDouble, make_plan
from support.engines import OnnxRuntimeOnGpu, images, open_onnxruntime, open_openvino
from support.machine import has_bf16, needs

Opener = Callable[..., Any]


def open_openvino_bf16(model: bytes, **settings: Any) -> Any:
    return open_openvino(model, **{"precision": "bf16", **settings})


def open_tensorrt(model: bytes, **settings: Any) -> Any:
    """On doubles of CUDA and of TensorRT's runtime, which computes with onnxruntime."""
    from edgebone.engines.tensorrt.engine import TensorRTEngine

    cuda = CudaDouble(integrated=settings.pop("integrated", False))
    settings.pop("threads", None)
    batch = settings.get("batch_range")
    profiles = [{"images": [[size, 32, 32, 3] for size in (batch[0], batch[1], batch[1])]}] if batch else []
    return TensorRTEngine(make_plan(model, profiles), cuda=cuda, trt=TensorRTDouble(cuda), **settings)


def open_tensorrt_rtx(model: bytes, **settings: Any) -> Any:
    return open_tensorrt(model, target="tensorrt-rtx", **settings)


def open_tensorrt_on_jetson(model: bytes, **settings: Any) -> Any:
    return open_tensorrt(model, integrated=True, **settings)


def open_onnxruntime_on_gpu(model: bytes, **settings: Any) -> Any:
    with patch.dict(sys.modules, {"onnxruntime": OnnxRuntimeOnGpu()}):
        return open_onnxruntime(model, **{"device": "cuda", **settings})


def open_onnxruntime_tensorrt(model: bytes, **settings: Any) -> Any:
    return open_onnxruntime_on_gpu(model, device="tensorrt", **settings)


def open_reference(model: bytes, **settings: Any) -> Any:
    """The engine that docs/extending shows, of another package."""
    with patch.object(sys, "path", [str(EXAMPLE), *sys.path]):
        from edgebone_onnx_reference.engine import ReferenceEngine

    settings.pop("threads", None)
    return ReferenceEngine(model, **settings)


no_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor does not compute in BF16")
EXAMPLE = Path(__file__).parents[3] / "docs" / "extending" / "engine"
# How each row of the table is opened here: every one has to keep the contract.
OPENERS: dict[str, list[Any]] = {
    "onnxruntime": [pytest.param(open_onnxruntime, marks=needs("onnxruntime"), id="onnxruntime")],
    "openvino": [
        pytest.param(open_openvino, marks=needs("openvino"), id="openvino-fp32"),
        pytest.param(open_openvino_bf16, marks=[needs("openvino"), no_bf16], id="openvino-bf16"),
    ],
    "onnxruntime-cuda": [
        pytest.param(open_onnxruntime_on_gpu, marks=needs("onnxruntime"), id="onnxruntime-cuda, double")
    ],
    "onnxruntime-tensorrt": [
        pytest.param(open_onnxruntime_tensorrt, marks=needs("onnxruntime"), id="onnxruntime-tensorrt, double")
    ],
    "tensorrt": [
        pytest.param(open_tensorrt, marks=needs("onnxruntime"), id="tensorrt, double"),
        pytest.param(open_tensorrt_on_jetson, marks=needs("onnxruntime"), id="tensorrt on a Jetson, double"),
    ],
    "tensorrt-rtx": [pytest.param(open_tensorrt_rtx, marks=needs("onnxruntime"), id="tensorrt-rtx, double")],
}
ENGINES = [opener for row in ROWS for opener in OPENERS[row.name]]
ENGINES += [pytest.param(open_reference, id="a package's")]


@pytest.fixture(params=ENGINES)
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


@pytest.fixture
def static(opener: Opener) -> Iterator[Any]:
    with opener(colors_onnx((1, 1))) as engine:
        yield engine


@pytest.fixture
def dynamic(opener: Opener) -> Iterator[Any]:
    with opener(colors_onnx((1, 4)), batch_range=(1, 4)) as engine:
        yield engine


def right(engine: Any, have: dict[str, np.ndarray], fed: np.ndarray) -> bool:
    tolerance = {"atol": 1e-4} if engine.precision == "fp32" else {"atol": 0.1, "rtol": 2e-2}
    return list(have) == ["logits"] and np.allclose(have["logits"], colors_outputs(fed), **tolerance)


def test_it_says_what_it_takes_and_gives(static: Any, dynamic: Any) -> None:
    assert [str(spec) for spec in static.inputs] == ["images: uint8[1,32,32,3]"]
    assert [str(spec) for spec in static.outputs] == ["logits: float32[1,4]"]
    assert [spec.name for spec in dynamic.inputs] == ["images"]
    assert dynamic.inputs[0].shape[1:] == (32, 32, 3)
    assert isinstance(dynamic.inputs[0].shape[0], str)
    assert static.name in (*OPENERS, "onnx-reference")
    assert static.precision in ("fp32", "bf16")


def test_it_computes_what_the_graph_says(dynamic: Any) -> None:
    for batch in (1, 2, 3, 4, 1, 4):
        fed = images(batch, batch)
        have = dynamic.run({"images": fed})
        assert right(dynamic, have, fed)
        assert have["logits"].dtype == np.float32


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, [r"\[\]", "images"]),
        ({"picture": images(0)}, ["picture", "images"]),
        ({"images": images(0), "more": images(0)}, ["more", "images"]),
        ({"images": images(0).astype(np.float32)}, ["uint8", "float32"]),
        ({"images": images(0).astype(np.int8)}, ["uint8", "int8"]),
        ({"images": images(0)[0]}, [r"32,32,3\]", r"\[32, 32, 3\]"]),
        ({"images": images(0)[:, :31]}, [r"32,32,3\]", r"\[1, 31, 32, 3\]"]),
        ({"images": images(0).transpose(0, 3, 1, 2)}, [r"32,32,3\]", r"\[1, 3, 32, 32\]"]),
    ],
)
def test_feeds_that_do_not_fit_are_refused_with_expected_and_found(
    static: Any, dynamic: Any, feeds: dict[str, np.ndarray], words: list[str]
) -> None:
    for engine in (static, dynamic):
        for start in (engine.run, lambda fed, engine=engine: engine.submit(fed).result(30)):
            with pytest.raises(TensorError) as caught:
                start(feeds)
            for word in words:
                assert re.search(word, str(caught.value))
    fed = images(1)
    assert right(static, static.run({"images": fed}), fed)


@pytest.mark.parametrize("batch", [0, 5, 100])
def test_a_batch_out_of_its_range_is_refused_with_the_range(dynamic: Any, batch: int) -> None:
    with pytest.raises(TensorError, match=f"takes a batch of 1 to 4, but was given {batch}"):
        dynamic.run({"images": images(0, batch)})


@pytest.mark.parametrize("batch", [0, 2])
def test_a_network_of_batch_one_refuses_another_batch(static: Any, batch: int) -> None:
    with pytest.raises(TensorError, match=rf"1,32,32,3.*\[{batch}, 32, 32, 3\]"):
        static.run({"images": images(0, batch)})


def test_outputs_belong_to_the_caller(dynamic: Any) -> None:
    feeds = [images(seed) for seed in range(20)]
    outputs = [dynamic.run({"images": fed}) for fed in feeds]
    assert all(right(dynamic, have, fed) for have, fed in zip(outputs, feeds, strict=True))
    outputs[0]["logits"][:] = 7
    assert right(dynamic, dynamic.run({"images": feeds[1]}), feeds[1])
    assert right(dynamic, outputs[1], feeds[1])


def test_outputs_outlive_the_engine(opener: Opener) -> None:
    fed = images(3)
    with opener(colors_onnx((1, 1))) as engine:
        have = engine.run({"images": fed})
    assert right(engine, have, fed)


def test_a_feed_may_be_reused_as_soon_as_run_is_back(dynamic: Any) -> None:
    buffer = np.zeros((1, 32, 32, 3), np.uint8)
    kept = []
    for seed in range(10):
        buffer[:] = images(seed)
        kept.append(dynamic.run({"images": buffer}))
    buffer[:] = 0
    assert all(right(dynamic, have, images(seed)) for seed, have in enumerate(kept))


def test_feeds_need_not_be_contiguous_nor_writable(dynamic: Any) -> None:
    fed = images(4, 2)
    wide = np.zeros((4, 64, 64, 6), np.uint8)
    wide[::2, ::2, 1::2, ::2] = fed
    frozen = fed.copy()
    frozen.flags.writeable = False
    flipped = np.ascontiguousarray(fed[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    for view in (wide[::2, ::2, 1::2, ::2], np.asfortranarray(fed), flipped, frozen):
        assert right(dynamic, dynamic.run({"images": view}), fed)


def test_many_threads_each_get_their_own_answer(dynamic: Any) -> None:
    def work(thread: int) -> list[bool]:
        found = []
        for number in range(50):
            fed = images(1000 * thread + number, 1 + number % 4)
            found.append(right(dynamic, dynamic.run({"images": fed}), fed))
        return found

    with ThreadPoolExecutor(8) as pool:
        assert all(all(found) for found in pool.map(work, range(8)))


def test_submitted_runs_give_what_run_gives_and_never_get_stuck(dynamic: Any) -> None:
    feeds = [images(seed, 1 + seed % 4) for seed in range(40)]
    futures = [dynamic.submit({"images": fed}) for fed in feeds]
    for future, fed in zip(futures, feeds, strict=True):
        assert right(dynamic, future.result(30), fed)
    for _ in range(10):
        assert isinstance(dynamic.submit({}).exception(30), TensorError)
    assert right(dynamic, dynamic.submit({"images": feeds[0]}).result(30), feeds[0])


def test_threads_that_submit_at_the_same_time_get_their_own_answers(dynamic: Any) -> None:
    def work(thread: int) -> bool:
        feeds = [images(100 * thread + number) for number in range(20)]
        return all(right(dynamic, dynamic.submit({"images": fed}).result(30), fed) for fed in feeds)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_closed_engine_refuses_and_closes_again(opener: Opener) -> None:
    before = set(threading.enumerate())
    engine = opener(colors_onnx((1, 1)))
    pending = engine.submit({"images": images(0)})
    engine.close()
    engine.close()
    assert right(engine, pending.result(0), images(0))
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": images(0)})
    with pytest.raises(EngineError, match="closed"):
        engine.submit({"images": images(0)}).result(30)
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith(f"edgebone-{engine.name}")]


def test_closing_while_threads_run_gives_answers_or_errors_but_nothing_else(opener: Opener) -> None:
    engine = opener(colors_onnx((1, 1)))
    wrong: list[object] = []
    begun = threading.Barrier(5)

    def work(thread: int) -> None:
        fed = images(thread)
        begun.wait()
        for submits in range(10_000):
            try:
                have = engine.submit({"images": fed}).result(30) if submits % 2 else engine.run({"images": fed})
                if not right(engine, have, fed):
                    wrong.append(have)
            except EngineError:
                return
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    engine.close()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_a_context_manager_closes_after_a_failure_too(opener: Opener) -> None:
    with pytest.raises(ZeroDivisionError), opener(colors_onnx((1, 1))) as engine:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="closed"):
        engine.run({"images": images(0)})


def test_one_thread_gives_the_same_answer(opener: Opener) -> None:
    with opener(colors_onnx((1, 1)), threads=1) as engine:
        assert right(engine, engine.run({"images": images(0)}), images(0))


@pytest.mark.parametrize("kind", ["noise", "empty", "cut off", "text"])
def test_a_damaged_network_is_refused_in_one_line(opener: Opener, kind: str) -> None:
    content = {
        "noise": b"\x13\x37" * 500, "empty": b"", "cut off": colors_onnx((1, 1))[:120], "text": b"not a network",
    }[kind]  # fmt: skip
    with pytest.raises(EngineError) as caught:
        opener(content).close()
    assert "\n" not in str(caught.value)
    assert re.search("cannot load the (network|engine)", str(caught.value))


@needs("openvino")
@no_bf16
def test_openvino_records_the_precision_that_it_used() -> None:
    for asked in ("fp32", "bf16"):
        with open_openvino(colors_onnx((1, 1)), precision=asked) as engine:
            assert engine.precision == asked


@needs("onnxruntime")
def test_cuda_is_never_replaced_by_the_cpu_silently() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(EngineError, match=r'has no CUDAExecutionProvider.*pip install "edgebone\[gpu\]"'):
        open_onnxruntime(colors_onnx((1, 1)), device="cuda")


@pytest.fixture
def gpu_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> OnnxRuntimeOnGpu:
    pytest.importorskip("onnxruntime")
    double = OnnxRuntimeOnGpu()
    monkeypatch.setitem(sys.modules, "onnxruntime", double)
    return double


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpus_provider_never_falls_back(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    broken = OnnxRuntimeOnGpu(works=False)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", broken)
        with pytest.raises(EngineError, match=r"took CPUExecutionProvider instead of \w+: the driver, CUDA"):
            open_onnxruntime(colors_onnx((1, 1)), device=device)
    assert broken.asked[0][1] == {"enable_fallback": 0}
    assert not broken.sessions[0]._enable_fallback


def test_cuda_computes_in_fp32_not_tf32(gpu_onnxruntime: OnnxRuntimeOnGpu) -> None:
    with open_onnxruntime(colors_onnx((1, 1)), device="cuda") as engine:
        assert engine.name == "onnxruntime-cuda"
    assert gpu_onnxruntime.asked[0][0] == [("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_tensorrts_provider_keeps_what_it_compiles_for_every_batch(
    gpu_onnxruntime: OnnxRuntimeOnGpu, tmp_path: Path
) -> None:
    cache = NetworkCache(tmp_path, "0" * 64)
    with open_onnxruntime(colors_onnx((1, 4)), device="tensorrt", batch_range=(1, 4), cache=cache) as engine:
        assert engine.name == "onnxruntime-tensorrt"
        assert right(engine, engine.run({"images": images(0, 3)}), images(0, 3))
    with open_onnxruntime(colors_onnx((1, 1)), device="tensorrt"):
        pass
    kept, plain = (asked for asked, _ in gpu_onnxruntime.asked)
    (folder,) = (item for item in tmp_path.iterdir() if item.is_dir())
    assert [name for name, _ in kept] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert kept[0][1] == {
        "trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder),
        "trt_profile_min_shapes": "images:1x32x32x3", "trt_profile_opt_shapes": "images:4x32x32x3",
        "trt_profile_max_shapes": "images:4x32x32x3",
    }  # fmt: skip
    assert plain[0][1] == {}


def test_of_tensorrts_provider_only_what_it_wrote_itself_is_there_at_the_next_start(
    gpu_onnxruntime: OnnxRuntimeOnGpu, tmp_path: Path
) -> None:
    cache = NetworkCache(tmp_path, "0" * 64)
    settings: dict[str, Any] = {"device": "tensorrt", "batch_range": (1, 4), "cache": cache}
    with open_onnxruntime(colors_onnx((1, 4)), **settings):
        (folder,) = (item for item in tmp_path.iterdir() if item.is_dir())
        # What the provider would write while it runs.
        (folder / "TRTKernel_0.engine").write_bytes(b"engine")
        (folder / "TRTKernel_1.engine").write_bytes(b"engine")
    (folder / "TRTKernel_1.engine").write_bytes(b"Engine")
    (folder / "planted.engine").write_bytes(b"code")
    (folder / "link.engine").symlink_to("TRTKernel_0.engine")
    (folder / "deep").mkdir()
    with open_onnxruntime(colors_onnx((1, 4)), **settings):
        assert [item.name for item in folder.iterdir()] == ["TRTKernel_0.engine"]
    with open_onnxruntime(colors_onnx((1, 4)), **{**settings, "batch_range": (1, 2)}):
        assert len([item for item in tmp_path.iterdir() if item.is_dir()]) == 2


def test_buffers_on_the_gpu_are_made_once_a_shape(gpu_onnxruntime: OnnxRuntimeOnGpu) -> None:
    made: list[tuple[int, ...]] = []
    to_device = gpu_onnxruntime.OrtValue.ortvalue_from_numpy

    def count(array: np.ndarray, *where: Any) -> Any:
        made.append(array.shape)
        return to_device(array, *where)

    gpu_onnxruntime.OrtValue.ortvalue_from_numpy = count
    with open_onnxruntime(colors_onnx((1, 4)), device="cuda", batch_range=(1, 4)) as engine:
        for seed, batch in enumerate((1, 1, 4, 1, 4, 1)):
            assert right(engine, engine.run({"images": images(seed, batch)}), images(seed, batch))
    assert made == [(1, 32, 32, 3), (4, 32, 32, 3)]


def test_outputs_whose_size_only_the_data_decides_come_from_the_gpu_too(gpu_onnxruntime: OnnxRuntimeOnGpu) -> None:
    value, nodes = onnx.helper.make_tensor_value_info, [onnx.helper.make_node("NonZero", ["x"], ["found"])]
    floats, integers = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    graph = onnx.helper.make_graph(nodes, "g", [value("x", floats, [9])], [value("found", integers, [1, "n"])])
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    with open_onnxruntime(content.SerializeToString(), device="cuda") as engine:
        for count in (3, 0, 9, 1):
            fed = (np.arange(9) < count).astype(np.float32)
            assert engine.run({"x": fed})["found"].tolist() == [list(range(count))]


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_on_a_gpu_onnxruntime_computes_what_the_graph_says(device: str, tmp_path: Path) -> None:
    machine = Machine.probe()
    if not (machine.gpus or machine.jetson) or device not in machine.onnxruntime_providers:
        pytest.skip("needs an NVIDIA GPU and onnxruntime-gpu")
    cache = NetworkCache(tmp_path, "0" * 64)
    with open_onnxruntime(colors_onnx((1, 4)), device=device, batch_range=(1, 4), cache=cache) as engine:
        for seed, batch in enumerate((1, 4, 1, 2, 4)):
            fed = images(seed, batch)
            assert np.allclose(engine.run({"images": fed})["logits"], colors_outputs(fed), atol=1e-2)


@pytest.mark.parametrize(
    ("package", "kind", "extra"),
    [("onnxruntime", "onnxruntime.OnnxRuntimeEngine", "cpu"), ("openvino", "openvino.OpenVinoEngine", "openvino")],
)
def test_a_missing_package_is_told_with_the_pip_line(package: str, kind: str, extra: str) -> None:
    module, name = kind.split(".")
    program = f"""
import sys
sys.modules[{package!r}] = None
from edgebone.engines.{module}.engine import {name}
from edgebone.core.errors import MissingDependencyError
try:
    {name}(b"")
except MissingDependencyError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{package} is not installed")
    assert done.stdout.endswith(f'pip install "edgebone[{extra}]"\n')


@pytest.mark.parametrize(
    ("package", "kind"), [("onnxruntime", "onnxruntime.OnnxRuntimeEngine"), ("openvino", "openvino.OpenVinoEngine")]
)
def test_a_broken_package_is_not_called_missing(package: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('libfoo.so.1: cannot open shared object file')")
    module, name = kind.split(".")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from edgebone.engines.{module}.engine import {name}
from edgebone.core.errors import EngineError
try:
    {name}(b"")
except EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout == f"{package} is installed but cannot be imported: libfoo.so.1: cannot open shared object file\n"
    )


@pytest.mark.parametrize(
    ("package", "kind"), [("onnxruntime", "onnxruntime.OnnxRuntimeEngine"), ("openvino", "openvino.OpenVinoEngine")]
)
def test_ctrl_c_while_a_package_is_imported_is_not_taken_for_a_broken_package(
    package: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError('initialization failed') from KeyboardInterrupt()")
    module, name = kind.split(".")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    program += f"from edgebone.engines.{module}.engine import {name}\n{name}(b'')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.skipif(usable_cores() < 2, reason="one core has no idle threads")
def test_an_engine_behind_another_leaves_it_the_cores_between_runs() -> None:
    weight = numpy_helper.from_array(np.ones((512, 512), np.float32), "weight")
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 512, 512]) for name in "xy"]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with open_model(Candidate("onnxruntime", "fp32", "fp32"), model, (1, 1), behind_another=True) as engine:
        feeds = {"x": np.zeros((1, 512, 512), np.float32)}
        used_s = []
        for _ in range(10):
            engine.run(feeds)
            began = time.process_time()
            time.sleep(0.02)
            used_s.append(time.process_time() - began)
    # Threads that stay awake for the next run take milliseconds.
    assert sorted(used_s)[len(used_s) // 2] < 0.001
