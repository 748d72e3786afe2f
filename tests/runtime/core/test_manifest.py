"""The manifest: strict, so that what cannot be understood is never run in another way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import BundleError
from edgebone.core.manifest import parse_manifest
from support.bundles import COLORS, write_colors_bundle

# Objects whose keys are names.
FREE = ("heads", "variants", "files", "engines", "plans", "frame_variants", "taps")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_colors_bundle(tmp_path_factory.mktemp("manifest") / "colors.bundle")
    return (path / "manifest.json").read_text()


def changed(text: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    manifest = json.loads(text)
    change(manifest)
    return json.dumps(manifest).encode()


def every_object(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all JSON objects in the manifest whose keys are fixed."""
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in every_object(item, (*path, index))]
    if not isinstance(value, dict):
        return []
    free = path in [(key,) for key in FREE] or path[-1:] in (("params",), ("reduced",))
    inner = [found for key, item in value.items() for found in every_object(item, (*path, key))]
    return inner if free else [path, *inner]


def at(manifest: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        manifest = manifest[step]
    return manifest


def test_the_manifest_survives_reading_and_writing(text: str) -> None:
    once = parse_manifest(text.encode(), "x")
    assert parse_manifest(msgspec.json.encode(once), "x") == once
    assert once.heads["classification"].labels == COLORS


def test_an_unknown_key_is_refused_wherever_it_stands(text: str) -> None:
    paths = every_object(json.loads(text))
    assert len(paths) >= 12
    for path in paths:
        with pytest.raises(BundleError, match="unknown field `surprise`"):
            parse_manifest(changed(text, lambda m, path=path: at(m, path).update(surprise=1)), "the bundle")


def test_a_missing_key_is_refused_and_named(text: str) -> None:
    for key in json.loads(text).keys() - {"engines", "plans", "frame_variants", "taps"}:
        with pytest.raises(BundleError, match=rf"the bundle: manifest.*{key}|schema None"):
            parse_manifest(changed(text, lambda m, key=key: m.pop(key)), "the bundle")


def test_a_value_of_another_type_is_refused(text: str) -> None:
    for key in json.loads(text):
        for value in (None, 3.5, [{}]):
            with pytest.raises(BundleError):
                parse_manifest(changed(text, lambda m, key=key, value=value: m.update({key: value})), "x")


@pytest.mark.parametrize("schema", [0, 2, -1, "1", "v1", True, None, [1], {"major": 1}, 1.5])
def test_another_schema_is_refused_with_what_to_do(text: str, schema: object) -> None:
    with pytest.raises(BundleError, match=r"schema.*this edgebone reads schema 1; install the edgebone that"):
        parse_manifest(changed(text, lambda m: m.update(schema=schema)), "x")


def test_a_newer_schema_is_refused_for_its_number_even_where_nothing_else_is_known() -> None:
    with pytest.raises(BundleError, match="schema 7, but this edgebone reads schema 1"):
        parse_manifest(b'{"schema": 7, "all": "different"}', "x")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b"schema: 1", b"\xff\xfe", b'{"schema": 1, "name": "\xff"}',
        pytest.param(b'{"schema":' + b"[" * 200_000 + b"]" * 200_000 + b"}", id="deep"),
        pytest.param(b'{"schema":1,"heads":' + b"[" * 200_000, id="deep and cut off"),
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(BundleError, match=r"x: manifest\.json"):
        parse_manifest(raw, "x")


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("preprocess", "size_hw"), [0, 32], r"Expected `int` >= 1 - at `\$\.preprocess\.size_hw"),
        (("preprocess", "size_hw"), [40_000, 40_000], r"Expected `int` <= 8192 - at `\$\.preprocess\.size_hw"),
        (("preprocess", "size_hw"), [32, 32, 3], "size_hw"),
        (("preprocess", "resize"), None, "resize is required for mode crop"),
        (("preprocess", "resize"), 0, "resize must be 1 to 8192"),
        (("preprocess", "resize"), 20_000, "resize must be 1 to 8192"),
        (("preprocess", "resize"), [36, 10**9], "resize must be 1 to 8192"),
        (("preprocess", "resize"), [36, -1], "resize must be 1 to 8192"),
        (("preprocess", "mode"), "letterbox", "resize is required for mode crop"),
        (("preprocess", "mode"), "zoom", "mode"),
        (("preprocess", "std"), [1, 0, 1], "std must be positive"),
        (("preprocess", "mean"), [1, 0], "mean"),
        (("preprocess", "pad_value"), 256, "pad_value must be 0 to 255"),
        (("preprocess", "color"), "RGB", "color"),
        (("preprocess", "antialias"), 1, "antialias"),
        (("variants", "fp32", "batch"), [0, 0], "batch"),
        (("variants", "fp32", "batch"), [3, 1], "batch"),
        (("variants", "fp32", "batch"), [-1, 1], "batch"),
        (("variants", "fp32", "batch"), [1, 10**9], "batch"),
        (("variants", "fp32", "parity", "max_abs"), -1, "max_abs"),
        (("input", "shape"), [1, 0, 32, 3], r"input\.shape"),
        (("input", "shape"), [1, 2**40, 32, 3], r"input\.shape"),
        (("input", "shape"), [1] * 9, r"input\.shape"),
        (("input", "shape"), ["batch", 8192, 8192, 8192], "takes more than 1 GB"),
        (("input", "dtype"), "object", r"input\.dtype"),
        (("model", "parameters"), 10**18, "parameters"),
        (("golden", "max_rel"), 1e305, "max_rel"),
        (("name",), "x" * 5000, "length <= 1024"),
        (("heads", "classification", "labels"), ["x" * 5000], "length <= 1024"),
        (("variants",), {}, "at least one variant"),
        (("heads",), {}, "at least one variant and one head"),
        (("heads", "classification", "outputs"), ["other"], "other"),
        (("golden", "image"), "elsewhere.png", "elsewhere.png but does not list its hash"),
        (("variants", "fp32", "file"), "other.onnx", "other.onnx but does not list its hash"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(text: str, where: tuple[str, ...], value: object, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        parse_manifest(changed(text, lambda m: at(m, where[:-1]).update({where[-1]: value})), "x")


def test_pictures_that_no_memory_holds_at_the_least_batch_are_refused(text: str) -> None:
    def large(m: dict[str, Any], batch: int) -> None:
        m["preprocess"].update(size_hw=[4096, 4096])
        m["variants"]["fp32"].update(batch=[batch, 4096])

    words = r"images: uint8\[batch,4096,4096,3\] at a batch of 22 takes more than 1 GB"
    with pytest.raises(BundleError, match=words):
        parse_manifest(changed(text, lambda m: large(m, 22)), "x")
    assert parse_manifest(changed(text, lambda m: large(m, 21)), "x").variants["fp32"].batch == (21, 4096)


def test_labels_with_spaces_digits_and_other_scripts_survive(tmp_path: Path) -> None:
    labels = (
        "traffic light 2",
        " 7 ",
        "07",
        "7",
        "tabby, tabby cat",
        'a "quoted" \\ one',
        "信号機 🚦",
        "line\nbreak",
        "",
    )
    path = write_colors_bundle(tmp_path / "a.zip")
    manifest = json.loads(_manifest_of(path))
    manifest["heads"]["classification"]["labels"] = list(labels)
    assert parse_manifest(json.dumps(manifest).encode(), "x").heads["classification"].labels == labels
    assert (
        parse_manifest(json.dumps(manifest, ensure_ascii=False).encode(), "x").heads["classification"].labels == labels
    )


def _manifest_of(path: Path) -> bytes:
    with open_bundle(path) as opened:
        return msgspec.json.encode(opened.manifest)
