"""Bundles from strangers: the bytes that are used are those that were checked, and nothing else is read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, external_data_helper
from PIL import Image

from edgebone import load
from edgebone.core import reading
from edgebone.core.bundle import open_bundle
from edgebone.core.errors import BundleError
from edgebone.core.head_file import read_head
from edgebone.engines.opening import open_engine
from edgebone.engines.spec import Candidate
from support.bundles import as_onnxruntimes_own, as_openvino_ir, colors_onnx, write_colors_bundle
from support.machine import needs
from support.pictures import GREEN, picture
from support.program import edgebone

GRAPH = "onnx/fp32.onnx"
ON_EVERY_ENGINE = pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=needs(name)) for name in ("onnxruntime", "openvino")]
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is in the cache, under its hash, is not read at all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_colors_bundle(tmp_path / "colors.bundle")


def put(bundle: Path, name: str, content: bytes) -> None:
    """Change a file as an attacker would: its record, too."""
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def zipped(bundle: Path, method: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    target = bundle.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", method) as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(bundle))
        for name, content in more.items():
            archive.writestr(name, content)
    return target


def reading_a_file(location: str) -> bytes:
    """The colour network, with its weights in another file."""
    model = onnx.load_from_string(colors_onnx((1, 1)))
    (weights,) = (item for item in model.graph.initializer if item.name == "weights")
    raw = onnx.numpy_helper.to_array(weights).tobytes()
    weights.ClearField("float_data")
    weights.raw_data = raw
    external_data_helper.set_external_data(weights, location)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    return model.SerializeToString()


def swapped() -> bytes:
    """A network of the same shape that says red to green."""
    model = onnx.load_from_string(colors_onnx((1, 1)))
    (weights,) = (item for item in model.graph.initializer if item.name == "weights")
    weights.float_data[:] = reversed(weights.float_data)
    return model.SerializeToString()


@ON_EVERY_ENGINE
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_no_file_of_the_device_is_read_through_a_bundle(bundle: Path, tmp_path: Path, kind: str, engine: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0:root:/root:/bin/bash\nand so on; 48 b.")
    for location in (str(secret), "../secret", "secret"):
        put(bundle, GRAPH, reading_a_file(location))
        path = bundle if kind == "folder" else zipped(bundle)
        with pytest.raises(BundleError, match=rf"{GRAPH}: .*external data"):
            load(path, engine=engine)


def test_a_refused_network_is_one_line_and_an_exit_code(bundle: Path, tmp_path: Path) -> None:
    put(bundle, GRAPH, reading_a_file("/etc/hostname"))
    Image.fromarray(picture(GREEN)).save(tmp_path / "a.png")
    done = edgebone("run", zipped(bundle), "a.png", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert f"{GRAPH}: not a valid ONNX network for a bundle: it keeps tensors in other files" in done.stderr
    done = edgebone("doctor", bundle)
    assert done.returncode
    assert "external data" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_files_that_the_manifest_does_not_list_are_refused_by_name(bundle: Path, kind: str) -> None:
    # Of a folder that nothing is listed in, the folder is named.
    for name, named in (("onnx/weights.bin", ""), ("w.bin", ""), ("deep/er/w.bin", "deep")):
        place = bundle / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"1")
        said = named if named and kind == "folder" else name
        with pytest.raises(BundleError, match=f"it holds {said}, which its manifest does not list"):
            open_bundle(bundle if kind == "folder" else zipped(bundle))
        place.unlink()
    shutil.rmtree(bundle / "deep")
    (bundle / "onnx" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="it holds onnx/link"):
        open_bundle(bundle)


def test_what_file_managers_leave_in_a_bundle_is_no_reason_to_refuse_it(bundle: Path) -> None:
    for name in (".DS_Store", "onnx/._fp32.onnx", "Thumbs.db", "golden/desktop.ini"):
        (bundle / name).write_bytes(b"x")
    open_bundle(bundle).close()
    open_bundle(zipped(bundle, **{"__MACOSX/._manifest.json": b"x"})).close()


@ON_EVERY_ENGINE
@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("make", [pytest.param(as_openvino_ir, marks=needs("openvino")), as_onnxruntimes_own])
def test_another_format_under_a_networks_name_is_refused(
    bundle: Path, tmp_path: Path, kind: str, engine: str, make: Callable[[Path], bytes]
) -> None:
    put(bundle, GRAPH, make(tmp_path))
    with pytest.raises(BundleError, match=f"{GRAPH}: not a valid ONNX network for a bundle"):
        load(bundle if kind == "folder" else zipped(bundle), engine=engine)


@ON_EVERY_ENGINE
def test_a_network_that_is_changed_after_the_check_is_not_run(bundle: Path, engine: str) -> None:
    with open_bundle(bundle) as opened:
        (bundle / GRAPH).write_bytes(swapped())
        with pytest.raises(BundleError, match=f"{GRAPH} was altered or damaged"):
            open_engine(opened, Candidate(engine, "fp32", "fp32"))
    with pytest.raises(BundleError, match=f"{GRAPH} was altered or damaged"):
        load(bundle, engine=engine)


def test_a_bundle_that_is_loaded_is_checked_whole(bundle: Path) -> None:
    for name in (GRAPH, "golden/tensors.npz", "golden/image.png"):
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(BundleError, match=f"{name} was altered or damaged"):
            load(bundle)
        (bundle / name).write_bytes(whole)
    load(bundle).close()


def bomb(target: Path, *members: tuple[str, int], **files: bytes) -> Path:
    """A zip with members of nothing but zeros, which deflate to a thousandth."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, size in members:
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))
    return target


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bundle: Path, tmp_path: Path) -> None:
    plain = json.loads((bundle / "manifest.json").read_text())
    plain["files"]["big"] = {"sha256": "0" * 64, "size": 1}
    big = 64 << 20
    bombs = [
        bomb(tmp_path / "manifest.zip", ("manifest.json", big)),
        bomb(tmp_path / "listed.zip", ("big", big), **{"manifest.json": json.dumps(plain).encode()}),
        bomb(tmp_path / "head.head", ("head.json", big), **{"head.onnx": b""}),
        bomb(tmp_path / "graph.head", ("head.onnx", big), **{"head.json": b"{}"}),
    ]
    for path in bombs:
        assert path.stat().st_size < 1 << 20
        tracemalloc.start()
        with pytest.raises(BundleError, match="more than 100 times its own size"):
            (read_head if path.suffix == ".head" else open_bundle)(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


def test_a_large_manifest_is_refused_before_it_is_read(bundle: Path, tmp_path: Path) -> None:
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=r"manifest\.json is larger than 16 MB"):
        open_bundle(bundle)
    # 20 MB that do not compress pass the limit of a whole zip.
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("manifest.json", bytes(20 << 20))
    with pytest.raises(BundleError, match=r"manifest\.json is larger than 16 MB"):
        open_bundle(tmp_path / "a.zip")


def test_a_zip_with_too_many_members_or_two_of_one_name_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(bundle)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("manifest.json", b"{}")
    with pytest.raises(BundleError, match=r"two members named manifest\.json"):
        open_bundle(path)
    monkeypatch.setattr(reading, "ARCHIVE_MEMBERS", 3)
    with pytest.raises(BundleError, match="4 members, more than 3"):
        open_bundle(zipped(bundle))


@pytest.mark.parametrize("what", ["bundle", "file of a bundle", "head"])
def test_a_pipe_is_refused_and_not_waited_for(bundle: Path, tmp_path: Path, what: str) -> None:
    place = {"bundle": tmp_path / "pipe", "head": tmp_path / "a.head"}.get(what, bundle / "golden/image.png")
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    started = time.monotonic()
    done = edgebone("inspect", bundle if what == "file of a bundle" else place)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 60


def test_a_device_is_no_bundle(tmp_path: Path) -> None:
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(BundleError, match="it is not a regular file"):
            open_bundle(device)
        with pytest.raises(BundleError, match="it is not a regular file"):
            read_head(device)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_private_copy_is_what_the_hash_is_of_and_is_gone_afterwards(
    bundle: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bundle(bundle if kind == "folder" else zipped(bundle)) as opened:
        with opened.private_copy(GRAPH) as copy:
            assert isinstance(copy, Path)
            (bundle / GRAPH).write_bytes(swapped())
            assert copy.read_bytes() == colors_onnx((1, 1))
        assert not copy.exists()
        if kind == "folder":
            with pytest.raises(BundleError, match=f"{GRAPH} was altered or damaged"), opened.private_copy(GRAPH):
                pass
        with pytest.raises(BundleError, match="lists no file nothing"), opened.private_copy("nothing"):
            pass
        # macOS has no files in memory.
        monkeypatch.delattr(os, "memfd_create")
        (bundle / GRAPH).write_bytes(colors_onnx((1, 1)))
        with opened.private_copy(GRAPH) as copy:
            assert copy == colors_onnx((1, 1))
