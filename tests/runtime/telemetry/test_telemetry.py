"""Telemetry: sensors in files laid out as the kernels lay them out, and figures fetched over real HTTP."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import edgebone
from edgebone.core import limits
from edgebone.core.errors import EdgeboneError
from edgebone.core.timing import Percentiles
from edgebone.stream.stats import STAGES, SourceStats, StreamStats
from edgebone.telemetry import Reading, probe_sensors, serve_metrics
from edgebone.telemetry.sensors import PackagePower, read_card
from support.camera_servers import wait_for
from support.pictures import RED, picture
from support.slow_engine import slow_model


def lay(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def read_all(root: Path) -> dict[tuple[str, str], float]:
    return {(r.quantity, r.device): r.value for sensor in probe_sensors(root) for r in sensor()}


def test_a_jetsons_rails_temperatures_and_gpu(tmp_path: Path) -> None:
    rails = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    lay(tmp_path, {
        f"{rails}/in1_label": "VDD_GPU_SOC", f"{rails}/in1_input": 5000, f"{rails}/curr1_input": 1200,
        f"{rails}/in2_label": "VDD_CPU_CV", f"{rails}/in2_input": 5000, f"{rails}/curr2_input": 300,
        f"{rails}/in3_label": "VIN_SYS_5V0", f"{rails}/in3_input": 5000,
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": 48250,
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal", "sys/class/thermal/thermal_zone1/temp": "",
        "sys/devices/gpu.0/load": 734,
    })  # fmt: skip
    found = read_all(tmp_path)
    assert found == {
        ("power_watts", "VDD_GPU_SOC"): 6.0,
        ("power_watts", "VDD_CPU_CV"): 1.5,
        ("temperature_celsius", "cpu-thermal"): 48.25,
        ("load_ratio", "gpu"): 0.734,
    }


def test_a_packages_power_is_its_energy_over_time_also_where_the_counter_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    lay(tmp_path, {
        "sys/class/powercap/intel-rapl:0/name": "package-0",
        "sys/class/powercap/intel-rapl:0/energy_uj": 999_000_000,
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": 1_000_000_000,
        "sys/class/powercap/intel-rapl:0:0/energy_uj": 5,
    })  # fmt: skip
    assert len(probe_sensors(tmp_path)) == 2
    sensor = PackagePower(folder)
    before_s = time.monotonic()
    assert sensor() == []
    began_s = time.monotonic()
    time.sleep(0.2)
    (folder / "energy_uj").write_text("1000000")
    ended_s = time.monotonic()
    (reading,) = sensor()
    after_s = time.monotonic()
    assert (reading.quantity, reading.device) == ("power_watts", "cpu package-0")
    # 2 J in a little more than 0.2 s, or in much more where the machine is busy.
    assert 2 / (after_s - before_s) * 0.99 <= reading.value <= 2 / (ended_s - began_s) * 1.01


def test_this_process_is_always_there() -> None:
    found = read_all(Path("/"))
    assert found["threads", "process"] == threading.active_count() or found["threads", "process"] > 1
    assert found["memory_bytes", "process"] > 20e6
    assert found["open_files", "process"] >= 3
    assert found["cpu_seconds", "process"] > 0


def test_a_card_without_some_values_gives_the_others() -> None:
    class NoSuchValueError(Exception):
        pass

    def refuse(_: object) -> float:
        raise NoSuchValueError

    nvml: Any = SimpleNamespace(
        NVMLError=NoSuchValueError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetTemperature=lambda card, which: 61,
        nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=55),
        nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(used=2**30),
        nvmlDeviceGetClockInfo=lambda card, which: 1500,
    )
    assert read_card(nvml, "gpu 0", object()) == [
        Reading("temperature_celsius", "gpu 0", 61.0),
        Reading("load_ratio", "gpu 0", 0.55),
        Reading("memory_bytes", "gpu 0", 2.0**30),
        Reading("clock_hertz", "gpu 0", 1.5e9),
    ]


def test_the_names_that_are_asked_of_nvml_are_its_own() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name in (
        "nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "NVMLError", "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU", "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetClockInfo", "NVML_CLOCK_SM",
    ):  # fmt: skip
        assert hasattr(pynvml, name)


def fetch(port: int) -> dict[str, dict[frozenset[str], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        sample.name: {frozenset(s.labels.values()): s.value for s in family.samples if s.name == sample.name}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_streams_figures_are_fetched_while_it_runs(colors_bundle: Path) -> None:
    threads = threading.active_count()
    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)] * 30) as stream:
        server = serve_metrics(lambda: stream.stats, 0)
        seen = []
        for number, _ in enumerate(stream):
            if number in (9, 29):
                seen.append(fetch(server.port))
        with pytest.raises(EdgeboneError, match=f"port {server.port} of 127.0.0.1: .*in use; choose another"):
            serve_metrics(lambda: stream.stats, server.port)
        server.close()
        again = serve_metrics(lambda: stream.stats, server.port)
        again.close()
    assert [found["edgebone_frames_total"][frozenset(["arrays"])] for found in seen] == [10, 30]
    assert seen[0]["edgebone_stage_seconds"][frozenset(["infer", "0.5"])] > 0
    assert seen[0]["edgebone_age_seconds"][frozenset(["arrays", "0.99"])] > 0
    assert seen[0]["edgebone_machine_memory_bytes"][frozenset(["process"])] > 20e6
    # The last answer's own thread ends a moment later.
    wait_for(lambda: threading.active_count() <= threads)


def fetch_from(host: str, port: int) -> bytes:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        content: bytes = answer.read()
        return content


def no_stats() -> StreamStats:
    spreads = dict.fromkeys(STAGES, Percentiles(0.0, 0.0, 0.0, 0.0))
    return StreamStats(frames=0, dropped=0, seconds=0.0, fps=0.0, sources=(), **spreads)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_healthz_says_whether_frames_are_seen() -> None:
    def source(state: str, error: str = "") -> SourceStats:
        return SourceStats("cam", state, 0, 0, 0, 0, 0, error, 0.0, Percentiles(0.0, 0.0, 0.0, 0.0))

    now = [replace(no_stats(), sources=(source("CONNECTING"), source("LIVE")))]
    server = serve_metrics(lambda: now[0], 0, [])
    assert ask(server.port, "/healthz") == (200, "ok\n")
    assert ask(server.port, "/healthz", "HEAD") == (200, "")
    for wrong, words in (
        ({"sources": (source("CONNECTING"),)}, "cam: connecting"),
        (
            {"sources": (source("RECONNECTING", "no route"), source("STALLED"))},
            "cam: reconnecting: no route\ncam: stalled",
        ),
        ({"sources": (source("ENDED", "broken"),)}, "cam: ended: broken"),
        ({"infer_now_s": 12.0}, "the engine has not answered for 12 s"),
        ({"sink_now_s": 30.0}, "the consumer has been busy with one result for 30 s"),
    ):
        now[0] = replace(no_stats(), **{"sources": (source("LIVE"),), **wrong})
        assert ask(server.port, "/healthz") == (503, f"{words}\n")
    now[0] = replace(no_stats(), sources=(source("ENDED"),))
    assert ask(server.port, "/healthz")[0] == 200
    for path in ("/", "/health", "/metrics/", "/favicon.ico", "/../etc/passwd"):
        assert ask(server.port, path) == (404, "there are /metrics and /healthz\n")
    server.close()


def test_an_engine_or_a_caller_that_takes_long_is_in_the_figures(colors_bundle: Path) -> None:
    with slow_model(colors_bundle, 0.0) as model, model.stream("synthetic://32x32@30") as stream:
        frames = iter(stream)
        next(frames)
        time.sleep(0.2)
        assert stream.stats.sink_now_s >= 0.2
        model.engine.answers.clear()
        try:
            wait_for(lambda: stream.stats.infer_now_s > 0.2)
        finally:
            model.engine.answers.set()
        wait_for(lambda: stream.stats.infer_now_s < 0.2)
    assert stream.stats.sink_now_s == 0


def test_only_this_machines_programs_reach_the_figures_unless_an_address_is_given() -> None:
    server = serve_metrics(no_stats, 0, [])
    assert b"edgebone_frames" in fetch_from("127.0.0.1", server.port)
    with pytest.raises(OSError, match="refused"):
        fetch_from("127.0.0.2", server.port)
    server.close()
    for host, reached in (("0.0.0.0", "127.0.0.2"), ("::1", "[::1]"), ("localhost", "127.0.0.1")):
        server = serve_metrics(no_stats, 0, [], host)
        assert b"edgebone_frames" in fetch_from(reached, server.port)
        server.close()
    for host in ("192.0.2.1", "no.such.host.invalid", "x" * 99):
        with pytest.raises(EdgeboneError, match=f"port 1234 of {host}: .*; choose another"):
            serve_metrics(no_stats, 1234, [], host)


@pytest.mark.slow
def test_slow_connections_are_few_and_end_and_others_are_served_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METRICS_TIMEOUT_S", 3.0)
    threads = threading.active_count()
    server = serve_metrics(no_stats, 0, [])
    slow = []
    stop = threading.Event()

    def drip() -> None:
        # Never silent for long: the time is for all of a request.
        while not stop.wait(0.3):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.send(b"X")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for _ in range(60):
            slow.append(socket.create_connection(("127.0.0.1", server.port)))
            with contextlib.suppress(OSError):
                slow[-1].send(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            assert threading.active_count() <= threads + 2 + limits.METRICS_CONNECTIONS
        wait_for(lambda: threading.active_count() <= threads + 2)
        assert b"edgebone_frames" in fetch_from("127.0.0.1", server.port)
    finally:
        stop.set()
        dripping.join()
        for connection in slow:
            connection.close()
        server.close()


def test_a_request_of_megabytes_is_not_read() -> None:
    server = serve_metrics(no_stats, 0, [])
    with socket.create_connection(("127.0.0.1", server.port)) as connection, contextlib.suppress(OSError):
        connection.sendall(b"GET /metrics HTTP/1.0\r\n" + 50 * (b"X: " + b"a" * 60000 + b"\r\n") + b"\r\n")
        assert connection.makefile("rb").read() == b""
    assert b"edgebone_frames" in fetch_from("127.0.0.1", server.port)
    server.close()


def test_the_server_rests_where_no_descriptor_is_left_for_a_connection() -> None:
    program = """
import resource, socket, time
from edgebone.telemetry import serve_metrics

server = serve_metrics(lambda: None, 0, [])
waiting = socket.socket()
resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1,) * 2)
waiting.connect(("127.0.0.1", server.port))
began_s = time.process_time()
time.sleep(1)
print(time.process_time() - began_s)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.2
