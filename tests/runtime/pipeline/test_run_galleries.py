"""Galleries beside a model that changes: what names a vector is of the network and head that made it."""

from __future__ import annotations

import io
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgebone
from edgebone import Gallery, load
from edgebone.core.bundle_writing import write_bundle
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.frame import Frame
from edgebone.core.head_file import HeadFile, head_bytes, parse_head
from edgebone.core.manifest import Head, Manifest, Weights
from edgebone.core.matches import Matches
from edgebone.gallery import GalleryError
from edgebone.gallery import watch as gallery_watch
from edgebone.gallery.embedding import about, dimension_of, embed_pictures, space_of
from edgebone.gallery.recognise import name_embeddings, open_galleries
from edgebone.gallery.views import SIGNATURE
from edgebone.pipeline import Naming, Pipeline
from edgebone.sinks.callback import CallbackSink
from edgebone_export.heads.attach.attach import attach
from support.bundles import contents
from support.camera_servers import wait_for
from support.heads import linear_head
from support.networks import SPEC, classifier, tinted_picture, write_network
from support.pictures import RED, write_video
from support.program import edgebone as program
from support.program import finish, lines_of, start
from support.sources import Ticking

PICTURES = [tinted_picture(number) for number in range(6)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with a free batch. Shared: do not change it."""
    return write_network(tmp_path_factory.mktemp("galleries") / "network.bundle", classifier(batch="batch"), (1, 4))


@pytest.fixture(scope="module")
def bundle(network: Path) -> Path:
    """The same with the head ``emb`` detached. Shared: do not change it."""
    return attach(network, [embedding(network, 3)], network.with_name("detached.bundle"), detached=True).path


def embedding(network: Path, numbers: int, seed: int = 0) -> HeadFile:
    """A head that gives an embedding of so many numbers."""
    head = linear_head(network, "emb", labels=[str(number) for number in range(numbers)], seed=seed)
    manifest = msgspec.structs.replace(head.manifest, head=Head("embedding@1", ("scores",)))
    return parse_head(head_bytes(manifest, head.graph), head.where)


def gallery_of(model: Any, path: Path, head: str | None = None) -> Path:
    """Picture 0 is ``picture 0``, and so on."""
    gallery = Gallery(space_of(model, head), dimension_of(model, head), about=about(model, head))
    gallery.add(embed_pictures(model, PICTURES, head), [f"picture {number}" for number in range(len(PICTURES))])
    return gallery.save(path, overwrite=True)


def names(model: Any, galleries: Any) -> list[str]:
    results = [name_embeddings(model(picture), galleries) for picture in PICTURES]
    return [result["emb"].label for result in results]  # type: ignore[index, union-attr, call-overload]


@pytest.mark.parametrize("numbers", [3, 5])
def test_galleries_follow_the_head_that_runs(bundle: Path, network: Path, tmp_path: Path, numbers: int) -> None:
    wanted = [f"picture {number}" for number in range(len(PICTURES))]
    with load(bundle) as model:
        old = gallery_of(model, tmp_path / "old.gallery")
        opened = open_galleries(model, {"": old})
        assert names(model, opened) == wanted
        kept: Any = model(PICTURES[0])
        model.swap_head("emb", embedding(network, numbers, seed=7))
        # One that is open names what the old head gave, and nothing else.
        assert name_embeddings(kept, opened)["emb"].label == "picture 0"  # type: ignore[index, union-attr, call-overload]
        with pytest.raises(GalleryError, match=r"old\.gallery holds vectors of .*they are not comparable"):
            names(model, opened)
        with pytest.raises(GalleryError, match=r"old\.gallery holds vectors of"):
            open_galleries(model, {"": old})
        assert dimension_of(model) == numbers
        assert embed_pictures(model, PICTURES).shape == (len(PICTURES), numbers)
        new = open_galleries(model, {"": gallery_of(model, tmp_path / "new.gallery")})
        assert names(model, new) == wanted
        with pytest.raises(GalleryError, match=r"new\.gallery holds vectors of"):
            name_embeddings(kept, new)
        # Back again, the old one is right again.
        model.swap_head("emb", embedding(network, 3))
        assert names(model, opened) == wanted


def test_in_a_stream_no_frame_of_a_swapped_head_gets_a_name_of_the_old_ones_gallery(
    bundle: Path, network: Path, tmp_path: Path
) -> None:
    with load(bundle) as model:
        galleries = open_galleries(model, {"": gallery_of(model, tmp_path / "old.gallery")})
        named = 0
        with pytest.raises(GalleryError, match=r"old\.gallery holds vectors of"), model.stream(PICTURES * 5) as stream:
            for number, (_, result) in enumerate(stream):
                found: Any = name_embeddings(result, galleries)
                assert found["emb"].label == f"picture {number % len(PICTURES)}"
                named += 1
                if number == 9:
                    model.swap_head("emb", embedding(network, 3, seed=7))
        assert 10 <= named <= 14


def test_a_head_of_another_kind_in_the_place_of_an_embedding_is_no_embedding(bundle: Path, network: Path) -> None:
    with load(bundle) as model:
        model.swap_head("emb", linear_head(network, "emb"))
        with pytest.raises(BundleError, match=r"needs a head with an embedding, the bundle has .*emb: classi"):
            embed_pictures(model, PICTURES)


def test_pictures_that_are_embedded_while_the_head_is_swapped_are_not_mixed(bundle: Path, network: Path) -> None:
    with load(bundle) as model:
        run = model.run
        swaps = [embedding(network, 5, seed=7)]

        def swapped_afterwards(*what: Any) -> Any:
            outputs = run(*what)
            if swaps:
                model.swap_head("emb", swaps.pop())
            return outputs

        model.run = swapped_afterwards  # type: ignore[method-assign]
        with pytest.raises(GalleryError, match="head emb was swapped while pictures were embedded; embed them again"):
            embed_pictures(model, PICTURES)
        assert embed_pictures(model, PICTURES).shape == (6, 5)


def own_embedding(path: Path, network: Path, sha256: str = "ab" * 32, noise: float = 0.0, **parts: Any) -> Path:
    """The network with its logits as an embedding, from a file of weights, exported where the last bits differ."""
    manifest, files = contents(network)
    recorded = dict(np.load(io.BytesIO(files["golden/tensors.npz"])))
    recorded["logits"] = recorded["logits"] * np.float32(1 + noise)
    written = io.BytesIO()
    np.savez(written, **recorded)
    weights = Weights("weights.pth", "file weights.pth", sha256, "by hand")
    changes: dict[str, Any] = {
        "heads": {**manifest.heads, "own": Head("embedding@1", ("logits",))},
        "model": msgspec.structs.replace(manifest.model, weights=weights),
        **parts,
    }
    whole: Manifest = msgspec.structs.replace(manifest, **changes)
    return write_bundle(path, whole, {**files, "golden/tensors.npz": written.getvalue()})


def test_a_gallery_is_of_the_weights_and_not_of_the_machine_that_exported_them(network: Path, tmp_path: Path) -> None:
    def space(path: Path, **options: Any) -> str:
        with load(path) as model:
            return space_of(model, "own", **options)

    first = own_embedding(tmp_path / "first.bundle", network)
    wanted = space(first)
    again = own_embedding(tmp_path / "again.bundle", network, noise=1e-6)
    assert space(again) == wanted
    with load(first) as model, load(again) as second:
        galleries = open_galleries(second, {"own": gallery_of(model, tmp_path / "a.gallery", "own")})
        named: Any = name_embeddings(second(PICTURES[2]), galleries)
        assert isinstance(named["own"], Matches)
        assert named["own"].label == "picture 2"
    further = [linear_head(first, "joined")], [linear_head(first, "behind", seed=3)]
    for heads, detached in zip(further, (False, True), strict=True):
        attached = attach(first, heads, tmp_path / f"more-{detached}.bundle", detached=detached).path
        assert space(attached) == wanted
    other = msgspec.structs.replace(SPEC, interpolation="nearest", antialias=False)
    renamed = msgspec.structs.replace(contents(first)[0].model, name="another")
    strangers = [
        space(first, views=SIGNATURE),
        space(own_embedding(tmp_path / "w.bundle", network, sha256="cd" * 32)),
        space(own_embedding(tmp_path / "m.bundle", network, model=renamed)),
        space(own_embedding(tmp_path / "r.bundle", network, sha256="")),
        space(own_embedding(tmp_path / "n.bundle", network, sha256="", noise=1e-6)),
    ]
    prepared = own_embedding(tmp_path / "p.bundle", network, preprocess=other)
    assert len({wanted, *strangers, space(prepared)}) == len(strangers) + 2


def test_the_summary_counts_a_head_by_the_frames_that_it_ran_on(network: Path, tmp_path: Path) -> None:
    rare = linear_head(network, "rare", labels=["alone"])
    bundle = attach(network, [rare], tmp_path / "two.bundle", detached=True).path
    video = write_video(tmp_path / "v.avi", [RED] * 10)
    done = program("run", bundle, video, "--head-every", "rare=3")
    assert done.returncode == 0, done.stderr
    summary = done.stdout.splitlines()[-1]
    assert "10 frames" in summary
    assert "alone 100 %" in summary


def other_embedding(network: Path, path: Path) -> tuple[Path, list[str]]:
    """A bundle whose embedding has other numbers, and what its gallery calls the pictures."""
    made = attach(network, [embedding(network, 5, seed=7)], path, detached=True).path
    return made, [f"new {number}" for number in range(len(PICTURES))]


def write_gallery(bundle: Path, path: Path, labels: list[str]) -> None:
    with load(bundle) as model:
        gallery = Gallery(space_of(model), dimension_of(model), about=about(model))
        gallery.add(embed_pictures(model, PICTURES), labels)
        gallery.save(path, overwrite=True)


def name_all(
    model: edgebone.Model,
    sources: list[Any],
    path: Path,
    load_again: Callable[[], Any],
    after: Callable[[Pipeline, list[str]], object],
    said: list[str] | None = None,
) -> list[str]:
    """The names that a pipeline gives, frame by frame; ``after`` each of them something happens."""
    say = print if said is None else said.append
    pipeline = Pipeline(model, [Naming({"": path}, say)], load=load_again, notice=say)
    seen: list[str] = []

    def take(_: Frame, results: Any) -> None:
        seen.append(results["emb"].label)
        after(pipeline, seen)

    pipeline.sinks = [CallbackSink(take)]
    pipeline.run(*sources)
    return seen


OLD = [f"old {number}" for number in range(len(PICTURES))]


def test_a_bundle_that_is_loaded_again_is_named_by_its_own_gallery_from_its_first_frame_on(
    bundle: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.gallery"
    write_gallery(bundle, path, OLD)
    new, labels = other_embedding(network, tmp_path / "new.bundle")
    said: list[str] = []

    def after(pipeline: Pipeline, seen: list[str]) -> None:
        if len(seen) == 6:
            # Another bundle alone does not go with the gallery that is there.
            pipeline.reload()
        if len(seen) == 16:
            write_gallery(new, path, labels)
            pipeline.reload()

    with load(bundle) as model:
        seen = name_all(model, [PICTURES * 10], path, lambda: load(new), after, said)
    point = next(number for number, label in enumerate(seen) if label.startswith("new"))
    assert 16 < point < 22
    assert seen == [(OLD if number < point else labels)[number % len(PICTURES)] for number in range(60)]
    assert len(said) == 2, said
    assert "a.gallery holds vectors of" in said[0]
    assert said[0].endswith("continuing with the bundle as it was")
    assert said[1] == "the bundle is loaded again"


def test_a_model_that_cannot_be_swapped_in_is_closed_and_its_gallery_names_nothing(
    bundle: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.gallery"
    write_gallery(bundle, path, OLD)
    new, labels = other_embedding(network, tmp_path / "new.bundle")
    loaded: list[Any] = []

    def refuse(*_: Any) -> None:
        raise EngineError("the device is full")

    def load_broken() -> Any:
        write_gallery(new, path, labels)
        loaded.append(load(new))
        loaded[0].run = refuse
        return loaded[0]

    def after(pipeline: Pipeline, seen: list[str]) -> None:
        if len(seen) == 6:
            pipeline.reload()

    said: list[str] = []
    with load(bundle) as model:
        assert name_all(model, [PICTURES * 3], path, load_broken, after, said) == OLD * 3
    assert said == ["the device is full; continuing with the bundle as it was"]
    with pytest.raises(EngineError, match="closed"):
        edgebone.Model.run(loaded[0], loaded[0].prepare([]))


def test_the_cameras_results_under_way_are_named_by_the_gallery_before(
    bundle: Path, network: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.gallery"
    write_gallery(bundle, path, OLD)
    new, labels = other_embedding(network, tmp_path / "new.bundle")
    cameras = [Ticking(f"camera {number}", 100, 10**6) for number in range(3)]

    def after(pipeline: Pipeline, seen: list[str]) -> None:
        if len(seen) == 21:
            write_gallery(new, path, labels)
            pipeline.reload()
        if sum(label.startswith("new") for label in seen) > 20:
            raise StopIteration

    names_seen: list[str] = []
    with load(bundle) as model, pytest.raises(StopIteration):
        name_all(model, cameras, path, lambda: load(new), lambda *what: (names_seen.append(what[1][-1]), after(*what)))
    assert {name[:3] for name in names_seen} == {"old", "new"}


def test_a_gallery_that_changes_while_a_stream_runs_is_taken_over(
    bundle: Path,
    network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(gallery_watch, "LOOK_S", 0.0)
    path = tmp_path / "a.gallery"
    write_gallery(bundle, path, OLD)
    new, labels = other_embedding(network, tmp_path / "new.bundle")
    said: list[str] = []

    def after(_: Pipeline, seen: list[str]) -> None:
        if len(seen) == 6:
            write_gallery(bundle, path, [f"now {number}" for number in range(len(PICTURES))])
        if len(seen) == 12:
            write_gallery(new, path, labels)
        if len(seen) == 18:
            path.write_bytes(b"no gallery")
        if len(seen) == 24:
            path.unlink()
        if len(seen) == 30:
            write_gallery(bundle, path, OLD)

    with load(bundle) as model:
        seen = name_all(model, [PICTURES * 6], path, lambda: load(new), after, said)
    now = [f"now {number}" for number in range(len(PICTURES))]
    assert seen == OLD + now * 4 + OLD
    assert [line.partition(" ")[2] for line in said] == ["has changed: 6 entries"] * 2
    # Each that does not go is said once.
    refused = [record.getMessage() for record in caplog.records]
    assert len(refused) == 2
    assert "a.gallery holds vectors of" in refused[0]
    assert all(line.endswith("continuing with the gallery as it was") for line in refused)


@pytest.mark.slow
def test_the_program_takes_over_a_gallery_and_a_bundle(bundle: Path, network: Path, tmp_path: Path) -> None:
    path, out, current = tmp_path / "a.gallery", tmp_path / "o.jsonl", tmp_path / "current.bundle"
    write_gallery(bundle, path, OLD)
    new, labels = other_embedding(network, tmp_path / "new.bundle")
    shutil.copytree(bundle, current)
    process = start("run", current, "synthetic://64x48@50", "--gallery", path, "--jsonl", out)

    too_late = threading.Timer(60, process.kill)
    too_late.start()
    said: list[str] = []

    def latest() -> str:
        lines = lines_of(out)
        return str(lines[-1]["heads"]["emb"]["label"])[:3] if lines else ""

    try:
        wait_for(lambda: latest() == "old")
        write_gallery(bundle, path, [f"now {number}" for number in range(len(PICTURES))])
        wait_for(lambda: latest() == "now")
        path.write_bytes(b"no gallery")
        assert process.stderr is not None
        while "with the gallery as it was" not in "".join(said):
            said.append(process.stderr.readline())
            assert said[-1], said
        shutil.rmtree(current)
        shutil.copytree(new, current)
        before = len(lines_of(out))
        wait_for(lambda: len(lines_of(out)) > before + 50)
        assert latest() == "now"
        write_gallery(new, path, labels)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: latest() == "new")
    finally:
        too_late.cancel()
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
        err = "".join(said) + err
    assert code == 130, err
    assert err.count("a.gallery has changed: 6 entries") == 1
    # Once that it cannot be read, and at most once, before the bundle came, that it is of another network.
    assert 1 <= err.count("continuing with the gallery as it was") <= 2
    assert "the bundle is loaded again" in err
