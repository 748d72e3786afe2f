"""The request to open an engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from edgebone.core.bundle import Bundle
from edgebone.core.caches import NetworkCache, cache_folder
from edgebone.engines.spec import Candidate


@dataclass(frozen=True)
class EngineRequest:
    """A network, and how to run it.

    Attributes:
        candidate: Precision, hint and threads.
        batch_range: Smallest and largest batch.
        read: Returns the ONNX file's bytes; may raise ``BundleError``.
        bundle: The bundle that the network is a variant of; None if it belongs to no bundle.
        keeps: Whether to use the user's cache of compiled networks.
        behind_another: Whether another engine runs before it on the same cores, frame by frame.
        notice: Called with a line before work that takes minutes.
    """

    candidate: Candidate
    batch_range: tuple[int, int]
    read: Callable[[], bytes]
    bundle: Bundle | None = None
    keeps: bool = True
    behind_another: bool = False
    notice: Callable[[str], None] = logging.getLogger("edgebone.engines").warning

    def file(self) -> AbstractContextManager[Path | bytes]:
        """Provide the ONNX file as the path of a private copy, or as bytes if there is none."""
        if self.bundle is None:
            return nullcontext(self.read())
        return self.bundle.private_copy(self.bundle.manifest.graph(self.candidate.variant).file)

    def cache(self) -> NetworkCache | None:
        """The cache of the compiled network; None for none.

        It creates the user's folder: only for engines that compile.
        """
        folder = None if self.bundle is None else cache_folder(self.candidate.engine)
        if self.bundle is None or folder is None:
            return None
        manifest = self.bundle.manifest
        return NetworkCache(folder, manifest.files[manifest.graph(self.candidate.variant).file].sha256)
