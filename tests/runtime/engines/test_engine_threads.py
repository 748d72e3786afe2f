"""An engine belongs to threads of its own: who calls it, what they make of its errors, and what a fork has of them."""

from __future__ import annotations

import _thread
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from reload_storm import Outcome, sighup, swap

import edgebone
from edgebone.core.errors import EngineError
from edgebone.engines.tensorrt.engine import TensorRTEngine
from edgebone.engines.threads import EngineThreads
from edgebone_export.heads.attach.attach import attach
from support.bundles import colors_onnx
from support.cuda_double import CudaDouble, TensorRTDouble, make_plan
from support.engines import images, open_onnxruntime, open_openvino
from support.heads import linear_head, saved
from support.machine import needs
from support.networks import classifier, write_network

ENGINES = [pytest.param(name, marks=needs(name)) for name in ("onnxruntime", "openvino")]
Calls = dict[int, set[threading.Thread]]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the detached head ``slow``, and beside it another head that can take its place: ``slow.head``."""
    network = write_network(tmp_path_factory.mktemp("threads") / "network.bundle", classifier(batch="batch"), (1, 4))
    saved(linear_head(network, "slow", seed=1), network.parent)
    return attach(network, [linear_head(network, "slow")], network.with_name("detached.bundle"), detached=True).path


# Who calls


class Recorder:
    """Notes which thread makes which call into which native object, and on which thread the object is freed."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.threads: Calls = defaultdict(set)
        self._objects = 0

    def note(self, name: str, number: int) -> None:
        self.names.add(name)
        self.threads[number].add(threading.current_thread())

    def number(self, native: Any) -> int:
        """A new object's own, also after another one has its address."""
        self._objects += 1
        weakref.finalize(native, self.note, "free", self._objects)
        return self._objects

    def wrap(self, patch: pytest.MonkeyPatch, kind: type, *methods: str) -> None:
        for method in methods:
            real = getattr(kind, method)

            def recorded(native: Any, *args: Any, _real: Any = real, _name: str = method, **kwargs: Any) -> Any:
                if "_number" not in vars(native):
                    native._number = self.number(native)
                self.note(_name, native._number)
                return _real(native, *args, **kwargs)

            patch.setattr(kind, method, recorded)


def record_onnxruntime(recorder: Recorder, patch: pytest.MonkeyPatch) -> set[str]:
    import onnxruntime

    methods = ("__init__", "get_inputs", "get_outputs", "run")
    recorder.wrap(patch, onnxruntime.InferenceSession, *methods)
    return {*methods, "free"}


def record_openvino(recorder: Recorder, patch: pytest.MonkeyPatch) -> set[str]:
    import openvino
    from openvino.frontend import FrontEnd

    recorder.wrap(patch, FrontEnd, "load", "convert")
    recorder.wrap(patch, openvino.Core, "compile_model")
    recorder.wrap(patch, openvino.CompiledModel, "create_infer_request")
    recorder.wrap(patch, openvino.InferRequest, "infer")
    return {"load", "convert", "compile_model", "create_infer_request", "infer", "free"}


def test_nobody_but_an_engines_own_threads_calls_into_it(
    detached: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    expected = {"onnxruntime": record_onnxruntime, "openvino": record_openvino}[engine](recorder, monkeypatch)
    with edgebone.load(detached, engine=engine) as model:
        image = np.zeros((40, 40, 3), np.uint8)
        model(image)
        model.start(model.prepare([])).result()
        with model.stream([image] * 30) as stream:
            for frame, _ in stream:
                if frame.index == 5:
                    swapper = threading.Thread(target=stream.swap, args=(detached,), kwargs={"engine": engine})
                    swapper.start()
                    swapper.join()
                if frame.index == 15:
                    stream.model.swap_head("slow", detached.with_name("slow.head"))
    gc.collect()
    assert recorder.names == expected
    callers = [thread for threads in recorder.threads.values() for thread in threads]
    assert {thread.name.rpartition("_")[0] for thread in callers} == {f"edgebone-{engine}"}
    # Two backbones, the first one's head and two of the second; their threads serve no other engine, and are gone.
    assert not any(thread.is_alive() for thread in callers)
    if engine == "onnxruntime":
        assert len(recorder.threads) == 5
        assert len(set(callers)) == len(callers)


@needs("onnxruntime")
def test_nobody_but_its_own_threads_calls_tensorrt_and_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    callers: set[str] = set()
    real = CudaDouble._call

    def recorded(cuda: CudaDouble, name: str, *args: Any, **kwargs: Any) -> Any:
        callers.add(threading.current_thread().name.rpartition("_")[0])
        return real(cuda, name, *args, **kwargs)

    monkeypatch.setattr(CudaDouble, "_call", recorded)
    cuda = CudaDouble()
    with TensorRTEngine(make_plan(colors_onnx((1, 1))), cuda=cuda, trt=TensorRTDouble(cuda)) as engine:
        engine.run({"images": images(0)})
        engine.submit({"images": images(1)}).result(30)
    assert cuda.alive == {}
    assert callers == {"edgebone-tensorrt"}


def test_an_engine_that_does_not_open_is_freed_by_its_threads_which_end() -> None:
    freed: list[str] = []
    threads = EngineThreads("gone", free=lambda: freed.append(threading.current_thread().name))
    with pytest.raises(EngineError, match="gone cannot load the network: no such thing"):
        threads.open(_raise, ValueError("\n\n no such thing \n and more"))
    assert freed == ["edgebone-gone_0"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgebone-gone")]


def test_an_error_holds_nothing_of_the_engine() -> None:
    class Native:
        pass

    kept: list[weakref.ref[Native]] = []

    def work() -> None:
        native = Native()
        kept.append(weakref.ref(native))
        raise ValueError("inside")

    threads = EngineThreads("some")
    with pytest.raises(EngineError) as caught:
        threads.call(work)
    assert kept[0]() is None
    assert isinstance(caught.value.__cause__, ValueError)
    threads.close()


def callers_of(thread: threading.Thread) -> set[str]:
    """The names of the functions that a thread is in."""
    frame, names = sys._current_frames().get(thread.ident or 0), set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return names


def test_ctrl_c_waits_for_the_run_whose_input_it_would_free() -> None:
    threads = EngineThreads("some")
    begun, interrupted, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        interrupted.wait(30)
        ended.append(1)

    def interrupt() -> None:
        begun.wait(30)
        while "result" not in callers_of(threading.main_thread()):
            time.sleep(0.001)
        _thread.interrupt_main()
        interrupted.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        threads.call(work)
    assert ended == [1]
    assert threads.call(int, "7") == 7
    threads.close()
    with pytest.raises(EngineError, match="some: the engine is closed"):
        threads.call(int)


# What native code raises


def _raise(error: BaseException) -> None:
    raise error


def network(kind: int, node: Any = None, shape: list[Any] | None = None, name: str = "y") -> bytes:
    """One node from ``x``, float32 [1, 3], to ``y``."""
    value = helper.make_tensor_value_info
    node = node or helper.make_node("Cast", ["x"], [name], to=kind)
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [1, 3])], [value(name, kind, shape or [1, 3])]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(made.SerializeToString())


def sequence() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("SplitToSequence", ["x"], ["y"], axis=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1, 1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


REFUSED: dict[str, Callable[[], bytes]] = {
    "strings": lambda: network(TensorProto.STRING),
    "a sequence": sequence,
    "float8": lambda: network(TensorProto.FLOAT8E4M3FN),
    "a name that is no text": lambda: network(TensorProto.FLOAT, name="yyyy").replace(b"yyyy", b"\xff\xfe\xfd\xfc"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_network_gives_is_arrays_of_numbers_or_it_is_refused_in_one_line(engine: str, kind: str) -> None:
    opener = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[engine]
    try:
        with opener(REFUSED[kind]()) as opened:
            # An engine that takes it gives numbers.
            given = opened.run({"x": np.float32([[1, 2, 3]])})
            assert all(array.dtype.kind in "fiu" for array in given.values())
    except EngineError as error:
        assert "\n" not in str(error)


@needs("onnxruntime")
@pytest.mark.parametrize(("kind", "said"), [("strings", "y is a tensor(string)"), ("a sequence", "y is a seq(tensor")])
def test_onnxruntime_names_the_output_that_is_no_array(kind: str, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        open_onnxruntime(REFUSED[kind]())
    assert said in str(caught.value)


def test_a_number_of_threads_that_no_engine_takes_is_refused_in_one_line(engine: str) -> None:
    opener = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[engine]
    with pytest.raises(EngineError) as caught:
        opener(colors_onnx((1, 1)), threads=2**40)
    assert "\n" not in str(caught.value)


# A fork

_FORK = """
import gc, os, sys
import numpy as np
import edgebone
from edgebone.core.errors import EngineError

bundle, engine = sys.argv[1:]
image = np.zeros((48, 64, 3), np.uint8)
model = edgebone.load(bundle, engine=engine)
model(image)
child = os.fork()
if not child:
    for attempt in (lambda: model(image), lambda: model.start(model.prepare([]))):
        try:
            attempt()
        except EngineError as error:
            print(error, flush=True)
    model.close()
    del model, attempt
    gc.collect()
    with edgebone.load(bundle, engine=engine) as own:
        own(image)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
model(image)
model.close()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_fork_is_refused_the_engine_and_may_load_its_own(colors_bundle: Path, engine: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORK, str(colors_bundle), engine],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{engine}: the engine was loaded by another process") for line in lines)
    assert all('"spawn"' in line for line in lines)


# Storms. `benchmarks/reload_storm.py` goes on for as long as it is told.

STORM_S = 30


def _lives(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome
    assert outcome.reloads > 5


@pytest.mark.slow
def test_a_run_lives_through_a_storm_of_sighup(colors_bundle: Path, engine: str) -> None:
    _lives(sighup(colors_bundle, engine, 0.05, STORM_S))


@pytest.mark.slow
def test_a_stream_lives_through_swaps_by_four_threads(colors_bundle: Path, engine: str) -> None:
    _lives(swap(colors_bundle, engine, STORM_S))


@pytest.mark.slow
def test_a_stream_lives_through_swaps_of_a_head_by_four_threads(detached: Path, engine: str) -> None:
    _lives(swap(detached, engine, STORM_S, f"slow={detached.with_name('slow.head')}"))
