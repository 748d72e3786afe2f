"""Galleries: what is enrolled is recognised, what is not is unknown, and the file survives what happens to files."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgebone import Gallery, load
from edgebone.cli.gallery_enrol import enrol
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.matches import UNKNOWN, Matches
from edgebone.core.results import Classification
from edgebone.gallery import GalleryError, calibration, changing, enrolment
from edgebone.gallery import gallery as module
from edgebone.gallery.embedding import about, embed_pictures, space_of
from edgebone.gallery.graph import Graph
from edgebone.gallery.recognise import name_embeddings, open_galleries
from edgebone.gallery.signature import embed_references
from edgebone.gallery.vectors import Storage
from edgebone.gallery.views import SIGNATURE
from support import ROOT
from support.bundles import two_heads_bundle, write_colors_bundle
from support.camera_servers import mjpeg_server
from support.machine import needs
from support.pictures import GREEN, RED, picture, write_video
from support.program import PROGRAM, edgebone

D = 32
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")


def groups(labels: int, each: int, seed: int = 0, d: int = D) -> tuple[np.ndarray, list[str]]:
    """Vectors in groups that lie apart, as pictures of the same thing do."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((labels, d))
    vectors = np.repeat(centres, each, axis=0) + 0.3 * rng.standard_normal((labels * each, d))
    return vectors.astype(np.float32), [f"thing {index // each}" for index in range(labels * each)]


def filled(labels: int = 5, each: int = 4, storage: Storage = "float32") -> Gallery:
    vectors, names = groups(labels, each)
    gallery = Gallery("space", D, storage)
    gallery.add(vectors, names)
    return gallery


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """CC0 photographs, BGR."""
    data = pytest.importorskip("skimage.data")
    return {name: np.ascontiguousarray(getattr(data, name)()[..., 2::-1]) for name in PHOTOS}


@pytest.fixture
def folder(photos: dict[str, np.ndarray], tmp_path: Path) -> Path:
    """A folder a photograph, with three cuts of it in each."""
    for name, image in photos.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        height, width = image.shape[:2]
        for number in range(3):
            cut = image[number * 4 : height - 8 + number * 4, number * 6 : width - 12 + number * 6]
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.jpg"), cut)
    return tmp_path / "photos"


def test_what_is_like_an_entry_gets_its_label() -> None:
    vectors, names = groups(5, 4)
    gallery = Gallery("space", D)
    added = gallery.add(vectors, names)
    assert added.ids.tolist() == list(range(20))
    assert gallery.labels() == {f"thing {index}": 4 for index in range(5)}
    found = gallery.search(vectors[6] * 100, k=3)
    assert found.labels == ("thing 1",) * 3
    assert found.ids[0] == 6
    assert found.similarity.dtype == np.float32
    assert found.similarity[0] == pytest.approx(1)
    assert (np.diff(found.similarity) <= 0).all()
    exact = vectors @ vectors[6] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[6])
    assert found.similarity == pytest.approx(np.sort(exact)[::-1][:3], abs=1e-5)
    assert [matches.label for matches in gallery.identify_all(vectors)] == names
    assert len(gallery.search(vectors[0], k=1000)) == 20


def test_matches_read_like_the_other_results() -> None:
    matches = Matches(("oat", "soy"), np.float32([0.75, 0.5]), np.array([7, 3]), "oat")
    assert str(matches) == "oat (oat 0.750, soy 0.500)"
    assert matches.to_dict() == {
        "label": "oat",
        "matches": [{"id": 7, "label": "oat", "similarity": 0.75}, {"id": 3, "label": "soy", "similarity": 0.5}],
    }
    assert not matches.is_unknown
    json.dumps(matches.to_dict())


def test_the_nearer_neighbour_outvotes_many_that_are_far() -> None:
    gallery = Gallery("space", 2)
    angles = np.radians([0, 30, 31, 32, 33])
    gallery.add(np.stack([np.cos(angles), np.sin(angles)], 1), ["one", "many", "many", "many", "many"])
    assert gallery.identify([1, 0.01]).label == "one"
    assert gallery.identify([np.cos(0.5), np.sin(0.5)]).label == "many"


def test_an_empty_gallery_knows_nothing(tmp_path: Path) -> None:
    gallery = Gallery("space", D)
    for reopened in (gallery, Gallery.load(gallery.save(tmp_path / "empty.gallery"))):
        found = reopened.search(np.ones(D))
        assert (len(found), found.labels, found.similarity.dtype, found.ids.dtype) == (0, (), np.float32, np.int64)
        assert reopened.identify(np.ones(D)).is_unknown
        assert reopened.identify(np.ones(D)).label == UNKNOWN
        assert str(found) == "unknown (nothing in the gallery)"
        assert (len(reopened), reopened.labels(), reopened.entries()) == (0, {}, [])
        with pytest.raises(GalleryError, match="holds 0 entries of 0 labels"):
            reopened.calibrate()


@pytest.mark.parametrize("exact_numbers", [1 << 25, 0])
def test_no_vector_finds_nothing(exact_numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact_numbers:
        pytest.importorskip("usearch")
    monkeypatch.setattr(module, "EXACT_NUMBERS", exact_numbers)
    assert filled().search_all(np.empty((0, D))) == []
    assert filled().identify_all(np.empty((0, D), np.float32)) == []


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones(D + 1), f"vectors of {D} numbers, got an array of shape"),
        (np.zeros(D), "is zero"),
        (np.full(D, np.nan), "NaN"),
        (np.full(D, np.inf), "infinity"),
        (np.ones((1, 1, D)), "of shape"),
    ],
)
def test_vectors_that_mean_nothing_are_refused(vectors: np.ndarray, words: str) -> None:
    gallery = filled()
    for use in (lambda: gallery.add(vectors, "a"), lambda: gallery.search_all(vectors)):
        with pytest.raises(GalleryError, match=words):
            use()
    assert len(gallery) == 20


def test_labels_and_ids_that_do_not_fit_are_refused() -> None:
    gallery = filled()
    vectors = groups(1, 2, seed=5)[0]
    for labels, ids, words in (
        (["a"], None, "2 vectors need 2 labels"),
        (["a", ""], None, "one character"),
        ("a", [1], "2 vectors need 2 ids"),
        ("a", [100, 100], "100 is not"),
        ("a", [100, 3], "3 is not"),
        ("a", [100, -1], "-1 is not"),
    ):
        with pytest.raises(GalleryError, match=words):
            gallery.add(vectors, labels, ids=ids)
    assert len(gallery) == 20
    assert gallery.add(vectors, "a", ids=[100, 50]).ids.tolist() == [100, 50]
    assert gallery.add(groups(1, 1, seed=6)[0], "b").ids.tolist() == [101]
    with pytest.raises(GalleryError, match="k must be 1 or more"):
        gallery.search(np.ones(D), k=0)


def test_duplicates_are_noticed_and_kept_skipped_or_refused() -> None:
    gallery = filled()
    vectors = groups(5, 4)[0]
    more = np.concatenate([vectors[[2, 9]] * 3, groups(2, 1, seed=9)[0], groups(2, 1, seed=9)[0][:1]])
    with pytest.raises(GalleryError, match=r"3 of 5 vectors .* vector 0 is entry 2 \(thing 0\).*nothing was added"):
        gallery.add(more, "other", policy="refuse")
    assert len(gallery) == 20
    added = gallery.add(more, "other", policy="skip")
    assert added.ids.tolist() == [22, 23]
    assert [(item.row, item.of, item.label) for item in added.duplicates] == [
        (0, 2, "thing 0"),
        (1, 9, "thing 2"),
        (4, 22, "other"),
    ]
    assert all(item.similarity == pytest.approx(1, abs=1e-5) for item in added.duplicates)
    kept = gallery.add(more[:2], "other")
    assert (len(kept.ids), len(kept.duplicates), len(gallery)) == (2, 2, 24)
    assert not gallery.add(more[:2], "other", same=None).duplicates


def test_what_is_removed_is_not_found_any_more() -> None:
    gallery = filled()
    vectors = groups(5, 4)[0]
    assert gallery.remove(label="thing 1") == 4
    assert "thing 1" not in gallery.labels()
    assert "thing 1" not in gallery.search(vectors[5], k=100).labels
    assert gallery.remove(ids=[0, 1]) == 2
    assert gallery.labels()["thing 0"] == 2
    assert gallery.search(vectors[0], 1).ids[0] in (2, 3)
    for wrong, words in (
        ({"label": "thing 1"}, "no label 'thing 1'; did you mean thing"),
        ({"ids": [2, 0]}, "no entry 0"),
    ):
        with pytest.raises(GalleryError, match=words):
            gallery.remove(**wrong)
    for large in (2**63, [2, 99999999999999999999], -(10**20)):
        with pytest.raises(GalleryError, match=r"an entry's id is 0 to 9223372036854775807, not -?\d{19,21}$"):
            gallery.remove(ids=large)
    with pytest.raises(GalleryError, match=r"an entry's id is 0 to 9223372036854775807, not 9223372036854775808$"):
        gallery.add(vectors[:1], "new", ids=[2**63])
    with pytest.raises(GalleryError, match="either their ids or a label"):
        gallery.remove()
    assert len(gallery) == 14
    assert gallery.add(vectors[:1], "new").ids.tolist() == [20]


def test_calibration_tells_strangers_from_what_is_known() -> None:
    vectors, names = groups(60, 8, d=64)
    gallery = Gallery("space", 64)
    gallery.add(vectors[::2], names[::2])
    far = np.random.default_rng(3).standard_normal((500, 64))
    assert not gallery.identify(far[0]).is_unknown
    found = gallery.calibrate(0.02)
    assert (found.strangers, found.own_strangers, found.with_company) == (240, True, 240)
    assert found.false_accepts <= 4
    assert np.mean([matches.is_unknown for matches in gallery.identify_all(far)]) > 0.9
    found_names = [matches.label for matches in gallery.identify_all(vectors[1::2])]
    assert np.mean(np.array(found_names) == names[1::2]) > 0.95
    stricter = gallery.calibrate(0.0001)
    assert stricter.threshold > found.threshold
    assert stricter.false_accepts == 0
    by_strangers = gallery.calibrate(0.1, strangers=far)
    assert (by_strangers.own_strangers, by_strangers.strangers, by_strangers.false_accepts) == (False, 500, 50)
    assert sum(not matches.is_unknown for matches in gallery.identify_all(far)) == 50


def test_a_large_gallery_is_calibrated_by_a_sample_that_holds_for_all_of_it() -> None:
    gallery = Gallery("space", D)
    vectors, names = groups(2000, 10)
    gallery.add(vectors, names, same=None)
    tracemalloc.start()
    found = gallery.calibrate(0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Of 20,000 entries 2000, so that 20 are taken for known; and pieces of cosines, not all of a query's.
    assert (found.strangers, found.false_accepts, found.with_company) == (2000, 20, 2000)
    assert peak < 80 << 20
    assert gallery.calibrate(0.01) == found
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = np.random.default_rng(5).choice(20_000, 3000, replace=False)
    cosines = unit[asked] @ unit.T
    cosines[asked[:, None] // 10 == np.arange(20_000) // 10] = -1
    assert 0.006 < np.mean(cosines.max(axis=1) >= found.threshold) < 0.015
    assert gallery.calibrate(0.2).strangers == 1000
    assert gallery.calibrate(0.001).strangers == 5000


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_calibration_in_pieces_is_as_in_one(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = filled(30, 5, storage)
    gallery.add(groups(4, 5, seed=3)[0], "more")
    far = np.random.default_rng(3).standard_normal((90, D))
    whole = [gallery.calibrate(0.1), gallery.calibrate(0.1, far)]
    assert whole[0].recognised > 100
    # Some ten entries at a time.
    monkeypatch.setattr(calibration, "_COSINES", 1500)
    for one, other in zip([gallery.calibrate(0.1), gallery.calibrate(0.1, far)], whole, strict=True):
        assert one.threshold == pytest.approx(other.threshold, abs=1e-6)
        assert msgspec.structs.replace(one, threshold=0) == msgspec.structs.replace(other, threshold=0)


def test_calibration_says_what_it_needs() -> None:
    gallery = Gallery("space", D)
    gallery.add(groups(1, 5)[0], "only")
    with pytest.raises(GalleryError, match=r"5 entries of 1 labels.*enrol more, or give strangers"):
        gallery.calibrate()
    assert gallery.calibrate(0.5, strangers=groups(4, 5, seed=2)[0]).strangers == 20
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(GalleryError, match="above 0 and below 1"):
            filled().calibrate(rate)


@pytest.mark.parametrize(("storage", "close"), [("float16", 1e-3), ("int8", 1e-2)])
def test_fewer_bits_say_nearly_the_same(storage: Storage, close: float, tmp_path: Path) -> None:
    vectors, names = groups(40, 10, d=256)
    full, small = Gallery("space", 256), Gallery("space", 256, storage)
    full.add(vectors, names)
    small.add(vectors, names)
    asked = vectors[::7] + 0.1
    for one, other in zip(full.identify_all(asked), small.identify_all(asked), strict=True):
        assert one.label == other.label
        assert other.similarity == pytest.approx(one.similarity, abs=close)
    sizes = [gallery.save(tmp_path / f"{gallery.storage}.gallery").stat().st_size for gallery in (full, small)]
    assert sizes[1] < 0.6 * sizes[0]
    assert Gallery.load(tmp_path / f"{storage}.gallery").search(asked[0]).ids[0] == small.search(asked[0]).ids[0]


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries of more than 500 entries go into the index."""
    pytest.importorskip("usearch")
    monkeypatch.setattr(module, "EXACT_NUMBERS", 500 * D)


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_the_index_finds_what_looking_at_each_entry_finds(storage: Storage, tmp_path: Path) -> None:
    vectors, names = groups(150, 20)
    by_index = Gallery("space", D, storage)
    by_index.add(vectors, names, same=None)
    small = [Gallery("space", D, storage) for _ in range(6)]
    for number, gallery in enumerate(small):
        gallery.add(vectors[number::6], names[number::6], ids=np.arange(3000)[number::6], same=None)
    asked = vectors[::30] + 0.05 * np.random.default_rng(1).standard_normal((100, D))

    def nearest(query: np.ndarray) -> Matches:
        return max((gallery.search(query, 1) for gallery in small), key=lambda found: found.similarity[0])

    found, exact = by_index.search_all(asked, 5), [nearest(query) for query in asked]
    assert np.mean([one.ids[0] == other.ids[0] for one, other in zip(found, exact, strict=True)]) > 0.97
    assert found[0].similarity[0] == pytest.approx(exact[0].similarity[0], abs=2e-3)
    assert by_index.search(asked[3], 5).ids.tolist() == found[3].ids.tolist()
    # Saved with its index, of which nothing is lost when it is extended.
    loaded = Gallery.load(by_index.save(tmp_path / "many.gallery"))
    assert [one.ids.tolist() for one in loaded.search_all(asked, 5)] == [one.ids.tolist() for one in found]
    loaded.add(groups(30, 20, seed=8)[0], "new", same=None)
    assert loaded.search(groups(30, 20, seed=8)[0][7], 1).label == "new"
    assert loaded.search(vectors[7], 1).ids[0] == 7


@pytest.mark.usefixtures("indexed")
def test_what_is_removed_or_added_is_so_at_once_with_an_index_too() -> None:
    vectors, names = groups(50, 20)
    gallery = Gallery("space", D)
    gallery.add(vectors, names, same=None)
    gallery.remove(label="thing 3")
    found = gallery.search(vectors[65], 30)
    assert len(found) == 30
    assert "thing 3" not in found.labels
    gallery.add(vectors[65], "again")
    assert gallery.search(vectors[65], 1).label == "again"
    # More than the index bears: it is made anew.
    gallery.remove(ids=[entry.id for entry in gallery.entries() if entry.label < "thing 35"])
    left = set(gallery.labels())
    assert all(set(matches.labels) <= left and len(matches) == 5 for matches in gallery.search_all(vectors))


def test_without_usearch_a_large_gallery_is_searched_all_the_same_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EXACT_NUMBERS", 10 * D)
    monkeypatch.setattr(module, "has_usearch", lambda: False)
    gallery = filled()
    gallery.add(groups(3, 3, seed=4)[0], "more")
    assert gallery.search(groups(5, 4)[0][6], 1).ids[0] == 6
    assert [record.message for record in caplog.records if 'pip install "edgebone[gallery]"' in record.message] != []
    assert len(caplog.records) == 1


def test_a_saved_gallery_comes_back_as_it_was(tmp_path: Path) -> None:
    gallery = Gallery("space", D, about="a network", views=("whole", "mirror"))
    vectors, names = groups(4, 6)
    names = ["☕ Kaffee, süß", "two words", "ü" * 80, 'quote"\\'][0:1] * 6 + names[6:]
    gallery.add(vectors, names, sources=[f"bild {index} ☂.jpg" for index in range(24)])
    gallery.remove(ids=[0, 23])
    calibration = gallery.calibrate(0.05)
    loaded = Gallery.load(gallery.save(tmp_path / "names ☂.gallery"))
    assert loaded.entries() == gallery.entries()
    assert loaded.entries()[0].source == "bild 1 ☂.jpg"
    assert (loaded.calibration, loaded.about, loaded.views) == (calibration, "a network", ("whole", "mirror"))
    for query in (vectors[5], np.ones(D)):
        assert loaded.identify(query).to_dict() == gallery.identify(query).to_dict()
    # An id that was given away is not given again.
    assert loaded.add(np.ones(D), "new").ids.tolist() == [24]
    loaded.save()
    assert len(Gallery.load(tmp_path / "names ☂.gallery")) == 23
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names ☂.gallery"]


def test_the_file_is_a_plain_zip_of_numpy_arrays(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "a.gallery")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        header = json.loads(archive.read("gallery.json"))
        vectors = np.load(io.BytesIO(archive.read("vectors.npy")), allow_pickle=False)
    assert (header["schema"], header["space"], header["count"]) == (1, "space", 20)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def _with(path: Path, name: str, change: bytes | None) -> None:
    """Write the zip anew with one member changed or left out."""
    with zipfile.ZipFile(path) as archive:
        members = {item: archive.read(item) for item in archive.namelist()}
    if change is None:
        del members[name]
    else:
        members[name] = change
    with zipfile.ZipFile(path, "w") as archive:
        for item, content in members.items():
            archive.writestr(item, content)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_cut_off_file_is_refused_in_one_line(tmp_path: Path, share: float) -> None:
    path = filled().save(tmp_path / "a.gallery")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(GalleryError, match=r"a\.gallery: not a gallery, or a damaged one") as caught:
        Gallery.load(path)
    assert "\n" not in str(caught.value)


def test_any_altered_byte_of_the_arrays_is_noticed(tmp_path: Path) -> None:
    path = filled(storage="int8").save(tmp_path / "a.gallery")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x93NUMPY") + 300] ^= 1
    path.write_bytes(content)
    with pytest.raises(GalleryError, match=r"vectors\.npy in it was altered or damaged"):
        Gallery.load(path)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "a.gallery")
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("gallery.json"))
    for change, words in (
        ({**header, "schema": 2}, "has schema 2, this edgebone reads 1"),
        ({**header, "more": 1}, "does not follow schema 1.*more"),
        ({**header, "count": 21}, "instead of"),
        ({**header, "labels": header["labels"][:2]}, "its parts do not match"),
        ([], "does not follow schema 1"),
    ):
        _with(path, "gallery.json", json.dumps(change).encode())
        with pytest.raises(GalleryError, match=words):
            Gallery.load(path)
    _with(path, "gallery.json", None)
    with pytest.raises(GalleryError, match="not a gallery"):
        Gallery.load(path)
    with pytest.raises(GalleryError, match=r"no such gallery; make one with: edgebone gallery enrol"):
        Gallery.load(tmp_path / "missing.gallery")
    with pytest.raises(GalleryError, match="cannot be read"):
        Gallery.load(tmp_path)


WRITER = """
    import sys
    import numpy as np
    from edgebone import Gallery
    gallery = Gallery("space", 256)
    gallery.add(np.random.default_rng(0).standard_normal((20_000, 256)), "first", same=None)
    gallery.save(sys.argv[1], overwrite=True)
    print("ready", flush=True)
    while True:
        gallery.save(overwrite=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gallery"
    for wait_s in (0.0, 0.01, 0.03, 0.08):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(wait_s)
            writer.send_signal(signal.SIGKILL)
        assert len(Gallery.load(path)) == 20_000
    gallery = Gallery.load(path)
    gallery.add(np.ones(256), "second")
    gallery.save()
    assert len(Gallery.load(path)) == 20_001
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.gallery"]


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize("count", [1, 900])
def test_a_disk_that_is_full_when_the_index_is_saved_leaves_the_older_file(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled().save(tmp_path / "a.gallery")
    before = path.read_bytes()
    gallery = Gallery.load(path)
    monkeypatch.setattr(module, "EXACT_NUMBERS", 0)
    gallery.add(np.random.default_rng(2).standard_normal((count, D)), "new", same=None)
    real = Graph.save

    def save(graph: Graph, path: Path) -> None:
        path.symlink_to("/dev/full")
        real(graph, path)

    with monkeypatch.context() as patch:
        patch.setattr(Graph, "save", save)
        with pytest.raises(OutputError, match=r"a\.gallery cannot be written: .*index.*; the previous file is intact"):
            gallery.save()
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.gallery"]
    gallery.save()
    assert len(Gallery.load(path)) == 20 + count


def test_processes_that_change_a_gallery_at_once_lose_nothing(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "a.gallery")
    program = """
        import sys
        import numpy as np
        from edgebone.gallery import changing
        for number in range(5):
            with changing(sys.argv[1]) as gallery:
                seed = int(sys.argv[2]) + number
                gallery.add(np.random.default_rng(seed).standard_normal(32), sys.argv[2])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    started = [subprocess.Popen([*command, seed]) for seed in ("100", "200", "300")]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    labels = Gallery.load(path).labels()
    assert (labels["100"], labels["200"], labels["300"], sum(labels.values())) == (5, 5, 5, 35)


def test_a_change_that_fails_writes_nothing(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "a.gallery")
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="no label"), changing(path) as gallery:
        gallery.add(np.ones(D), "new")
        gallery.remove(label="nobody")
    assert path.read_bytes() == before
    with pytest.raises(GalleryError, match="no such gallery"), changing(tmp_path / "b.gallery"):
        pass


def test_nothing_is_made_where_there_is_no_gallery_to_change(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such gallery"), changing(tmp_path / "nodir" / "sub" / "x.gallery"):
        pass
    (tmp_path / "text").write_bytes(b"no gallery")
    with pytest.raises(GalleryError, match="not a gallery"), changing(tmp_path / "text"):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["text"]


def test_a_gallery_that_is_linked_to_is_changed_where_it_lies(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "own" / "a.gallery")
    link = tmp_path / "link.gallery"
    link.symlink_to(path)
    with changing(link) as gallery:
        gallery.remove(ids=[0])
    gallery = Gallery.load(link)
    gallery.remove(ids=[1])
    gallery.save()
    assert link.is_symlink()
    assert len(Gallery.load(path)) == 18
    assert sorted(item.name for item in path.parent.iterdir()) == ["a.gallery"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["link.gallery", "own"]
    link.unlink()
    link.symlink_to(tmp_path / "new" / "b.gallery")
    with changing(link, filled):
        pass
    assert len(Gallery.load(tmp_path / "new" / "b.gallery")) == 20


def test_a_file_that_others_changed_is_not_written_over(tmp_path: Path) -> None:
    path = filled().save(tmp_path / "a.gallery")
    mine = Gallery.load(path)
    with changing(path) as theirs:
        theirs.add(np.ones(D), "theirs")
    mine.add(-np.ones(D), "mine")
    with pytest.raises(OutputError, match="was changed since; load it again"):
        mine.save()
    with pytest.raises(OutputError, match="another gallery"):
        filled().save(path)
    assert "theirs" in Gallery.load(path).labels()
    mine.save(overwrite=True)
    assert "mine" in Gallery.load(path).labels()
    with pytest.raises(GalleryError, match="has no file yet"):
        filled().save()


def test_a_changed_file_is_taken_over_while_serving(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = filled().save(tmp_path / "a.gallery")
    serving = Gallery.load(path)
    assert not serving.reload_if_changed()
    with changing(path) as theirs:
        theirs.add(np.ones(D), "theirs")
    assert serving.identify(np.ones(D)).label != "theirs"
    assert serving.reload_if_changed()
    assert serving.identify(np.ones(D)).label == "theirs"
    assert not serving.reload_if_changed()
    good = path.read_bytes()
    other = Gallery("another space", D)
    strange = other.save(tmp_path / "b.gallery").read_bytes()
    for content, words in ((good[:500], "damaged"), (strange, "they are not comparable")):
        # In its place, as cp does.
        path.write_bytes(content)
        caplog.clear()
        assert not serving.reload_if_changed()
        assert not serving.reload_if_changed()
        assert len(caplog.records) == 1
        assert words in caplog.text
        assert serving.identify(np.ones(D)).label == "theirs"
    serving.add(-np.ones(D), "mine")
    path.write_bytes(good)
    assert not serving.reload_if_changed()
    assert "this gallery has unsaved changes" in caplog.text
    assert "mine" in serving.labels()
    path.unlink()
    assert not serving.reload_if_changed()


@pytest.mark.usefixtures("indexed")
def test_searches_go_on_while_others_add_and_remove() -> None:
    vectors, names = groups(120, 10)
    gallery = Gallery("space", D)
    gallery.add(vectors[:400], names[:400])
    stop, failures, met = threading.Event(), [], []

    def search(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            row = int(rng.integers(0, 400))
            found = gallery.search(vectors[row], 5)
            # Every answer is of one moment: ids and labels belong together.
            if any(label != names[number] for number, label in zip(found.ids, found.labels, strict=True)):
                failures.append(found)
            # What was never removed is there, as far as an approximate index finds it.
            if row % 20 < 10:
                met.append(found.ids[0] == row)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        for start in range(400, 1200, 40):
            gallery.add(vectors[start : start + 40], names[start : start + 40], ids=np.arange(start, start + 40))
            assert gallery.search(vectors[start], 1).ids[0] == start
            if start < 800:
                gallery.remove(ids=[start - 400 + 10, start - 400 + 30])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert np.mean(met) > 0.95
    assert len(gallery) == 1200 - 20


def test_a_gallery_of_another_network_head_or_view_is_refused(layout_bundle: Path, tmp_path: Path) -> None:
    other = two_heads_bundle(tmp_path / "two.bundle")
    with load(layout_bundle) as model, load(other) as second:
        gallery = Gallery(space_of(model), 192, about=about(model))
        gallery.check(space_of(model))
        for space in (space_of(second), space_of(model, views=SIGNATURE)):
            with pytest.raises(GalleryError, match=r"colors fixed, head embedding, own view .*not comparable; use the"):
                gallery.check(space, "another")
        path = gallery.save(tmp_path / "a.gallery")
        assert open_galleries(model, {"": path}).keys() == {"", "embedding"}
        with pytest.raises(GalleryError, match=r"a\.gallery holds vectors of"):
            open_galleries(second, {"": path})
        with pytest.raises(BundleError, match="there is no head nobody; the bundle has embedding: embedding@1"):
            open_galleries(model, {"nobody": path})
    with (
        load(write_colors_bundle(tmp_path / "c.bundle")) as plain,
        pytest.raises(BundleError, match="--output embedding"),
    ):
        space_of(plain)


def test_a_streams_embeddings_get_names(layout_bundle: Path, photos: dict[str, np.ndarray], tmp_path: Path) -> None:
    with load(layout_bundle) as model:
        gallery = Gallery(space_of(model), 192)
        gallery.add(embed_pictures(model, [photos["chelsea"]]), "cat")
        galleries = open_galleries(model, {"": gallery.save(tmp_path / "a.gallery")})
        labels = []
        for _, result in model.stream([photos["chelsea"], photos["coffee"], photos["coffee"]]):
            named = name_embeddings(result, galleries)
            assert isinstance(named, Matches)
            labels.append(named.label)
            if len(labels) == 2:
                # Seen by the next frame.
                galleries[""].add(embed_pictures(model, [photos["coffee"]]), "cup")
        assert labels == ["cat", "cat", "cup"]
        assert name_embeddings(result, {}) is result


def test_of_several_heads_only_the_embedding_gets_a_name(tmp_path: Path) -> None:
    with load(two_heads_bundle(tmp_path / "two.bundle")) as model:
        name = next(key for key, head in model.manifest.heads.items() if head.decoder == "embedding@1")
        gallery = Gallery(space_of(model), 3)
        gallery.add(embed_pictures(model, [picture(RED), picture(GREEN)]), ["warm", "cold"])
        galleries = open_galleries(model, {"": gallery.save(tmp_path / "a.gallery")})
        named = name_embeddings(model(picture(GREEN)), galleries)
    assert isinstance(named, dict)
    assert isinstance(named[name], Matches)
    assert named[name].label == "cold"
    assert {type(result) for key, result in named.items() if key != name} == {Classification}


def test_embedding_goes_the_way_that_the_model_goes(layout_bundle: Path, photos: dict[str, np.ndarray]) -> None:
    with load(layout_bundle) as model:
        vectors = embed_pictures(model, list(photos.values()))
        for vector, image in zip(vectors, photos.values(), strict=True):
            own = model(image).vector
            assert vector == pytest.approx(own / np.linalg.norm(own), abs=1e-5)
        assert embed_pictures(model, []).shape == (0, 192)
        image = photos["rocket"]
        both = embed_pictures(model, [image, np.ascontiguousarray(image[:, ::-1])], views=SIGNATURE)
        assert both[0] == pytest.approx(both[1], abs=2e-3)
        assert embed_references(model, [image]).shape == (1, 2, 192)


pytest_program = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not installed beside this Python")


def said(*arguments: object, code: int = 0) -> str:
    done = edgebone("gallery", *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.slow
@pytest_program
def test_folders_are_enrolled_searched_listed_and_removed(layout_bundle: Path, folder: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "products.gallery", ("--model", layout_bundle)
    (folder / "coffee" / "damaged.jpg").write_bytes(b"no picture")
    (folder / "top.jpg").write_bytes(b"whose is it?")
    first = json.loads(said("enrol", file, folder, *model, "--json"))
    assert (first["pictures"], first["entries"], first["labels"]) == (18, first["added"], 6)
    assert first["added"] + first["already_there"] == 18
    assert len(first["unreadable"]) == 1
    assert first["calibration"]["threshold"] < 1
    assert first["beside_label_folders"] == 1
    again = edgebone("gallery", "enrol", file, folder, *model)
    assert again.returncode == 0
    assert "0 entries of 18 pictures added, 18 were already present, 1 could not be read" in again.stdout
    assert "left out" in again.stderr
    assert "damaged.jpg" in again.stderr
    photo = folder / "coffee" / "1.jpg"
    other = edgebone("gallery", "enrol", file, photo, "--label", "tea", *model)
    assert "which is coffee" in other.stderr
    lines = [json.loads(line) for line in said("search", file, photo, folder / "rocket", *model, "--json").splitlines()]
    assert [line["label"] for line in lines] == ["coffee", "rocket", "rocket", "rocket"]
    assert lines[0]["source"] == str(photo)
    assert lines[0]["matches"][0]["similarity"] == pytest.approx(1, abs=0.01)
    assert said("search", file, photo, "--top-k", "2", *model).startswith(f"{photo}: coffee (coffee 0.99")
    listed = json.loads(said("list", file, "--entries", "--json"))
    assert set(listed["labels"]) == set(PHOTOS)
    chosen = [item["id"] for item in listed["each"] if item["label"] == "coffee"]
    removed = [word for number in chosen for word in ("--id", number)]
    assert f"{len(chosen)} entries removed" in said("remove", file, *removed)
    assert "coffee" not in said("list", file)
    assert "1.jpg" in said("list", file, "--entries")
    assert "no label 'coffee'" in said("remove", file, "--label", "coffee", code=1)
    assert "say what to remove" in said("remove", file, code=2)
    assert "known from" in said("calibrate", file, "--false-accept-rate", 0.2)
    assert "of 3 strangers" in said("calibrate", file, "--strangers", folder / "coffee", *model)


@pytest_program
def test_lists_globs_and_videos_are_enrolled(layout_bundle: Path, folder: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    (tmp_path / "list.csv").write_text("file,label\nphotos/coffee/0.jpg,cup\nphotos/chelsea/0.jpg,cat\n")
    assert json.loads(said("enrol", file, tmp_path / "list.csv", *model, "--json"))["labels"] == 2
    assert "of 3 labels" in said("enrol", file, folder / "ro*" / "*.jpg", "--label", "rocket", *model)
    video = tmp_path / "photos.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for name in ("astronaut", "retina", "immunohistochemistry"):
        for _ in range(10):
            writer.write(cv2.resize(cv2.imread(str(folder / name / "0.jpg")), (64, 48)))
    writer.release()
    frames = json.loads(said("enrol", file, video, "--label", "film", "--every", 5, "--frames", 4, *model, "--json"))
    assert frames["pictures"] == 4
    assert frames["added"] == 2
    assert "need --label" in said("enrol", file, video, *model, code=2)
    (tmp_path / "bad.csv").write_text("path,class\na,b\n")
    assert "needs the columns file and label, has path, class" in said(
        "enrol", file, tmp_path / "bad.csv", *model, code=4
    )


def enrolled(gallery: Path, source: Path, model: Path, label: str) -> None:
    enrol(str(gallery), str(source), str(model), label, json=True)


def test_enrolling_into_a_gallery_loads_it_once(
    layout_bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.gallery"
    enrolled(file, folder / "coffee" / "0.jpg", layout_bundle, "cup")
    loads = []
    real = module.read_gallery
    monkeypatch.setattr(module, "read_gallery", lambda path: loads.append(path) or real(path))
    enrolled(file, folder / "chelsea" / "0.jpg", layout_bundle, "cat")
    assert (len(loads), Gallery.load(file).labels()) == (1, {"cup": 1, "cat": 1})


def test_a_gallery_that_is_deleted_meanwhile_does_not_come_back(
    layout_bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.gallery"
    with load(layout_bundle) as model:
        gallery = Gallery(space_of(model), 192, "float16", about(model))
    gallery.add(np.eye(192)[:3], "gone")
    gallery.save(file)
    real = enrolment.embed_samples

    def slow(*arguments: Any) -> Any:
        file.unlink()
        return real(*arguments)

    monkeypatch.setattr(enrolment, "embed_samples", slow)
    enrolled(file, folder / "coffee" / "0.jpg", layout_bundle, "cup")
    found = Gallery.load(file)
    assert (found.labels(), found.storage, found.about) == ({"cup": 1}, "float16", gallery.about)


def test_the_message_after_enrolling_says_what_holds(
    layout_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.gallery"

    def told(name: str, label: str) -> str:
        enrol(str(file), str(folder / name), str(layout_bundle), label)
        return capsys.readouterr().out.splitlines()[1]

    assert told("coffee/0.jpg", "cup").startswith("not calibrated: everything gets its only label")
    first = told("chelsea/0.jpg", "cat")
    assert first.startswith("known from")
    assert told("chelsea/0.jpg", "cat") == f"not recalibrated, since nothing was added: {first}"
    with changing(file) as gallery:
        gallery.remove(label="cup")
    # The threshold from before holds for the one label that is left.
    assert told("rocket/0.jpg", "cat").startswith(f"not recalibrated, with one label left: {first}; enrol another")
    assert Gallery.load(file).identify(np.eye(192)[5]).is_unknown


def test_pictures_beside_label_folders_are_told_of(
    layout_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "coffee" / "0.jpg").rename(folder / "loose.jpg")
    (folder / "more.jpg").write_bytes(b"not looked at, unless its name is its label")
    enrol(str(tmp_path / "a.gallery"), str(folder), str(layout_bundle))
    said_ = capsys.readouterr()
    assert f"edgebone: left out: 2 pictures in {folder} itself, outside its label folders" in said_.err
    assert "of 17 pictures added" in said_.out
    enrol(str(tmp_path / "b.gallery"), str(folder), str(layout_bundle), json=True)
    assert json.loads(capsys.readouterr().out)["beside_label_folders"] == 2
    enrol(str(tmp_path / "c.gallery"), str(folder), str(layout_bundle), signatures=True, json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["pictures"], len(found["unreadable"]), found["beside_label_folders"]) == (18, 1, 0)


@pytest_program
def test_damaged_frames_of_a_camera_are_left_out_and_counted(layout_bundle: Path, tmp_path: Path) -> None:
    good = cv2.imencode(".jpg", picture(RED))[1].tobytes()
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    with mjpeg_server([b"no picture", good, good[:200]]) as url:
        taken = ("enrol", file, url, "--label", "a", "--frames", 5, *model)
        found = json.loads(said(*taken, "--json"))
        assert found["pictures"] == 5
        assert 5 <= found["damaged"] <= 20
        text = edgebone("gallery", *taken)
    assert re.search(
        r"5 were already present, 0 could not be read; \d+ frames were damaged; 1 entries of 1", text.stdout
    )
    # Told once, so that a camera of which none is good is not waited for in silence.
    assert text.stderr.count("damaged") == 1


@pytest.mark.slow
@pytest_program
def test_what_cannot_be_enrolled_or_searched_is_told_in_one_line(
    layout_bundle: Path, colors_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.jpg").write_bytes(b"no picture")
    assert "none of 1 pictures could be read" in said(
        "enrol", file, tmp_path / "damaged", "--label", "a", *model, code=4
    )
    assert not file.exists()
    assert "give --label" in said("enrol", file, folder / "coffee", *model, code=1)
    assert "no such gallery" in said("search", file, folder / "coffee" / "0.jpg", *model, code=1)
    assert "--output embedding" in said("enrol", file, folder, "--model", colors_bundle, code=3)
    assert "no such folder or file" in said("enrol", file, tmp_path / "nowhere", "--label", "a", *model, code=4)
    said("enrol", file, folder, *model)
    other = two_heads_bundle(tmp_path / "two.bundle")
    for verb in (("search", file, folder / "coffee"), ("enrol", file, folder)):
        assert "enrol the pictures again" in said(*verb, "--model", other, code=1)
    assert "not a gallery of signatures" in said("enrol", file, folder, "--signatures", *model, code=1)
    assert "edgebone run" in said("search", file, write_video(tmp_path / "v.mp4", [RED] * 3), *model, code=4)
    file.write_bytes(file.read_bytes()[:1000])
    assert "not a gallery, or a damaged one" in said("list", file, code=1)


@pytest_program
def test_pictures_that_are_searched_and_cannot_be_read_are_listed(
    layout_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    with load(layout_bundle) as loaded:
        gallery = Gallery(space_of(loaded), 192)
        gallery.add(np.eye(192)[:3], "a")
        gallery.save(file)
    (tmp_path / "damaged").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "damaged" / name).write_bytes(b"no picture")
    lines = said("search", file, tmp_path / "damaged", *model, code=4).splitlines()
    assert [line.split(":")[1] for line in lines] == [" left out", " left out", " none of 2 pictures could be read"]
    assert "b.jpg" in lines[1]
    some = edgebone("gallery", "search", file, tmp_path / "damaged", folder / "coffee" / "0.jpg", *model)
    assert (some.returncode, len(some.stdout.splitlines()), len(some.stderr.splitlines())) == (0, 1, 2)


@pytest_program
def test_names_that_are_not_utf8_are_enrolled_and_removed(layout_bundle: Path, folder: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "coffee").rename(odd)
    good = (odd / "0.jpg").rename(odd / os.fsdecode(b"\xe90.jpg"))
    (odd / os.fsdecode(b"\xe91.jpg")).write_bytes(b"no picture")
    first = json.loads(said("enrol", file, odd, "--label", odd.name, *model, "--json"))
    assert (first["pictures"], len(first["unreadable"])) == (3, 1)
    assert "caf�/�1.jpg" in first["unreadable"][0]
    again = json.loads(said("enrol", file, good, "--label", odd.name, *model, "--json"))
    assert (again["already_there"], again["under_another_label"]) == (1, [])
    other = json.loads(said("enrol", file, good, "--label", "tea", *model, "--json"))
    assert [(item["source"], item["label"]) for item in other["under_another_label"]] == [
        (f"{tmp_path}/caf�/�0.jpg", "caf�")
    ]
    assert "0 of 0 labels are left" in said("remove", file, "--label", odd.name)


@pytest_program
def test_signatures_are_enrolled_under_their_files_names(layout_bundle: Path, folder: Path, tmp_path: Path) -> None:
    file, model = tmp_path / "a.gallery", ("--model", layout_bundle)
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in PHOTOS:
        (folder / name / "0.jpg").rename(flat / f"{name}.jpg")
    done = json.loads(said("enrol", file, flat, "--signatures", *model, "--json"))
    assert (done["pictures"], done["labels"]) == (6, 6)
    mirrored = cv2.imread(str(flat / "coffee.jpg"))[:, ::-1]
    cv2.imwrite(str(tmp_path / "copy.jpg"), cv2.resize(mirrored, None, fx=0.5, fy=0.5), [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert json.loads(said("search", file, tmp_path / "copy.jpg", *model, "--json"))["label"] == "coffee.jpg"


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNetV2's embedding with its ImageNet weights."""
    pytest.importorskip("torch")
    from edgebone_export import export
    from edgebone_export.errors import WeightsError

    path = tmp_path_factory.mktemp("bundles") / "mobilenet_v2.bundle"
    try:
        export("mobilenet_v2", path, weights="IMAGENET1K_V1", output_kind="embedding", batch=(1, 8))
    except WeightsError as error:
        pytest.skip(f"weights cannot be had here: {error}")
    return path


@pytest.mark.slow
@needs("usearch")
def test_signatures_of_a_real_network_survive_what_happens_to_copies(
    mobilenet: Path, photos: dict[str, np.ndarray]
) -> None:
    def worn(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        cut = image[height // 10 : height - height // 10, : width - width // 5, ::]
        small = cv2.resize(np.ascontiguousarray(cut[:, ::-1]), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1)

    known, strange = PHOTOS[:4], PHOTOS[4:]
    with load(mobilenet) as model:
        gallery = Gallery(space_of(model, views=SIGNATURE), 1280, views=SIGNATURE)
        gallery.add(
            embed_references(model, [photos[name] for name in known]).reshape(-1, 1280),
            [n for n in known for _ in "ab"],
        )
        gallery.calibrate(0.001)
        copies = embed_pictures(model, [worn(photos[name]) for name in known], views=SIGNATURE)
        others = embed_pictures(model, [photos[name] for name in strange], views=SIGNATURE)
    assert [matches.label for matches in gallery.identify_all(copies)] == list(known)
    assert all(matches.is_unknown for matches in gallery.identify_all(others))


@pytest.mark.slow
@needs("usearch")
def test_the_benchmark_writes_what_it_prints(layout_bundle: Path, folder: Path, tmp_path: Path) -> None:
    flat, figures = tmp_path / "flat", tmp_path / "figures.json"
    flat.mkdir()
    for name in PHOTOS:
        (folder / name / "0.jpg").rename(flat / f"{name}.jpg")
    script = ROOT / "benchmarks" / "signatures.py"
    command = [sys.executable, script, layout_bundle, flat, "--vectors", 2000, "--json", figures]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    mirrored = {name: method["recall"]["mirrored"] for name, method in found["sets"][0]["methods"].items()}
    assert mirrored["the same with thumbnails (edgebone's signatures)"]["found"] == 6
    assert mirrored["pHash"]["found"] < 6
    assert found["million"]["recall_at_1"] > 0.9
    assert f"{found['sets'][0]['costs']['signature_ms']:.1f} ms per signature" in done.stdout


@pytest.mark.parametrize("signatures", [False, True])
def test_enrolled_vectors_are_those_of_one_group_after_the_other_to_the_bit(
    layout_bundle: Path, tmp_path: Path, signatures: bool
) -> None:
    images = [np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), np.uint8) for number in range(21)]
    samples = []
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        samples.append(enrolment.Sample(str(tmp_path / f"{number}.png"), f"label {number}"))
    (tmp_path / "9.png").write_bytes(b"no picture")
    with load(layout_bundle) as model:
        gallery = Gallery("space", 192, views=SIGNATURE) if signatures else Gallery("space", 192)
        done = enrolment.embed_samples(model, gallery, samples, None, keep=True)
        groups = [images[:8], [*images[8:9], *images[10:16]], images[16:]]
        wanted = [
            embed_references(model, group) if signatures else embed_pictures(model, group)[:, None] for group in groups
        ]
    assert done.vectors.tobytes() == np.concatenate(wanted).tobytes()
    assert [sample.label for sample in done.samples] == [f"label {number}" for number in range(21) if number != 9]
    assert len(done.unreadable) == 1
    assert "9.png" in done.unreadable[0]


def test_a_picture_too_long_and_narrow_is_not_enrolled_and_the_others_are(layout_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(RED))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((60_000, 1, 3), np.uint8))
    samples = [enrolment.Sample(str(tmp_path / f"{number}.png"), "a") for number in (0, 1, 0)]
    with load(layout_bundle) as model:
        how = msgspec.structs.replace(model.manifest.preprocess, mode="crop", resize=900, antialias=False)
        model.manifest = msgspec.structs.replace(model.manifest, preprocess=how)
        done = enrolment.embed_samples(model, Gallery("space", 192), samples, None, keep=True)
    assert len(done.vectors) == len(done.samples) == 2
    assert f"{tmp_path}/1.png: a picture of 1x60000" in done.unreadable[0]
