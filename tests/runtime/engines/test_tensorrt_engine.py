"""TensorRT's engine on doubles that compute, and what of it can be tried on the real packages without a GPU."""

from __future__ import annotations

import gc
import inspect
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import (
    DeviceLostError,
    DeviceOutOfMemoryError,
    EngineError,
    MissingDependencyError,
    TensorError,
)
from edgebone.core.machine import Machine
from edgebone.engines.tensorrt import compile as into_bundle
from edgebone.engines.tensorrt import cuda as cuda_module
from edgebone.engines.tensorrt import plan as tensorrt_plan
from edgebone.engines.tensorrt import runtime as tensorrt_runtime
from edgebone.engines.tensorrt.builder import Compiled
from edgebone.engines.tensorrt.compile import compile_into_bundle
from edgebone.engines.tensorrt.engine import TensorRTEngine
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from support import ROOT
from support.bundles import colors_onnx, colors_outputs, write_colors_bundle
from support.cuda_double import ContextDouble, CudaDouble, EngineDouble, RuntimeDouble, TensorRTDouble, Work, make_plan
from support.machine import needs

pytestmark = needs("onnxruntime")
LOST = DeviceLostError("CUDA: cudaEventSynchronize failed with cudaErrorIllegalAddress")
NO_MEMORY = DeviceOutOfMemoryError("CUDA: cudaMalloc failed with cudaErrorMemoryAllocation")
FOUR = [{"images": [[1, 32, 32, 3], [4, 32, 32, 3], [4, 32, 32, 3]]}]
NO_GPU = not (Machine.probe().gpus or Machine.probe().jetson)


class Bench:
    """An engine on its doubles; ``check`` closes it and asks them what they saw."""

    def __init__(self, plan: bytes, integrated: bool = False, target: str = "tensorrt", **settings: Any) -> None:
        self.cuda = CudaDouble(integrated)
        self.trt = TensorRTDouble(self.cuda)
        self.engine = TensorRTEngine(plan, target=target, cuda=self.cuda, trt=self.trt, **settings)

    def run(self, fed: np.ndarray) -> bool:
        return np.allclose(self.engine.run({"images": fed})["logits"], colors_outputs(fed), atol=1e-4)

    def check(self) -> None:
        self.engine.close()
        self.engine.close()
        nothing_left(self.cuda, self.trt)


def nothing_left(cuda: CudaDouble, trt: TensorRTDouble) -> None:
    assert cuda.problems == []
    assert cuda.alive == {}
    gc.collect()
    assert list(trt.alive) == []


def static(**settings: Any) -> Bench:
    return Bench(make_plan(colors_onnx((1, 1))), **settings)


def dynamic(**settings: Any) -> Bench:
    return Bench(make_plan(colors_onnx((1, 4)), FOUR), **settings)


def images(seed: int, batch: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, 1, 1, 3), np.uint8) + rng.integers(0, 9, (batch, 32, 32, 3), np.uint8)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any] | None = None) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value(*item) for item in inputs], [value(*item) for item in outputs], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def two_and_three() -> bytes:
    """Two inputs, three outputs of three types, none of a round size."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Cast", ["a"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Cast", ["b"], ["half"], to=TensorProto.FLOAT16),
    ]
    inputs = [("a", TensorProto.FLOAT, [1, 7]), ("b", TensorProto.FLOAT, [1, 7])]
    outputs = [
        ("sum", TensorProto.FLOAT, [1, 7]),
        ("whole", TensorProto.INT64, [1, 7]),
        ("half", TensorProto.FLOAT16, [1, 7]),
    ]
    return model(nodes, inputs, outputs)


def positives() -> bytes:
    """Where the numbers are positive: how many, the data decides; and their sum, of a fixed size."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["found"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    outputs = [("found", TensorProto.INT64, ["n", 1]), ("total", TensorProto.FLOAT, [])]
    return model(nodes, [("x", TensorProto.FLOAT, [64])], outputs, [zero])


# Numbers


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("integrated", [True, False])
def test_it_computes_what_the_network_says(graphs: bool, integrated: bool) -> None:
    one, many = static(graphs=graphs, integrated=integrated), dynamic(graphs=graphs, integrated=integrated)
    assert all(one.run(images(seed)) for seed in range(6))
    assert all(many.run(images(seed, batch)) for seed, batch in enumerate((1, 1, 1, 4, 4, 4, 2, 3, 1, 1, 1)))
    one.check()
    many.check()


@pytest.mark.parametrize("integrated", [True, False])
def test_several_inputs_and_outputs_lie_beside_each_other(integrated: bool) -> None:
    bench = Bench(make_plan(two_and_three()), integrated)
    for seed in range(4):
        a, b = np.random.default_rng(seed).normal(size=(2, 1, 7)).astype(np.float32)
        have = bench.engine.run({"b": b, "a": a})
        assert list(have) == ["sum", "whole", "half"]
        assert [value.dtype.name for value in have.values()] == ["float32", "int64", "float16"]
        np.testing.assert_allclose(have["sum"], a + b)
        np.testing.assert_array_equal(have["whole"], a.astype(np.int64))
        np.testing.assert_allclose(have["half"], b.astype(np.float16))
    bench.check()


def test_two_runs_are_in_flight_and_eight_threads_get_their_own_answers() -> None:
    bench = dynamic()
    contexts = {id(slot) for slot in bench.engine._slots}
    assert bench.engine.in_flight == len(contexts) == 2

    def work(thread: int) -> list[bool]:
        fed = [images(100 * thread + number, 1 + number % 4) for number in range(25)]
        futures = [bench.engine.submit({"images": item}) for item in fed[:12]]
        done = [bench.run(item) for item in fed[12:]]
        return done + [
            np.allclose(future.result(30)["logits"], colors_outputs(item), atol=1e-4)
            for future, item in zip(futures, fed, strict=False)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert all(all(found) for found in pool.map(work, range(8)))
    bench.check()


def test_a_second_run_starts_while_the_first_one_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = static()
    both = threading.Barrier(2, timeout=30)
    real = CudaDouble.synchronize_event

    def meet(self: CudaDouble, event: int) -> None:
        both.wait()
        real(self, event)

    monkeypatch.setattr(CudaDouble, "synchronize_event", meet)
    futures = [bench.engine.submit({"images": images(seed)}) for seed in range(2)]
    for seed, future in enumerate(futures):
        np.testing.assert_allclose(future.result(30)["logits"], colors_outputs(images(seed)), atol=1e-4)
    bench.check()


def test_outputs_outlive_further_runs_and_the_engine() -> None:
    bench = static(contexts=1)
    kept = [bench.engine.run({"images": images(seed)})["logits"] for seed in range(5)]
    bench.check()
    for seed, have in enumerate(kept):
        np.testing.assert_allclose(have, colors_outputs(images(seed)), atol=1e-4)


# Optimisation profiles


def test_the_profile_that_covers_a_batch_is_taken() -> None:
    profiles = [{"images": [[low, 32, 32, 3], [high, 32, 32, 3], [high, 32, 32, 3]]} for low, high in ((1, 2), (3, 8))]
    bench = Bench(make_plan(colors_onnx((1, 8)), profiles), contexts=1)
    context = bench.trt.contexts[0]
    used = []
    for seed, batch in enumerate((1, 2, 2, 2, 8, 8, 8, 3, 1)):
        assert bench.run(images(seed, batch))
        used.append(context.active_optimization_profile)
    assert used == [0, 0, 0, 0, 1, 1, 1, 1, 0]
    with pytest.raises(TensorError, match="takes a batch of 1 to 8, but was given 9"):
        bench.run(images(0, 9))
    bench.check()


def test_shapes_that_no_profile_covers_are_refused_with_those_that_are() -> None:
    bench = dynamic(batch_range=(1, 9))
    with pytest.raises(
        TensorError, match=r"compiled for \[\[1, 32, 32, 3\]\] to \[\[4, 32, 32, 3\]\], but was given \[\[5,"
    ):
        bench.run(images(0, 5))
    assert bench.run(images(0, 4))
    bench.check()


# What a frame costs


@pytest.mark.parametrize("make", [static, dynamic])
def test_with_a_graph_a_frame_is_one_launch_one_copy_each_way_and_one_wait(make: Any) -> None:
    bench = make(contexts=1)
    for seed in range(2):
        assert bench.run(images(seed))
    with bench.cuda.account() as frames:
        assert all(bench.run(images(seed)) for seed in range(10))
    assert frames.calls == {"launch": 10, "record_event": 10, "synchronize_event": 10}
    assert frames.moved == {"copy_to_device": 10 * 32 * 32 * 3, "copy_to_host": 10 * 16}
    bench.check()


def test_without_a_graph_it_is_two_copies_and_an_execution_and_never_an_allocation() -> None:
    bench = static(contexts=1, graphs=False)
    assert bench.run(images(0))
    with bench.cuda.account() as frames:
        assert all(bench.run(images(seed)) for seed in range(10))
    names = ("copy_to_device", "execute_async_v3", "copy_to_host", "record_event", "synchronize_event")
    assert frames.calls == dict.fromkeys(names, 10)
    bench.check()


def test_where_host_and_device_share_their_memory_nothing_is_copied() -> None:
    bench = static(contexts=1, integrated=True)
    assert all(bench.run(images(seed)) for seed in range(5))
    assert not {"copy_to_device", "copy_to_host", "allocate"} & set(bench.cuda.calls)
    bench.check()


def test_a_graph_is_captured_at_the_second_run_of_a_shape_and_made_anew_for_another() -> None:
    bench = dynamic(contexts=1)
    captured = []
    for seed, batch in enumerate((1, 1, 1, 1, 2, 1, 2, 2, 2)):
        assert bench.run(images(seed, batch))
        captured.append(bench.cuda.calls["instantiate"])
    # Shapes that take turns are never captured: a graph would be given up before it is launched.
    assert captured == [0, 1, 1, 1, 1, 1, 1, 2, 2]
    assert bench.cuda.calls["destroy_executable"] == 1
    assert bench.engine.notes == []
    bench.check()


def test_two_shapes_that_take_turns_get_a_context_each_and_keep_their_graphs() -> None:
    bench = dynamic(contexts=2)
    fed = [images(seed, 1 + 3 * (seed % 2)) for seed in range(20)]
    for first, second in zip(fed[::2], fed[1::2], strict=True):
        assert bench.run(first)
        assert bench.run(second)
    assert bench.cuda.calls["instantiate"] == 2
    assert bench.cuda.calls["launch"] == 18
    bench.check()


def test_rtx_makes_its_own_graphs_and_is_not_captured() -> None:
    bench = static(target="tensorrt-rtx")
    assert all(bench.run(images(seed)) for seed in range(4))
    assert bench.cuda.calls["begin_capture"] == 0
    assert [context.config.cuda_graph_strategy.name for context in bench.trt.contexts] == ["WHOLE_GRAPH_CAPTURE"] * 2
    bench.check()


def test_a_network_that_cannot_be_captured_runs_without_a_graph_and_says_why() -> None:
    bench = static()
    bench.trt.refuses_capture = True
    assert all(bench.run(images(seed)) for seed in range(6))
    assert bench.cuda.calls["launch"] == 0
    assert bench.cuda.calls["begin_capture"] == bench.cuda.calls["end_capture"] == 1
    assert len(bench.engine.notes) == 1
    assert re.match(r"no CUDA graph: tensorrt: execute_async_v3 failed: operation not permitted", bench.engine.notes[0])
    bench.check()


@pytest.mark.parametrize("call", ["begin_capture", "end_capture", "instantiate", "copy_to_device"])
def test_a_capture_that_fails_at_any_call_is_given_up_cleanly(call: str) -> None:
    bench = static(contexts=1)
    assert bench.run(images(0))
    bench.cuda.fail(call, EngineError(f"CUDA: {call} failed"))
    assert all(bench.run(images(seed)) for seed in range(4))
    assert bench.engine.notes == [f"no CUDA graph: CUDA: {call} failed"]
    assert bench.cuda.calls["launch"] == 0
    bench.check()


def test_what_a_failed_capture_leaves_behind_is_not_taken_for_a_later_calls() -> None:
    bench = static(contexts=1)
    assert bench.run(images(0))
    bench.cuda.fail("instantiate", NO_MEMORY)
    assert bench.run(images(1))
    bench.trt.fail("execute_async_v3", "another reason")
    with pytest.raises(EngineError, match="another reason") as caught:
        bench.run(images(2))
    assert type(caught.value) is EngineError
    assert bench.run(images(3))
    bench.check()


# Outputs whose size only the data decides


@pytest.mark.parametrize("integrated", [True, False])
def test_outputs_of_unknown_size_come_through_an_allocator(integrated: bool) -> None:
    bench = Bench(make_plan(positives()), integrated, contexts=1)
    assert bench.engine.notes == ["no CUDA graph: the data determines the size of found"]
    for count in (3, 0, 64, 1, 17, 64, 0):
        x = np.full(64, -1, np.float32)
        x[np.random.default_rng(count).permutation(64)[:count]] = 2
        have = bench.engine.run({"x": x})
        np.testing.assert_array_equal(have["found"], np.argwhere(x > 0))
        assert have["found"].dtype == np.int64
        assert have["total"] == pytest.approx(x.sum())
    with bench.cuda.account() as frames:
        bench.engine.run({"x": x})
    assert not {"allocate", "allocate_host"} & set(frames.calls)
    assert bench.cuda.calls["begin_capture"] == 0
    bench.check()


def test_what_an_allocator_runs_into_is_heard() -> None:
    bench = Bench(make_plan(positives()), contexts=1)
    bench.cuda.fail("allocate", NO_MEMORY)
    with pytest.raises(DeviceOutOfMemoryError, match="cudaErrorMemoryAllocation"):
        bench.engine.run({"x": np.ones(64, np.float32)})
    bench.check()


# Failures


@pytest.mark.parametrize(
    ("call", "tensor"),
    [
        ("set_input_shape", "images"), ("set_tensor_address", "images"), ("execute_async_v3", ""),
        ("infer_shapes", "images"),
    ],
)  # fmt: skip
def test_every_refusal_names_the_call_and_the_tensor_and_the_next_run_is_well(call: str, tensor: str) -> None:
    bench = dynamic(contexts=1)
    bench.trt.fail(call, "TensorRT's own reason")
    with pytest.raises(EngineError, match=rf"tensorrt: {call}.* failed: TensorRT's own reason") as caught:
        bench.run(images(0))
    assert tensor in str(caught.value)
    assert type(caught.value) is EngineError
    assert all(bench.run(images(seed)) for seed in range(4))
    bench.check()


def test_shapes_that_tensorrt_cannot_infer_are_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = dynamic(contexts=1)

    def fails(self: ContextDouble) -> list[str]:
        raise RuntimeError("pybind11's")

    with monkeypatch.context() as patch, pytest.raises(EngineError, match="tensorrt: infer_shapes failed"):
        patch.setattr(ContextDouble, "infer_shapes", fails)
        bench.run(images(0))
    assert bench.run(images(0))
    bench.check()


def test_a_profile_that_is_refused_is_said() -> None:
    profiles = [{"images": [[low, 32, 32, 3], [high, 32, 32, 3], [high, 32, 32, 3]]} for low, high in ((1, 2), (3, 8))]
    bench = Bench(make_plan(colors_onnx((1, 8)), profiles), contexts=1)
    bench.trt.fail("set_optimization_profile_async", "no such profile")
    with pytest.raises(EngineError, match=r"set_optimization_profile_async\(0\) failed: no such profile"):
        bench.run(images(0))
    assert bench.run(images(0))
    bench.check()


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("error", [LOST, NO_MEMORY], ids=["lost", "no memory"])
@pytest.mark.parametrize("call", ["record_event", "synchronize_event", "copy_to_device", "launch"])
def test_a_broken_device_is_told_at_every_run_and_closing_is_quiet(call: str, error: EngineError, graphs: bool) -> None:
    bench = static(graphs=graphs, contexts=1)
    assert bench.run(images(0))
    if (call == "launch") != graphs:
        call = "synchronize_event"
    if graphs:
        assert bench.run(images(0))
    bench.cuda.fail(call, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        bench.run(images(1))
    for _ in range(2):
        with pytest.raises(type(error), match="the engine is broken, close it and open another: CUDA"):
            bench.run(images(1))
        with pytest.raises(type(error), match="the engine is broken"):
            bench.engine.submit({"images": images(1)}).result(30)
    bench.engine.close()
    bench.engine.close()
    assert bench.cuda.alive == {}
    again = static()
    assert again.run(images(1))
    again.check()


def test_everyone_who_waits_for_a_context_hears_that_the_device_is_lost() -> None:
    bench = static(contexts=1)
    assert bench.run(images(0))
    bench.cuda.fail("synchronize_event", LOST, after=20)

    def work(seed: int) -> str:
        try:
            while True:
                assert bench.run(images(seed))
        except DeviceLostError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, range(8), timeout=30))
    assert sum("broken" not in line for line in found) == 1
    bench.engine.close()
    assert bench.cuda.alive == {}


def test_a_device_that_is_lost_in_tensorrts_own_calls_is_told_as_lost() -> None:
    bench = static(contexts=1)
    bench.trt.fail("execute_async_v3", "Cask convolution execution")
    bench.cuda.fail("synchronize_stream", LOST)
    with pytest.raises(DeviceLostError, match="cudaErrorIllegalAddress"):
        bench.run(images(0))
    with pytest.raises(DeviceLostError, match="broken"):
        bench.run(images(0))
    bench.engine.close()
    assert bench.cuda.alive == {}


@pytest.mark.parametrize(
    ("log", "left_behind"),
    [("Error Code 2: OutOfMemory (Requested size was 80 bytes.)", None), ("no words", NO_MEMORY)],
)
def test_memory_that_tensorrt_itself_cannot_get_is_a_typed_error(log: str, left_behind: EngineError | None) -> None:
    bench = static(contexts=1)
    bench.trt.fail("execute_async_v3", log, left_behind=left_behind)
    with pytest.raises(DeviceOutOfMemoryError, match=r"tensorrt: execute_async_v3 failed"):
        bench.run(images(0))
    bench.check()


@pytest.mark.parametrize("call", ["create_stream", "create_event", "allocate", "allocate_host"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_an_engine_that_fails_half_built_leaves_nothing(call: str, after: int) -> None:
    cuda = CudaDouble()
    trt = TensorRTDouble(cuda)
    cuda.fail(call, NO_MEMORY, after)
    # Streams and events are made once a context, memory twice.
    if call.startswith("create") and after > 1:
        TensorRTEngine(make_plan(colors_onnx((1, 1))), cuda=cuda, trt=trt).close()
    else:
        with pytest.raises(DeviceOutOfMemoryError):
            TensorRTEngine(make_plan(colors_onnx((1, 1))), cuda=cuda, trt=trt)
    nothing_left(cuda, trt)


@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "create_execution_context", "set_output_allocator"])
def test_a_refusal_while_opening_leaves_nothing_and_gives_the_reason(call: str) -> None:
    cuda = CudaDouble()
    trt = TensorRTDouble(cuda)
    trt.fail(call, "TensorRT's own reason")
    with pytest.raises(EngineError, match="TensorRT's own reason"):
        TensorRTEngine(make_plan(positives()), cuda=cuda, trt=trt)
    nothing_left(cuda, trt)


def test_something_that_cannot_be_freed_is_told_once_and_the_rest_is_freed() -> None:
    bench = static()
    bench.cuda.fail("free_host", EngineError("CUDA: cudaFreeHost failed"))
    with pytest.raises(EngineError, match="cudaFreeHost failed"):
        bench.engine.close()
    bench.engine.close()
    assert bench.cuda.alive == {}
    assert bench.cuda.problems == []


def test_ctrl_c_during_a_run_leaves_an_engine_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = static(contexts=1)
    assert bench.run(images(0))

    def interrupt(self: CudaDouble, event: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CudaDouble, "synchronize_event", interrupt)
        bench.run(images(1))
    assert all(bench.run(images(seed)) for seed in range(4))
    bench.check()


def test_closing_waits_for_runs_and_wakes_those_that_wait_for_their_turn() -> None:
    bench = static(contexts=1)
    begun = threading.Barrier(5)
    found: list[object] = []

    def work(seed: int) -> None:
        begun.wait()
        try:
            for number in range(10_000):
                assert bench.run(images(seed + number % 3))
        except EngineError as error:
            found.append(str(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    bench.engine.close()
    for thread in threads:
        thread.join(30)
    assert found == ["tensorrt: the engine is closed"] * 4
    bench.check()


# What is loaded, and on what


def test_tensors_that_numpy_does_not_have_are_refused_by_name() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    content = model(nodes, [("x", TensorProto.FLOAT, [1])], [("y", TensorProto.BFLOAT16, [1])])
    cuda = CudaDouble()
    with pytest.raises(EngineError, match="tensor y is BF16, which NumPy lacks"):
        TensorRTEngine(make_plan(content), cuda=cuda, trt=TensorRTDouble(cuda))
    assert cuda.alive == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"get_tensor_location": "HOST"}, "tensor images is a shape, not a picture"),
        ({"get_tensor_format": "CHW32"}, "tensor images has layout CHW32, expected LINEAR"),
    ],
)
def test_tensors_elsewhere_or_in_another_layout_are_refused(
    change: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"HOST": TensorRTDouble.TensorLocation.HOST, "CHW32": TensorRTDouble.TensorFormat.CHW32}
    for name, word in change.items():
        monkeypatch.setattr(EngineDouble, name, lambda self, tensor, word=word: words[word])
    with pytest.raises(EngineError, match=message):
        static()


def test_host_code_and_dla_are_only_allowed_where_they_are_asked_for() -> None:
    plain, special = static(), static(host_code=True, dla_core=1)
    assert (plain.trt.runtimes[0].engine_host_code_allowed, plain.trt.runtimes[0].DLA_core) == (False, -1)
    assert (special.trt.runtimes[0].engine_host_code_allowed, special.trt.runtimes[0].DLA_core) == (True, 1)
    plain.check()
    special.check()


@pytest.mark.parametrize("capability", [(7, 0), (8, 7)])
def test_rtx_refuses_gpus_that_it_does_not_know(capability: tuple[int, int]) -> None:
    cuda = CudaDouble(capability=capability)
    with pytest.raises(EngineError, match=r"desktop GPUs from Turing on .*the engine tensorrt does"):
        TensorRTEngine(b"", target="tensorrt-rtx", cuda=cuda, trt=TensorRTDouble(cuda))


def test_the_lean_runtime_and_the_dispatcher_load_engines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_lean", "tensorrt_dispatch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingDependencyError, match=r'the engine tensorrt needs it: pip install "edgebone\[tensorrt\]"'
    ):
        tensorrt_runtime.import_runtime("tensorrt")
    dispatcher = SimpleNamespace(Runtime=None)
    monkeypatch.setitem(sys.modules, "tensorrt_dispatch", dispatcher)
    # Type stubs alone are a package without anything in it.
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace())
    assert tensorrt_runtime.import_runtime("tensorrt") is dispatcher


# Where the engine comes from


def here(**changes: Any) -> Machine:
    return msgspec.structs.replace(Machine.probe(), gpus=("RTX 3060",), driver="580.1", l4t="", **changes)


SM86 = Target("tensorrt-rtx", ("SM86",))


@pytest.mark.parametrize(
    ("target", "settings"),
    [(SM86, CompileSettings()), (Target("tensorrt-rtx", ("SM86", "SM89")), CompileSettings(level=1))],
)
@needs("tensorrt_rtx")
def test_the_bundles_engine_for_this_kind_of_gpu_is_taken(
    target: Target, settings: CompileSettings, tmp_path: Path
) -> None:
    path = write_colors_bundle(tmp_path / "b.bundle")
    compile_into_bundle(str(path), target, settings)
    device = cuda_module.Device("RTX 3060", (8, 6), False)
    with open_bundle(path) as bundle:
        (record,) = bundle.manifest.engines.values()
        plan = tensorrt_plan.plan_for(bundle, "fp32", "tensorrt-rtx", device, here(), print)
        assert plan == tensorrt_plan.EnginePlan(bundle.read(record.file))


@needs("tensorrt_rtx")
def test_an_engine_for_another_gpu_version_or_network_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_colors_bundle(tmp_path / "b.bundle")
    compile_into_bundle(str(path), SM86)
    asked: list[Target] = []

    def compiled(bundle: Any, variant: str, target: Target, **_: Any) -> bytes:
        asked.append(target)
        return b"compiled now"

    monkeypatch.setattr(tensorrt_plan, "cached_engine", compiled)
    with open_bundle(path) as bundle:

        def taken(capability: tuple[int, int] = (8, 6), target: str = "tensorrt-rtx", **changes: str) -> bytes:
            engines = {
                key: msgspec.structs.replace(item, target=target, provenance={**item.provenance, **changes})
                for key, item in bundle.manifest.engines.items()
            }
            changed = SimpleNamespace(
                manifest=msgspec.structs.replace(bundle.manifest, engines=engines), path=bundle.path, read=bundle.read
            )
            device = cuda_module.Device("a GPU", capability, False)
            return tensorrt_plan.plan_for(changed, "fp32", "tensorrt-rtx", device, here(), print).content  # type: ignore[arg-type]

        assert taken() != b"compiled now"
        assert taken((8, 9)) == b"compiled now"
        assert taken(version="1.0") == b"compiled now"
        assert taken(onnx_sha256="0") == b"compiled now"
        assert taken(system="Linux aarch64") == b"compiled now"
        assert taken(target="tensorrt") == b"compiled now"
        assert taken((8, 9), hardware="ampere-plus") != b"compiled now"
        assert taken(gpu="RTX 3060", driver="580.1") != b"compiled now"
        assert taken(gpu="RTX 3060", driver="570.0") == b"compiled now"
    assert set(asked) == {Target("tensorrt-rtx")}


@needs("tensorrt_rtx")
def test_code_for_the_host_comes_from_this_users_own_compiler_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a manifest says: TensorRT would load a shared library out of a version-compatible engine."""
    path = write_colors_bundle(tmp_path / "b.bundle")
    device = cuda_module.Device("RTX 3060", (8, 6), False)
    settings = CompileSettings(version_compatible=True)
    monkeypatch.setattr(tensorrt_plan, "cached_engine", lambda *_, **__: b"compiled for this device")
    monkeypatch.setattr(into_bundle, "compile_engine", lambda *_: Compiled(b"an engine with code in it", 1.0))
    said: list[str] = []

    def plan() -> tensorrt_plan.EnginePlan:
        with open_bundle(path) as bundle:
            return tensorrt_plan.plan_for(bundle, "fp32", "tensorrt-rtx", device, here(), said.append)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "maker"))
    assert compile_into_bundle(str(path), SM86, settings)[0].reason == "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "device"))
    assert plan() == tensorrt_plan.EnginePlan(b"compiled for this device", host_code=False)
    assert "contains code that runs on the host, and was not compiled by you on this device; it is not used" in said[0]
    (again,) = compile_into_bundle(str(path), SM86, settings)
    assert again.reason == "compiled again: the existing one was not compiled by you on this device"
    assert compile_into_bundle(str(path), SM86, settings)[0].reason == "up to date"
    assert plan() == tensorrt_plan.EnginePlan(b"an engine with code in it", host_code=True)
    # Another engine in its place, with its hash put right.
    with open_bundle(path) as bundle:
        (record,) = bundle.manifest.engines.values()
        files = {name: bundle.read(name) for name in bundle.manifest.files}
        manifest = bundle.manifest
    write_bundle(path, manifest, {**files, record.file: b"an engine with other code"}, overwrite=True)
    assert plan().content == b"compiled for this device"


# The real packages


@needs("tensorrt_rtx")
def test_what_is_no_engine_is_refused_with_tensorrts_own_reason() -> None:
    for content in (b"", b"junk" * 1000):
        cuda = CudaDouble()
        with pytest.raises(
            EngineError,
            match=r"tensorrt-rtx [\d.]+ cannot load the engine: .+; compile it on this device: edgebone compile BUNDLE",
        ) as caught:
            TensorRTEngine(content, target="tensorrt-rtx", cuda=cuda)
        assert "no reason given" not in str(caught.value)
        assert cuda.alive == {}


@needs("tensorrt_rtx")
@pytest.mark.skipif(not NO_GPU, reason="a GPU is here")
def test_where_there_is_no_gpu_a_real_engine_is_refused_and_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings")
    path = write_colors_bundle(tmp_path / "b.bundle")
    compile_into_bundle(str(path), SM86)
    with open_bundle(path) as bundle:
        (record,) = bundle.manifest.engines.values()
        with pytest.raises(EngineError, match=r"cudaGetDevice failed with .*; it needs an NVIDIA GPU and its driver"):
            TensorRTEngine(bundle.read(record.file), target="tensorrt-rtx")
        # Even where CUDA seems to be there, TensorRT finds that it is not.
        cuda = CudaDouble()
        with pytest.raises(EngineError, match=r"cannot load the engine: .*CUDA"):
            TensorRTEngine(bundle.read(record.file), target="tensorrt-rtx", cuda=cuda)
        assert cuda.alive == {}


ENGINES = Path(tensorrt_runtime.__file__).parent
OBJECTS = {
    "trt": "",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "config": "IRuntimeConfig",
}


def names_used() -> dict[str, set[str]]:
    """Attributes that the engine uses of TensorRT's objects, by object."""
    parts = ("engine", "memory", "outputs", "plan", "runtime", "slot")
    source = "".join((ENGINES / f"{name}.py").read_text() for name in parts)
    return {
        name: {
            found.split(".")[0]
            for found in re.findall(rf"(?<![\w.])(?:self\.)?_?{name}\.([A-Za-z]\w*(?:\.[A-Z]\w*)?)", source)
        }
        for name in OBJECTS
    }


@needs("tensorrt_rtx")
def test_every_name_that_is_used_is_one_of_the_real_package() -> None:
    import tensorrt_rtx

    used = names_used()
    assert {"execute_async_v3", "set_tensor_address", "infer_shapes"} <= used["context"]
    assert {"deserialize_cuda_engine", "engine_host_code_allowed", "DLA_core"} <= used["runtime"]
    for name, kind in OBJECTS.items():
        known = getattr(tensorrt_rtx, kind) if kind else tensorrt_rtx
        assert not [item for item in used[name] if not hasattr(known, item)], name
    for kind, words in (
        ("ILogger", "ERROR INTERNAL_ERROR WARNING"), ("TensorIOMode", "INPUT"), ("TensorLocation", "DEVICE"),
        ("TensorFormat", "LINEAR"), ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
        ("DataType", " ".join(tensorrt_runtime._DTYPES)),
    ):  # fmt: skip
        assert all(hasattr(getattr(tensorrt_rtx, kind), word) for word in words.split())
    # pybind11 wants the base class told by name, as the engine's own subclasses do it.
    source = (ENGINES / "outputs.py").read_text() + (ENGINES / "runtime.py").read_text()
    for kind in re.findall(r"class \w+\(trt\.(\w+)\)", source):
        assert f"trt.{kind}.__init__(self)" in source


def test_every_name_that_is_used_is_in_the_stubs_of_tensorrt_10() -> None:
    found = [Path(folder) / "tensorrt_bindings" / "tensorrt.pyi" for folder in sys.path]
    stubs = next((path for path in found if path.is_file()), None)
    if stubs is None:
        pytest.skip("tensorrt-stubs is not installed (make test installs it)")
    text = stubs.read_text()
    # TensorRT-RTX's own.
    rtx = {"CudaGraphStrategy", "cuda_graph_strategy"}
    for name, used in names_used().items():
        assert not [item for item in used - rtx if not re.search(rf"\b{item}\b", text)], name


@needs("tensorrt_rtx")
def test_the_double_has_no_call_that_the_real_package_lacks() -> None:
    import tensorrt_rtx

    for double, real in (
        (RuntimeDouble, tensorrt_rtx.Runtime), (EngineDouble, tensorrt_rtx.ICudaEngine),
        (ContextDouble, tensorrt_rtx.IExecutionContext),
    ):  # fmt: skip
        own = {name for name in vars(double) if not name.startswith("_")} - {"dtype"}
        assert not [name for name in own if not hasattr(real, name)]
    # And the callbacks are called as the real ones are.
    documented = tensorrt_rtx.IOutputAllocator.__doc__
    allocator = tensorrt_runtime_allocator()
    for name in ("reallocate_output_async", "notify_shape"):
        arguments = ", ".join(inspect.signature(getattr(type(allocator), name)).parameters)
        assert f"def {name}({arguments})" in documented


def tensorrt_runtime_allocator() -> Any:
    from edgebone.engines.tensorrt.outputs import output_allocator

    cuda = CudaDouble()
    return output_allocator(TensorRTDouble(cuda), cuda, False)


# The double itself: a check that cannot fail is none


def test_the_double_notices_what_it_is_there_for() -> None:
    cuda = CudaDouble()
    stream, host, device = cuda.create_stream(), cuda.allocate_host(8), cuda.allocate(8)
    cuda.view(host, 8)[:] = 7
    cuda.copy_to_device(device, host, 8, stream)
    cuda.view(host, 8)[:] = 8
    cuda.copy_to_host(host, device, 8, stream)
    assert set(cuda.view(host, 8)) == {0xA5}
    cuda.synchronize_stream(stream)
    assert cuda.problems == ["pinned input was overwritten before it was copied"]
    cuda.free(device)
    cuda.free(device + 1)
    cuda.put(0, Work("copy", lambda: None))
    cuda.put(stream, Work("copy", lambda: None))
    cuda.destroy_stream(stream)
    assert [re.sub(r"\d+", "N", line) for line in cuda.problems[1:]] == [
        "free: N is not there, or was freed before",
        "copy went into stream N, which is not there",
        "stream N was destroyed with work in it",
    ]
    assert list(cuda.alive.values()) == ["host memory"]


def test_the_double_notices_an_input_that_was_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = static(contexts=1, graphs=False)
    assert bench.run(images(0))
    monkeypatch.setattr(CudaDouble, "copy_to_device", lambda self, *_: None)
    assert not bench.run(images(1))
    assert bench.cuda.problems == ["the network ran before images was copied"]


def test_the_double_gives_wrong_numbers_without_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    for integrated in (True, False):
        for graphs in (True, False):
            bench = static(contexts=1, graphs=graphs, integrated=integrated)
            assert all(bench.run(images(0)) for _ in range(3))
            with monkeypatch.context() as patch:
                patch.setattr(CudaDouble, "synchronize_event", lambda self, event: None)
                assert not bench.run(images(0))


def test_a_frames_account_is_printed_and_written(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "tensorrt_frame_account.py"
    bundle = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    for arguments in ([], [bundle]):
        figures = tmp_path / "figures.json"
        command = [sys.executable, script, *arguments, "--frames", "5", "--json", figures]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = {row["way"]: row for row in json.loads(figures.read_text())["rows"]}
        assert all(way in done.stdout for way in rows)
        floor = rows["floor"]
        for name in ("launches", "copies in", "copies out", "waits", "allocations", "bytes in"):
            assert rows["CUDA graph"][name] == rows["no graph"][name] == floor[name]
        assert 0 <= rows["CUDA graph"]["bytes out"] - floor["bytes out"] < 256
        assert [rows[way]["calls"] for way in rows if way != "floor"] == [5, 3, 3, 3]
        assert rows["CUDA graph"]["host µs"] > 0


# On a GPU, where there is one


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_on_a_gpu_it_computes_what_the_network_says(target: str, tmp_path: Path) -> None:
    pytest.importorskip(target.replace("-", "_"))
    from edgebone.engines.opening import open_engine
    from edgebone.engines.spec import Candidate

    path = write_colors_bundle(tmp_path / "b.bundle", (1, 4))
    with open_bundle(path) as bundle, open_engine(bundle, Candidate(target, "fp32", "fp32")) as engine:
        for seed, batch in enumerate((1, 1, 1, 4, 4, 4, 2, 3)):
            fed = images(seed, batch)
            np.testing.assert_allclose(engine.run({"images": fed})["logits"], colors_outputs(fed), atol=1e-2)
