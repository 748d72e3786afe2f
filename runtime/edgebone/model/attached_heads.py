"""Detached heads: engines of their own behind the backbone's, each with its own rate and swappable while serving.

Behind onnxruntime on a GPU their inputs stay on the device; behind TensorRT they pass through pinned host memory, which
on a Jetson is the device's own. Neither has been run on hardware by this project yet.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.head_file import HeadFile, parse_head, read_head, refusal
from edgebone.core.results import Result
from edgebone.core.tensors import Array, check_rows
from edgebone.decode.contract import Decoder
from edgebone.decode.registry import make_decoder, setting_names
from edgebone.engines.opening import open_model
from edgebone.engines.protocol import AsyncEngine, Outputs
from edgebone.engines.spec import Candidate
from edgebone.tasks.embedding import EMBEDDING


class DetachedHead:
    """One head: its engine and its decoder.

    Thread-safe; if closed while it runs, it frees its engine after the last run.
    """

    def __init__(self, artefact: HeadFile, engine: AsyncEngine, decoder: Decoder, taps: Mapping[str, str]) -> None:
        self.artefact = artefact
        self._engine = engine
        self._decoder = decoder
        self._taps = taps
        self._outputs = artefact.manifest.head.outputs
        self._lock = threading.Lock()
        self._runs = 0
        self._closed = False

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep the engine open for a run; yield False if it is already closed."""
        with self._lock:
            usable = not self._closed
            self._runs += usable
        try:
            yield usable
        finally:
            if usable:
                with self._lock:
                    self._runs -= 1
                    last = self._closed and not self._runs
                if last:
                    self._engine.close()

    def run(self, outputs: Mapping[str, Array]) -> Outputs:
        """Run on the backbone's outputs."""
        return self._engine.run({name: outputs[tap] for name, tap in self._taps.items()})

    def decode(self, outputs: Mapping[str, Array], index: int, geometry: Geometry) -> Result:
        """Return one picture's result from a batch.

        Raises:
            EngineError: The head returned too few rows.
        """
        check_rows(outputs, self._outputs, index + 1)
        found = self._decoder([outputs[name][index] for name in self._outputs], geometry)
        # After a swap, vectors of the old head may still be in flight.
        vector = EMBEDDING.of(found)
        return found if vector is None else replace(vector, head=self.artefact.manifest)

    def close(self) -> None:
        """Free the engine, at once or after the run in progress."""
        with self._lock:
            idle, self._closed = not self._closed and not self._runs, True
        if idle:
            self._engine.close()


@dataclass(frozen=True)
class HeadRun:
    """A head and its outputs: after a swap, the old head's outputs are still decoded by the old head."""

    head: DetachedHead
    outputs: Outputs


class DetachedHeads:
    """All detached heads of a bundle, by name; a context manager.

    Args:
        bundle: An open bundle.
        candidate: The backbone's candidate; the heads run in the same engine, in FP32.
        settings: The caller's values for decoders' parameters, such as ``top_k``; None keeps the bundle's.

    Raises:
        BundleError: An artefact cannot be read, or its decoder rejects it.
        EngineError: The engine rejects a head's graph.
    """

    def __init__(self, bundle: Bundle, candidate: Candidate, settings: Mapping[str, Any]) -> None:
        self._manifest = bundle.manifest
        self._candidate = replace(candidate, precision="fp32")
        self._settings = settings
        self._swapping = threading.Lock()
        self._closed = False
        self._heads: dict[str, DetachedHead] = {}
        try:
            for name, head in bundle.manifest.heads.items():
                if head.detached:
                    artefact = parse_head(bundle.read(head.file), f"{bundle.path}, {head.file}")
                    self._heads[name] = self._open(name, artefact)
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The heads' names."""
        return tuple(self._heads)

    def artefact(self, name: str) -> HeadFile:
        """Return the head that currently runs under a name."""
        return self._heads[name].artefact

    def _open(self, name: str, artefact: HeadFile) -> DetachedHead:
        manifest = self._manifest
        own = artefact.manifest
        given = {spec.name for spec in manifest.outputs}
        absent = [key for key in own.reads if key not in manifest.taps or manifest.taps[key].output not in given]
        if absent:
            raise BundleError(f"head {name} reads {', '.join(absent)}, which the backbone's graph does not output")
        known = setting_names(name, own.head)
        settings = {key: value for key, value in self._settings.items() if value is not None and key in known}
        specs = {spec.name: spec for spec in own.outputs}
        outputs = [specs[output] for output in own.head.outputs]
        decoder = make_decoder(name, own.head, outputs, manifest.preprocess.size_hw, **settings)
        batch = manifest.variants[self._candidate.variant].batch
        try:
            engine = open_model(self._candidate, artefact.graph, batch, behind_another=True)
        except EngineError as error:
            raise EngineError(f"head {name}: {error}") from error
        found = {spec.name for spec in engine.outputs}
        if not found.issuperset(own.head.outputs):
            engine.close()
            raise BundleError(
                f"head {name}: its graph outputs {', '.join(sorted(found))}, its head.json says "
                f"{', '.join(own.head.outputs)}; fit it again"
            )
        return DetachedHead(artefact, engine, decoder, {key: manifest.taps[key].output for key in own.reads})

    def run(self, outputs: Outputs, wanted: Collection[str] | None = None) -> dict[str, HeadRun]:
        """Run heads on the backbone's outputs.

        Args:
            outputs: The backbone's outputs.
            wanted: The heads to run; None for all.

        Raises:
            EngineError: A head's engine failed.
        """
        ran: dict[str, HeadRun] = {}
        for name in self._heads:
            if wanted is not None and name not in wanted:
                continue
            while name not in ran:
                head = self._heads[name]
                # A head that was swapped out just now is closed: use the new one.
                with head.held() as usable:
                    if usable:
                        ran[name] = HeadRun(head, head.run(outputs))
                        continue
                if self._heads[name] is head:
                    raise EngineError(f"head {name}: the engine is closed")
        return ran

    def swap(self, name: str, head: str | Path | HeadFile) -> None:
        """Replace a head; the old one finishes its runs in progress and is then closed.

        The new head is opened and run once before the old one is replaced.

        Raises:
            BundleError: No such head, or the new one was fitted on another backbone, or cannot be read.
            EngineError: The engine rejects it, or the heads are closed. After any error the old head keeps running.
        """
        if self._closed:
            raise _closed(name)
        artefact = head if isinstance(head, HeadFile) else read_head(head)
        if name not in self._heads:
            raise BundleError(
                f"there is no head {name} to swap, only {', '.join(self._heads) or 'none'}; to swap a head, "
                "attach it with: edgebone attach --detached"
            )
        manifest = self._manifest
        own = artefact.manifest
        reason = refusal(own.reads, manifest.taps, own.backbone, manifest.preprocess)
        if reason:
            raise BundleError(f"{artefact.where}: the head does not fit this backbone: {reason}")
        opened = self._open(name, artefact)
        try:
            # The first run is the slowest and the most likely to fail.
            low = manifest.variants[self._candidate.variant].batch[0]
            taps = {key: manifest.taps[key] for key in own.reads}
            opened.run({tap.output: np.zeros((low, *tap.shape), np.float32) for tap in taps.values()})
        except BaseException:
            opened.close()
            raise
        with self._swapping:
            # A concurrent close() does not know of the new head.
            late, old = self._closed, self._heads[name]
            if not late:
                self._heads = {**self._heads, name: opened}
        (opened if late else old).close()
        if late:
            raise _closed(name)

    def close(self) -> None:
        """Free all engines; no head can be added afterwards."""
        with self._swapping:
            self._closed = True
        for head in self._heads.values():
            head.close()

    def __enter__(self) -> DetachedHeads:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _closed(name: str) -> EngineError:
    return EngineError(f"head {name} cannot be swapped: the model is closed; load the bundle again")
