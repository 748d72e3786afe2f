"""Bundles: read back what was written, refuse what was changed, and never leave half of one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgebone.core.staging as staging_module
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, OutputError, SourceError
from edgebone.core.writing import writing
from support.bundles import COLORS, colors_onnx, contents, write_colors_bundle

GRAPH = "onnx/fp32.onnx"


def rewrite_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_colors_bundle(tmp_path / "colors.bundle")


def zip_of(bundle: Path, target: Path, top: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        if top:
            archive.mkdir(top)
        for file in sorted(bundle.rglob("*")):
            archive.write(file, f"{top}/{file.relative_to(bundle)}" if top else file.relative_to(bundle))
    return target


@pytest.mark.parametrize("name", ["a.bundle", "a.zip", "with space ☂.bundle", "a[1]*.bundle"])
def test_a_bundle_reads_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    path = write_colors_bundle(tmp_path / name)
    assert path.is_dir() == (not name.endswith(".zip"))
    with open_bundle(path) as opened:
        assert opened.manifest.heads["classification"].labels == COLORS
        assert opened.read("golden/image.png").startswith(b"\x89PNG")
        assert opened.read(GRAPH) == colors_onnx((1, 1))
    assert [child.name for child in tmp_path.iterdir()] == [name]


def test_writing_the_same_content_as_folder_and_as_zip_gives_the_same_bundle(tmp_path: Path) -> None:
    folder = contents(write_colors_bundle(tmp_path / "a.bundle"))
    assert contents(write_colors_bundle(tmp_path / "a.zip")) == folder


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("top", ["", "colors.bundle"])
def test_a_folder_zipped_by_hand_is_a_bundle(bundle: Path, tmp_path: Path, top: str, method: int) -> None:
    assert contents(zip_of(bundle, tmp_path / "z.zip", top, method)) == contents(bundle)


def test_a_zip_need_not_be_called_zip(bundle: Path, tmp_path: Path) -> None:
    assert contents(zip_of(bundle, tmp_path / "colors.edgebone")) == contents(bundle)


def test_a_folder_zipped_on_a_mac_is_a_bundle(bundle: Path, tmp_path: Path) -> None:
    path = zip_of(bundle, tmp_path / "z.zip", "colors.bundle")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/colors.bundle/._manifest.json", b"\0\5\x16\7")
    assert contents(path) == contents(bundle)


def test_a_zip_with_two_bundles_in_it_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = zip_of(bundle, tmp_path / "z.zip", "one")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(bundle / "manifest.json", "two/manifest.json")
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        open_bundle(path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("file", [GRAPH, "golden/image.png", "golden/tensors.npz"])
def test_one_changed_byte_is_found_and_the_file_named(bundle: Path, tmp_path: Path, file: str, kind: str) -> None:
    changed = bytearray((bundle / file).read_bytes())
    changed[len(changed) // 2] ^= 1
    (bundle / file).write_bytes(changed)
    path = bundle if kind == "folder" else zip_of(bundle, tmp_path / "z.zip")
    with pytest.raises(BundleError, match=f"{file} was altered"):
        open_bundle(path)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_missing_file_is_named(bundle: Path, tmp_path: Path, kind: str) -> None:
    (bundle / GRAPH).unlink()
    path = bundle if kind == "folder" else zip_of(bundle, tmp_path / "z.zip")
    with pytest.raises(BundleError, match=f"{GRAPH} is missing"):
        open_bundle(path)


@pytest.mark.parametrize("change", [lambda content: content + b"\0", lambda content: content[:-1], lambda _: b""])
def test_a_file_of_another_size_is_refused(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    (bundle / GRAPH).write_bytes(change((bundle / GRAPH).read_bytes()))
    with pytest.raises(BundleError, match=f"{GRAPH} was altered.*expected [0-9]+ bytes"):
        open_bundle(bundle)


def test_damage_anywhere_in_a_zip_gives_a_bundle_error_or_changes_nothing(bundle: Path, tmp_path: Path) -> None:
    good = contents(bundle)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = zip_of(bundle, tmp_path / "whole.zip", method=method).read_bytes()
        damaged = tmp_path / "damaged.zip"
        for position in range(0, len(whole), 13):
            damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
            try:
                assert contents(damaged) == good
            except BundleError as error:
                assert str(damaged) in str(error)
        for length in range(0, len(whole), 501):
            damaged.write_bytes(whole[:length])
            with pytest.raises(BundleError):
                open_bundle(damaged)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "a\\..\\outside", "", ".", "a\0b"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_listed_path_outside_the_bundle_is_refused(bundle: Path, tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    rewrite_manifest(bundle, lambda manifest: manifest["files"].update({name: {"sha256": sha, "size": 1}}))
    path = bundle
    if kind == "zip":
        path = zip_of(bundle, tmp_path / "z.zip")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name.replace("\0", "") or "empty", b"x")
    with pytest.raises(BundleError, match="not a path inside the bundle"):
        open_bundle(path)


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 30)])
def test_a_listed_path_that_no_file_system_takes_is_refused(bundle: Path, name: str) -> None:
    rewrite_manifest(bundle, lambda manifest: manifest["files"].update({name: {"sha256": "0", "size": 1}}))
    with pytest.raises(BundleError, match=r"xxx|length <= 4096"):
        open_bundle(bundle)


def test_a_link_out_of_the_bundle_is_refused_and_one_within_it_is_not(bundle: Path, tmp_path: Path) -> None:
    file = bundle / GRAPH
    (bundle / "graph").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to("../graph")
    open_bundle(bundle).close()
    (bundle / "graph").rename(tmp_path / "graph")
    file.unlink()
    file.symlink_to(tmp_path / "graph")
    with pytest.raises(BundleError, match=f"{GRAPH} is a link that leads out of the bundle"):
        open_bundle(bundle)


def test_a_folder_that_is_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "onnx").rename(tmp_path / "elsewhere")
    (bundle / "onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        open_bundle(bundle)


def test_links_in_a_circle_are_refused(bundle: Path) -> None:
    (bundle / GRAPH).unlink()
    (bundle / GRAPH).symlink_to("fp32.onnx")
    with pytest.raises(BundleError, match=GRAPH):
        open_bundle(bundle)


def test_a_bundle_reached_through_a_link_opens(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle)
    assert contents(tmp_path / "link") == contents(bundle)


def test_a_file_that_the_manifest_does_not_list_cannot_be_read(bundle: Path) -> None:
    (bundle / ".DS_Store").write_bytes(b"x")
    with open_bundle(bundle) as opened, pytest.raises(BundleError, match=r"lists no file \.DS_Store"):
        opened.read(".DS_Store")


@pytest.mark.parametrize("what", ["nothing", "empty folder", "text", "empty file", "other zip", "long name"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "empty folder":
        path.mkdir()
    elif what in ("text", "empty file"):
        path.write_text("no bundle" if what == "text" else "")
    elif what == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif what == "long name":
        path = tmp_path / ("x" * 400)
    with pytest.raises(BundleError, match=r"no such bundle|not a bundle") as caught:
        open_bundle(path)
    assert str(path) in str(caught.value)


def test_an_existing_bundle_is_not_replaced_unasked(bundle: Path) -> None:
    before = contents(bundle)
    with pytest.raises(OutputError, match="exists"):
        write_bundle(bundle, before[0], {**before[1], "new": b"1"})
    assert contents(bundle) == before


@pytest.mark.parametrize("name", ["x.bundle", "x.zip"])
def test_an_overwritten_bundle_is_replaced_whole(tmp_path: Path, name: str) -> None:
    path = write_colors_bundle(tmp_path / name)
    manifest, files = contents(path)
    write_bundle(path, manifest, {**files, "first/second": b"1"}, overwrite=True)
    assert contents(path)[1] == {**files, "first/second": b"1"}
    write_bundle(path, msgspec.structs.replace(manifest, name="new"), files, overwrite=True)
    assert contents(path)[0].name == "new"
    assert contents(path)[1] == files
    if path.is_dir():
        assert not (path / "first").exists()
    assert [child.name for child in tmp_path.iterdir()] == [name]


def test_an_empty_folder_may_become_a_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    manifest, files = contents(bundle)
    write_bundle(tmp_path / "empty", manifest, files, overwrite=True)
    assert contents(tmp_path / "empty")[1] == files


def test_a_folder_or_file_that_is_no_bundle_is_never_replaced(bundle: Path, tmp_path: Path) -> None:
    manifest, files = contents(bundle)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"precious")
    (tmp_path / "letter.txt").write_bytes(b"precious")
    for target in ("holiday", "letter.txt"):
        with pytest.raises(OutputError, match="not replaced"):
            write_bundle(tmp_path / target, manifest, files, overwrite=True)
    assert (tmp_path / "holiday" / "photo.jpg").read_bytes() == b"precious"
    assert (tmp_path / "letter.txt").read_bytes() == b"precious"


def test_a_target_below_a_file_is_refused_with_the_reason(bundle: Path, tmp_path: Path) -> None:
    manifest, files = contents(bundle)
    (tmp_path / "file").write_bytes(b"x")
    for target in (tmp_path / "file" / "a.bundle", tmp_path / "file" / "deep" / "a.bundle"):
        with pytest.raises(OutputError, match="cannot be written: part of its path is a file"):
            write_bundle(target, manifest, files)


def test_a_target_whose_parents_do_not_exist_is_written(bundle: Path, tmp_path: Path) -> None:
    manifest, files = contents(bundle)
    write_bundle(tmp_path / "new" / "deep" / "a.bundle", manifest, files)
    assert contents(tmp_path / "new" / "deep" / "a.bundle")[1] == files


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a\\b"])
def test_a_file_outside_of_the_bundle_is_not_written(bundle: Path, tmp_path: Path, name: str) -> None:
    manifest, files = contents(bundle)
    with pytest.raises(BundleError, match="not a path inside"):
        write_bundle(tmp_path / "new.bundle", manifest, {**files, name: b"x"})
    assert [child.name for child in tmp_path.iterdir()] == ["colors.bundle"]


@pytest.mark.parametrize("name", ["new.bundle", "new.zip"])
@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")]
)
def test_a_full_disk_leaves_nothing_behind_and_the_old_bundle_as_it_was(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, words: str
) -> None:
    manifest, files = contents(bundle)
    old = write_bundle(tmp_path / f"old.{name}", manifest, files)
    before = contents(old)
    real = Path.write_bytes if name == "new.bundle" else zipfile.ZipFile.writestr

    def fail_late(self: Any, *arguments: Any) -> Any:
        if "image.png" in str(self) or "image.png" in str(arguments[0]):
            raise OSError(number, os.strerror(number))
        return real(self, *arguments)

    monkeypatch.setattr(zipfile.ZipFile if name == "new.zip" else Path, real.__name__, fail_late)
    with pytest.raises(OutputError, match=words):
        write_bundle(tmp_path / name, manifest, files)
    with pytest.raises(OutputError, match=words):
        write_bundle(old, manifest, {**files, "new": b"1"}, overwrite=True)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["colors.bundle", f"old.{name}"]
    assert contents(old) == before


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["old.bundle", "old.zip"])
def test_a_failure_at_the_last_step_leaves_the_old_bundle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    manifest, files = contents(bundle)
    old = write_bundle(tmp_path / name, manifest, files)

    def fail(*_: Any) -> bool:
        raise error

    monkeypatch.setattr(staging_module, "exchange", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_bundle(old, manifest, {**files, "new": b"1"}, overwrite=True)
    monkeypatch.undo()
    assert contents(old)[1] == files
    assert sorted(child.name for child in tmp_path.iterdir()) == ["colors.bundle", name]


def test_a_file_size_limit_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    """The kernel itself refuses the write here, half-way through a file."""
    program = f"""
        import resource
        from edgebone.core.bundle import open_bundle
        from edgebone.core.bundle_writing import write_bundle
        with open_bundle({str(bundle)!r}) as opened:
            files = {{name: opened.read(name) for name in opened.manifest.files}}
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        write_bundle("big.bundle", opened.manifest, {{**files, "big": bytes(20000)}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "OutputError: big.bundle cannot be written: File too large" in done.stderr
    assert [child.name for child in tmp_path.iterdir()] == ["colors.bundle"]


@pytest.mark.parametrize("name", ["new.bundle", "new.zip"])
def test_a_killed_writer_leaves_no_half_bundle_and_the_next_one_clears_up(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    program = f"""
        import edgebone.core.bundle_writing as module
        from edgebone.core.bundle import open_bundle
        def slow(made, target):
            print("wrote", flush=True)
            import time; time.sleep(60)
        module.put_in_place = slow
        with open_bundle({str(bundle)!r}) as opened:
            files = {{name: opened.read(name) for name in opened.manifest.files}}
        module.write_bundle({name!r}, opened.manifest, files)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "wrote\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not (tmp_path / name).exists()
    assert [child.name for child in tmp_path.iterdir() if child.name.startswith(f".{name}.")]
    manifest, files = contents(bundle)
    write_bundle(tmp_path / name, manifest, files)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["colors.bundle", name]


def test_bundles_of_other_targets_written_at_the_same_time_do_not_disturb_each_other(
    bundle: Path, tmp_path: Path
) -> None:
    program = f"""
        import sys
        from edgebone.core.bundle import open_bundle
        from edgebone.core.bundle_writing import write_bundle
        with open_bundle({str(bundle)!r}) as opened:
            files = {{name: opened.read(name) for name in opened.manifest.files}}
        for number in range(20):
            write_bundle(sys.argv[1], opened.manifest, files, overwrite=True)
    """
    names = ["a.bundle", "a.bundle.zip", "a"]
    writers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), name], cwd=tmp_path) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    for name in names:
        assert contents(tmp_path / name) == contents(bundle)


def test_a_written_bundle_can_be_read_by_other_users_as_any_new_file(bundle: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file").write_bytes(b"")
    assert bundle.stat().st_mode == plain.stat().st_mode
    assert (bundle / GRAPH).stat().st_mode == (plain / "file").stat().st_mode


def test_a_closed_zip_bundle_is_refused_in_one_line(tmp_path: Path) -> None:
    opened = open_bundle(write_colors_bundle(tmp_path / "a.zip"))
    opened.close()
    with pytest.raises(BundleError, match="cannot be read"):
        opened.read(GRAPH)


def test_a_source_that_fails_while_a_file_is_written_is_not_called_unwritable(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the camera is gone"), writing(tmp_path / "labels"):
        raise SourceError("the camera is gone")
