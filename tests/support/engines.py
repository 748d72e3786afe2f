"""Engines, opened as tests need them, and what is fed to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


def open_onnxruntime(model: bytes, **settings: Any) -> Any:
    from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, **settings)


def open_openvino(model: bytes, **settings: Any) -> Any:
    from edgebone.engines.openvino.engine import OpenVinoEngine

    return OpenVinoEngine(model, **settings)


class OnnxRuntimeOnGpu:
    """onnxruntime as it is with a GPU: its providers and its device are the CPU's under other names."""

    def __init__(self, works: bool = True) -> None:
        import onnxruntime

        self._real = onnxruntime
        self._works = works
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.sessions: list[Any] = []
        self.OrtValue = SimpleNamespace(ortvalue_from_numpy=self._to_device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _to_device(self, array: np.ndarray, device: str, index: int) -> Any:
        assert (device, index) == ("cuda", 0)
        return self._real.OrtValue.ortvalue_from_numpy(array.copy(), "cpu", 0)

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, source: Any, options: Any, providers: list[Any], **settings: Any) -> Any:
        session = self._real.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        if providers == ["CPUExecutionProvider"]:
            return session
        self.asked.append((providers, settings))
        self.sessions.append(session)
        names = [name for name, _ in providers] if self._works else []
        session.get_providers = lambda: [*names, "CPUExecutionProvider"]
        session.run = None
        make = session.io_binding

        def io_binding() -> Any:
            binding = make()
            bind = binding.bind_output
            binding.bind_output = lambda name, device: bind(name, {"cuda": "cpu"}[device])
            return binding

        session.io_binding = io_binding
        return session


def images(seed: int, batch: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Low contrast around a mean of the seed's own, so that each input has outputs unlike any other's.
    mean = rng.integers(20, 235, (batch, 1, 1, 3))
    return (mean + rng.integers(-10, 10, (batch, 32, 32, 3))).astype(np.uint8)
