"""Writers: whole or not at all, however many of them there are, whoever is killed, in whatever container."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

from edgebone.core import bundle as reading_module
from edgebone.core import staging as staging_module
from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, check_unchanged, update_bundle, write_bundle
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.exchange import exchange
from edgebone.core.locking import locked
from edgebone.core.manifest import Manifest
from edgebone.core.staging import put_in_place, staging
from edgebone.core.writing import write_whole
from edgebone.gallery import Gallery
from support import ROOT
from support.bundles import write_colors_bundle
from support.camera_servers import wait_for
from support.program import edgebone

KILLER = ROOT / "tests" / "support" / "killed_writers.py"
COMMAND_KILLER = ROOT / "tests" / "support" / "killed_commands.py"
KINDS = ("folder", "zip", "head", "gallery")
GRAPH = "onnx/fp32.onnx"
# Either program takes more of them by hand.
RANDOM_KILLS, COMMAND_KILLS = 40, 2
WRITERS, UPDATES = 4, 10


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def named(path: Path, name: str) -> Path:
    return update_bundle(path, lambda now: Update(msgspec.structs.replace(now, name=name)))


def noted(graph: bytes, note: str) -> bytes:
    """The same network in another file: with a note in its doc_string."""
    model = onnx.load_from_string(graph)
    model.doc_string = note
    return model.SerializeToString()


def name_of(path: Path) -> str:
    with open_bundle(path) as opened:
        return opened.manifest.name


@pytest.fixture(params=["a.bundle", "a.zip"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return write_colors_bundle(tmp_path / "own" / request.param)


def started(program: str, *arguments: object, apart: bool = False) -> subprocess.Popen[str]:
    """A Python program, in a PID namespace of its own if asked, as in a container."""
    around = ["unshare", "--pid", "--fork", "--mount-proc"] if apart else []
    return subprocess.Popen(
        [*around, sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def namespaces() -> None:
    if not shutil.which("unshare") or subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("PID namespaces need unshare(1) and the right to use it")


# Kills


def kill_writers(kind: str, template: Path, folder: Path, how: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, KILLER, kind, template, folder, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


@pytest.mark.parametrize("kind", [pytest.param("folder", marks=pytest.mark.slow), "zip", "head", "gallery"])
def test_a_writer_killed_before_any_change_leaves_the_old_or_the_new_one_and_the_next_clears_up(
    colors_bundle: Path, tmp_path: Path, kind: str
) -> None:
    counts = kill_writers(kind, colors_bundle, tmp_path, "changes")
    assert counts["old"] > 15
    assert counts["new"] > 2
    assert counts["left something"] > 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_killed_at_random_leaves_the_old_or_the_new_one(
    colors_bundle: Path, tmp_path: Path, kind: str
) -> None:
    counts = kill_writers(kind, colors_bundle, tmp_path, str(RANDOM_KILLS))
    assert counts["old"] + counts.get("new", 0) == RANDOM_KILLS


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("strace") or os.geteuid() != 0, reason="needs strace(1), and the right to trace a process"
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_killed_at_any_system_call_leaves_the_old_or_the_new_one(
    colors_bundle: Path, tmp_path: Path, kind: str
) -> None:
    counts = kill_writers(kind, colors_bundle, tmp_path, "syscalls")
    assert counts["old"] > 20
    assert counts["new"] > 5


@pytest.mark.slow
def test_commands_killed_at_random_leave_something_whole_and_the_next_clears_up(tmp_path: Path) -> None:
    asked = ["tune a folder", "enrol", "export-triton"]
    done = subprocess.run(
        [sys.executable, COMMAND_KILLER, tmp_path, str(COMMAND_KILLS), *asked],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(asked)


def test_where_names_cannot_be_exchanged_a_killed_writers_old_bundle_comes_back(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    program = """
        import os, signal, sys
        from pathlib import Path
        from edgebone.core import staging
        from edgebone.core.bundle_writing import Update, update_bundle
        staging.exchange = lambda *_: False
        real = Path.rename
        def rename(self, target):
            if self.name == "bundle":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, target)
        Path.rename = rename
        update_bundle(sys.argv[1], Update)
    """
    with started(program, path) as writer:
        writer.communicate()
    assert not path.exists()
    template = write_colors_bundle(tmp_path / "other.bundle")
    with open_bundle(template) as opened, pytest.raises(OutputError, match="exists"):
        write_bundle(path, opened.manifest, {name: opened.read(name) for name in opened.manifest.files})
    with pytest.raises(OutputError, match="exists"):
        write_colors_bundle(path)
    assert name_of(path) == "colors"
    assert names(tmp_path) == ["a.bundle", "other.bundle"]


def test_where_names_cannot_be_exchanged_bundles_are_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    monkeypatch.setattr(staging_module, "exchange", lambda *_: False)
    named(path, "new")
    assert name_of(path) == "new"
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "bundle":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        named(path, "newer")
    monkeypatch.undo()
    assert name_of(path) == "new"
    assert names(tmp_path) == ["a.bundle"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_a_folder_and_a_file_change_places_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    assert exchange(tmp_path / "folder", tmp_path / "file")
    assert (tmp_path / "folder").read_bytes() == b"content"
    assert (tmp_path / "file").is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "folder", tmp_path / "nothing")


# Many writers


UPDATER = """
    import sys
    import msgspec
    from edgebone.core.bundle_writing import Update, update_bundle
    from edgebone.core.manifest import Plan
    plan = Plan("here", "latency", "onnxruntime", "fp32", "fp32", "latency", None, None, 1, 1, 1, 1, None, "now")
    for number in range(int(sys.argv[3])):
        key = f"{sys.argv[2]}-{number}"
        update_bundle(sys.argv[1], lambda now: Update(msgspec.structs.replace(now, plans={**now.plans, key: plan})))
        print(key, flush=True)
"""


def reported(writers: list[subprocess.Popen[str]]) -> set[str]:
    said: set[str] = set()
    for writer in writers:
        said |= set(writer.communicate()[0].split())
        assert writer.returncode == 0
    return said


@pytest.mark.parametrize("name", ["a.bundle", "a.zip"])
def test_every_update_that_is_reported_as_written_is_there(tmp_path: Path, name: str) -> None:
    path = write_colors_bundle(tmp_path / name)
    link = tmp_path / "link"
    link.symlink_to(path)
    said = reported([started(UPDATER, at, number, UPDATES) for number, at in enumerate((path, link) * 2)])
    assert len(said) == WRITERS * UPDATES
    with open_bundle(path) as opened:
        assert set(opened.manifest.plans) == said
    assert names(tmp_path) == sorted([name, "link"])
    assert link.is_symlink()


@pytest.mark.usefixtures("namespaces")
def test_writers_in_other_pid_namespaces_lose_nothing_either(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    said = reported([started(UPDATER, path, number, UPDATES, apart=number % 2 == 0) for number in range(WRITERS)])
    assert len(said) == WRITERS * UPDATES
    with open_bundle(path) as opened:
        assert set(opened.manifest.plans) == said
    assert names(tmp_path) == ["a.bundle"]


STAGER = """
    import os, sys
    from pathlib import Path
    from edgebone.core.staging import put_in_place, staging
    with staging(Path(sys.argv[1])) as folder:
        (folder / "bundle").mkdir()
        (folder / "bundle" / "half").write_text("written")
        print(os.getpid(), flush=True)
        if not sys.stdin.readline():
            # As SIGKILL, which the first process of a namespace cannot send to itself.
            os._exit(0)
        (folder / "bundle" / "half").rename(folder / "bundle" / "whole")
        put_in_place(folder / "bundle", Path(sys.argv[1]))
"""


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(("writer_apart", "other_apart"), [(False, True), (True, False), (True, True)])
def test_what_a_writer_of_another_pid_namespace_makes_is_left_alone_until_it_dies(
    tmp_path: Path, writer_apart: bool, other_apart: bool
) -> None:
    """A process id of the one names nobody, or somebody else, for the other; in a container it is mostly 1."""
    path = tmp_path / "a.bundle"
    visitor = "import sys; from pathlib import Path; from edgebone.core.bundle_writing import check_target"
    visitor += "; check_target(Path(sys.argv[1]), True)"
    for dies in (False, True):
        with started(STAGER, path, apart=writer_apart) as writer:
            assert writer.stdout is not None
            assert int(writer.stdout.readline()) > 0
            assert reported([started(visitor, path, apart=other_apart)]) == set()
            assert len(names(tmp_path)) == 1
            writer.communicate("" if dies else "go on\n")
            assert writer.returncode == 0
        if dies:
            assert names(tmp_path)[0].startswith(".a.bundle.")
            reported([started(visitor, path, apart=other_apart)])
            assert names(tmp_path) == []
        else:
            assert (path / "whole").read_text() == "written"
            shutil.rmtree(path)


def test_readers_that_meet_a_writer_read_one_bundle_or_the_other(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    with started(UPDATER, path, 0, 30) as writer:
        opens = 0
        while writer.poll() is None:
            assert name_of(path) == "colors"
            opens += 1
        writer.communicate()
        assert writer.returncode == 0
    assert opens > 5


def test_a_bundle_that_is_exchanged_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    real = reading_module.parse_manifest
    left = ["first", "second"]

    def replace_behind(raw: bytes, where: str) -> Manifest:
        found = real(raw, where)
        if left and where == str(path):
            name = left.pop(0)
            monkeypatch.setattr(reading_module, "parse_manifest", real)
            update_bundle(path, lambda now: Update(now, {GRAPH: noted((path / GRAPH).read_bytes(), name)}))
            monkeypatch.setattr(reading_module, "parse_manifest", replace_behind)
        return found

    monkeypatch.setattr(reading_module, "parse_manifest", replace_behind)
    with open_bundle(path) as opened:
        assert onnx.load_from_string(opened.read(GRAPH)).doc_string == "second"


# What an update keeps


def test_an_update_changes_the_newest_bundle_and_keeps_its_kind(bundle: Path) -> None:
    is_zip = bundle.is_file()
    plain = bundle.rename(bundle.with_name("colors.edgebone"))
    with open_bundle(plain) as opened:
        before = opened.manifest
        update_bundle(plain, lambda now: Update(msgspec.structs.replace(now, name="other"), {"notes/a.json": b"{}"}))
    update_bundle(plain, lambda now: Update(now, {"notes/b.json": b"[]"}, {"notes/a.json"}))
    assert plain.is_file() == is_zip
    with open_bundle(plain) as opened:
        assert opened.manifest.name == "other"
        assert opened.read("notes/b.json") == b"[]"
        assert {name: opened.manifest.files.get(name) for name in before.files} == before.files
        assert set(opened.manifest.files) == {*before.files, "notes/b.json"}
    assert names(plain.parent) == ["colors.edgebone"]


def test_a_file_that_was_altered_is_never_given_a_new_hash(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    graph = path / GRAPH
    whole = graph.read_bytes()
    altered = whole[:-1] + bytes([whole[-1] ^ 1])

    def alter_meanwhile(now: Manifest) -> Update:
        graph.write_bytes(altered)
        return Update(msgspec.structs.replace(now, name="new"))

    with pytest.raises(BundleError, match=rf"{path}: file {GRAPH} was altered"):
        update_bundle(path, alter_meanwhile)
    assert names(tmp_path) == ["a.bundle"]
    with pytest.raises(BundleError, match="was altered"):
        named(path, "new")
    graph.write_bytes(whole)
    assert name_of(path) == "colors"


def test_a_change_that_fails_leaves_the_bundle_and_nothing_else(bundle: Path) -> None:
    def fail(now: Manifest) -> Update:
        raise OutputError("it does not fit")

    with pytest.raises(OutputError, match="it does not fit"):
        update_bundle(bundle, fail)
    with pytest.raises(BundleError, match=r"uses onnx/fp32\.onnx but does not list"):
        update_bundle(bundle, lambda now: Update(now, remove=[GRAPH]))
    assert names(bundle.parent) == [bundle.name]
    assert name_of(bundle) == "colors"


@pytest.mark.parametrize("part", ["name", "plans", "graph", "preprocess", "heads"])
def test_what_was_made_of_a_graph_that_has_changed_is_told_from_what_still_holds(bundle: Path, part: str) -> None:
    with open_bundle(bundle) as opened:
        then, graph = opened.manifest, opened.read(GRAPH)
    changes: dict[str, Any] = {
        "name": {"name": "other"},
        "plans": {"plans": {}},
        "graph": {},
        "preprocess": {"preprocess": msgspec.structs.replace(then.preprocess, antialias=False)},
        "heads": {"heads": {"other": then.heads["classification"]}},
    }
    add = {GRAPH: noted(graph, "changed")} if part == "graph" else {}
    update_bundle(bundle, lambda now: Update(msgspec.structs.replace(now, **changes[part]), add))
    with open_bundle(bundle) as opened:
        now = opened.manifest
    if part in ("name", "plans"):
        check_unchanged(bundle, then, now, {"fp32"})
    else:
        with pytest.raises(OutputError, match=rf"{bundle} was changed by another process meanwhile"):
            check_unchanged(bundle, then, now, {"fp32"})


def test_a_bundle_made_of_its_own_target_does_not_undo_what_others_wrote(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        files = {name: opened.read(name) for name in opened.manifest.files}
        named(bundle, "theirs")
        with pytest.raises(OutputError, match="was changed by another process meanwhile"):
            write_bundle(bundle, opened.manifest, files, overwrite=True, made_of=opened)
    assert name_of(bundle) == "theirs"


def test_a_bundle_goes_where_a_link_leads(tmp_path: Path) -> None:
    path = write_colors_bundle(tmp_path / "versions" / "3.bundle")
    link = tmp_path / "current"
    link.symlink_to(path)
    named(link, "new")
    assert link.is_symlink()
    assert name_of(path) == "new"
    assert (names(tmp_path), names(path.parent)) == (["current", "versions"], ["3.bundle"])


# Locks


def test_a_writer_waits_for_another_one_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_colors_bundle(tmp_path / "a.bundle")
    entered = threading.Event()

    def hold() -> None:
        with locked(path):
            entered.set()
            wait_for(lambda: caplog.records)

    other = threading.Thread(target=hold)
    with caplog.at_level(logging.WARNING, "edgebone.writing"):
        other.start()
        entered.wait()
        named(path, "new")
    other.join()
    assert [record.getMessage() for record in caplog.records] == [f"waiting for another writer of {path}"]
    assert name_of(path) == "new"
    assert names(tmp_path) == ["a.bundle"]


def test_a_writer_does_not_wait_for_ever_for_one_that_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    with locked(path):
        told = r"a\.bundle cannot be written: another process has been writing it"
        with pytest.raises(OutputError, match=told), locked(path, timeout_s=0.05):
            pass
        assert names(tmp_path) == ["a.bundle.lock"]
    assert names(tmp_path) == []


def test_a_lock_whose_holder_was_killed_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    program = """
        import os, signal, sys
        from pathlib import Path
        from edgebone.core.locking import locked
        with locked(Path(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    with started(program, path) as holder:
        holder.communicate()
    assert names(tmp_path) == ["a.bundle.lock"]
    with locked(path, timeout_s=0.05):
        pass
    assert names(tmp_path) == []


def test_a_lock_file_that_was_removed_while_it_was_waited_for_locks_nobody_out(tmp_path: Path) -> None:
    """Who waits for a lock file that its holder removes must not go on with one that others cannot see."""
    path = tmp_path / "a"
    inside = 0
    most = 0

    def write() -> None:
        nonlocal inside, most
        for _ in range(40):
            with locked(path):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert most == 1
    assert names(tmp_path) == []


# Planted names


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of somebody's, elsewhere, that must stay as it is."""
    path = tmp_path / "victim" / "file"
    path.parent.mkdir()
    path.write_bytes(b"precious")
    yield path
    assert path.read_bytes() == b"precious"
    assert names(path.parent) == ["file"]


def test_a_link_in_place_of_a_lock_file_is_refused_and_not_followed(tmp_path: Path, victim: Path) -> None:
    path = write_colors_bundle(tmp_path / "own" / "a.bundle")
    for to in (victim, victim.with_name("new")):
        path.with_name("a.bundle.lock").symlink_to(to)
        with pytest.raises(OutputError, match=r"a\.bundle\.lock is a link instead of a lock file"):
            named(path, "new")
        path.with_name("a.bundle.lock").unlink()
    assert name_of(path) == "colors"


def test_links_under_names_of_temporary_files_are_neither_followed_nor_removed(tmp_path: Path, victim: Path) -> None:
    own = tmp_path / "own"
    path = write_colors_bundle(own / "a.bundle")
    planted = [".a.gallery.partial", ".a.gallery.graph", ".a.bundle.abcdefgh.partial", ".a.gallery.abcdefgh.partial"]
    for name in planted:
        (own / name).symlink_to(victim.parent if "abcdefgh" in name else victim)
    named(path, "new")
    Gallery("space", 4).save(own / "a.gallery")
    assert names(own) == sorted([*planted, "a.bundle", "a.gallery"])


def test_only_what_a_writer_of_the_same_target_left_is_removed(tmp_path: Path) -> None:
    others = [".b.bundle.abcdefgh.partial", ".a.bundle.abcdefgh", ".a.bundle.abcdefgh.x.partial", "a.bundle.partial"]
    for name in (*others, ".a.bundle.abcdefgh.partial"):
        (tmp_path / name / "bundle").mkdir(parents=True)
    write_colors_bundle(tmp_path / "a.bundle")
    assert names(tmp_path) == sorted([*others, "a.bundle"])


def test_a_writers_folder_is_nobody_elses(tmp_path: Path) -> None:
    with staging(tmp_path / "a") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        with pytest.raises(BlockingIOError), folder_opened(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with staging(tmp_path / "a") as other:
            assert folder.exists()
            assert other != folder
    assert names(tmp_path) == []


class folder_opened:
    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_whole_file_does_not_take_the_place_of_something_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.head"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(OSError, match="it is not a regular file"):
        write_whole(path, b"content")
    assert names(tmp_path) == ["a.head"]
    assert not path.is_file()


def test_a_pipe_is_not_taken_for_a_bundle_to_replace(tmp_path: Path) -> None:
    with open_bundle(write_colors_bundle(tmp_path / "a.bundle")) as opened:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OutputError, match="is a file of another kind, not a bundle; it was not replaced"):
            write_bundle(tmp_path / "pipe", opened.manifest, {}, overwrite=True)


def test_a_folder_that_is_put_in_place_of_a_file_leaves_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"file")
    with staging(tmp_path / "a") as folder:
        (folder / "made").mkdir()
        put_in_place(folder / "made", tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    assert names(tmp_path) == ["a"]


def test_the_command_line_refuses_a_planted_lock_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    bundle = write_colors_bundle(tmp_path / "a.bundle")
    (tmp_path / "repository" / "colors.lock").symlink_to("nowhere")
    done = edgebone("export-triton", bundle, "--out", tmp_path / "repository", "--name", "colors")
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "is a link instead of a lock file; remove it" in done.stderr
