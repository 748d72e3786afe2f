"""Inputs gone wrong: bytes, JSON and zips; the hashes are put right again, as an attacker would."""

from __future__ import annotations

import hashlib
import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

Mutate = Callable[[bytes, random.Random], bytes]
PutRight = Callable[[bytes, dict[str, bytes]], bytes]

# What JSON can say that a reader may not have thought of; put into the text as it stands.
_TOKENS = (
    "null", "true", "0", "-1", "1", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808",
    "1" + "0" * 30, "1" + "0" * 400, "-9223372036854775808", "1e308", "-1e308", "5e-324", "1e999", "-0", "0.5", "NaN",
    "Infinity", '""', '"x"',
    '"' + "x" * 5000 + '"', '"\\ud800"', '"a\\u0000b"', '"\\u001b[31m"', '"../../outside/secret"', '"/etc/passwd"',
    '"manifest.json"', '"./onnx/fp32.onnx"', '"onnx//fp32.onnx"', "[]", "{}", "[[1,2],[3]]", '{"a":{"b":[1]}}',
    "[" * 600, "[" * 2000 + "]" * 2000,
)  # fmt: skip
_WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut, insert, repeat: one to sixteen times."""
    content = bytearray(data or b"x")
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        place, length = rng.randrange(len(content)), rng.choice((1, 4, 16, 100))
        kind = rng.randrange(7)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = rng.randbytes(length)
        elif kind == 4:
            content[place : place + 4] = rng.choice(_WORDS)
        elif kind == 5:
            start = rng.randrange(len(content))
            content[place : place + length] = content[start : start + length]
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def mutate_json(text: bytes, rng: random.Random) -> bytes:
    """Change one to three places of a JSON text; one that cannot be read is changed as bytes."""
    try:
        root = [json.loads(text)]
    except (ValueError, RecursionError):
        return mutate_bytes(text, rng)
    tokens: dict[str, str] = {}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        # Behind the first place, which is the list around all.
        parent, key = rng.choice(list(_places(root)))
        kind, old = rng.randrange(8), parent[key]
        if kind == 0 and parent is not root:
            del parent[key]
        elif kind == 1 and isinstance(old, list):
            old.extend([rng.choice(old) if old else 0] * rng.choice((1, 2, 1000)))
        elif kind == 1 and isinstance(old, dict):
            old[rng.choice(("surprise", "schema", "name", ""))] = rng.choice((0, "x", [], None))
        elif kind == 2:
            other, place = rng.choice(list(_places(root)))
            parent[key] = json.loads(json.dumps(other[place]))
        elif kind == 3 and isinstance(old, dict) and old:
            twice = f"{json.dumps(rng.choice(list(old)))}:{rng.choice(_TOKENS)}"
            parent[key] = _marked(tokens, json.dumps(old)[:-1] + f",{twice}}}")
        elif kind == 4 and isinstance(old, (int, float)) and not isinstance(old, bool):
            new = (
                old + 1,
                old - 1,
                -old,
                old * 1000,
                old * 10**9,
                old / 3,
                float(old),
                str(old),
                rng.randrange(-5, 300),
            )
            parent[key] = rng.choice(new)
        elif kind == 5 and isinstance(old, str):
            parent[key] = rng.choice((old[:-1], old + "x", old.upper(), old * 50, [old], {"a": old}))
        elif kind == 6 and isinstance(old, list):
            rng.shuffle(old)
        else:
            parent[key] = _marked(tokens, rng.choice(_TOKENS))
    made = json.dumps(root[0])
    for marker, token in reversed(tokens.items()):
        made = made.replace(json.dumps(marker), token)
    changed = made.encode("utf-8", "surrogatepass")
    return mutate_bytes(changed, rng) if rng.random() < 0.1 else changed


def _marked(tokens: dict[str, str], token: str) -> str:
    """A string that stands for a piece of text until all is written."""
    marker = f"@{len(tokens)}@"
    tokens[marker] = token
    return marker


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value below, as what holds it and its key or index."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def unzip(data: bytes) -> dict[str, bytes]:
    """A zip's members by name; those that can be read."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                found[info.filename] = archive.read(info) if info.file_size < 1 << 24 else b""
    except Exception:
        return found
    return found


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of such members, with no times in it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


def with_hashes(manifest: bytes, files: dict[str, bytes]) -> bytes:
    """A manifest whose ``files`` are these; as it was where it is no manifest any more."""
    try:
        read = json.loads(manifest)
        read["files"] = {name: record(content) for name, content in files.items()}
        return json.dumps(read).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, RecursionError):
        return manifest


def with_graph_hash(manifest: bytes, files: dict[str, bytes]) -> bytes:
    """The same of a head, which has one file."""
    try:
        read = json.loads(manifest)
        read["sha256"] = hashlib.sha256(files["head.onnx"]).hexdigest()
        return json.dumps(read).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, KeyError, RecursionError):
        return manifest


def record(content: bytes) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def of_manifest(manifest: str) -> Mutate:
    """Changes the JSON of a zip, not the other members, whose hashes stay right."""
    return partial(_mutate_manifest, manifest)


def _mutate_manifest(manifest: str, data: bytes, rng: random.Random) -> bytes:
    files = unzip(data)
    files[manifest] = mutate_json(files.get(manifest, b""), rng)
    return make_zip(files, _method(rng))


def of_members(manifest: str, suffixes: tuple[str, ...], change: Mutate, put_right: PutRight = with_hashes) -> Mutate:
    """Changes a member of a zip and puts its hash right; now and then the manifest as well.

    Args:
        manifest: Name of the JSON that has the members' hashes.
        suffixes: How the names of the members end that are changed.
        change: Changes a member.
        put_right: Puts the hashes of all members into the manifest.
    """
    return partial(_mutate_members, manifest, suffixes, change, put_right)


def _mutate_members(
    manifest: str, suffixes: tuple[str, ...], change: Mutate, put_right: PutRight, data: bytes, rng: random.Random
) -> bytes:
    files = unzip(data)
    own = files.pop(manifest, b"")
    names = [name for name in files if name.endswith(suffixes)]
    if names:
        name = rng.choice(names)
        files[name] = change(files[name], rng)
    own = put_right(own, files)
    return make_zip({manifest: mutate_json(own, rng) if rng.random() < 0.2 else own, **files})


def mutate_npy(data: bytes, rng: random.Random) -> bytes:
    """Another shape or dtype in an array's header, or other bytes."""
    start, end = data.find(b"'shape': ("), data.find(b"}")
    if start < 0 or end < 0 or rng.random() < 0.5:
        return mutate_bytes(data, rng)
    if rng.random() < 0.3:
        descr = rng.choice((b"'|O'", b"'<f8'", b"'<f2'", b"'<U9'", b"'|V99999999'", b"[('a', '<f4')]", b"'", b"'m8'"))
        return data[:10] + b"{'descr': " + descr + b", 'fortran_order': False, " + data[start:]
    shapes = (
        b"99999999999,",
        b"1000000000,",
        b"0,",
        b"-1,",
        b"4611686018427387904, 4",
        b"1, 4, 1,",
        b"1e9",
        b"(" * 200,
    )
    return data[: start + 10] + rng.choice(shapes) + data[data.find(b")", start) :]


def mutate_npz(data: bytes, rng: random.Random) -> bytes:
    """The same to one of several arrays in a zip."""
    files = unzip(data)
    if not files or rng.random() < 0.2:
        return mutate_bytes(data, rng)
    name = rng.choice(list(files))
    files[name] = mutate_npy(files[name], rng)
    return make_zip(files, _method(rng))


def mutate_graph(data: bytes, rng: random.Random) -> bytes:
    """Other operators, types, sizes, links and references to files in an ONNX network; or other bytes."""
    import onnx

    if rng.random() < 0.3:
        return mutate_bytes(data, rng)
    try:
        model = onnx.load_from_string(data)
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice(_GRAPH_CHANGES)(model, rng)
        return bytes(model.SerializeToString())
    except Exception:
        # What was changed before is no network any more.
        return mutate_bytes(data, rng)


def _operator(model: Any, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _domain(model: Any, rng: random.Random) -> None:
    rng.choice(model.graph.node).domain = rng.choice(
        ("com.microsoft", "evil", "ai.onnx.ml", "ai.onnx.preview.training")
    )


def _sizes(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.dims[0] = rng.choice((0, -1, 1, 2, 2**31, 2**40, 2**62))


def _element_type(model: Any, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(25)


def _link(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    values = [name for other in model.graph.node for name in (*other.input, *other.output)]
    node.input[rng.randrange(len(node.input))] = rng.choice((*values, "", "nope"))


def _port(model: Any, rng: random.Random) -> None:
    kind = rng.choice((*model.graph.input, *model.graph.output)).type.tensor_type
    if rng.random() < 0.4:
        kind.elem_type = rng.randrange(25)
        return
    axis = rng.choice(kind.shape.dim)
    axis.Clear()
    if rng.random() < 0.5:
        axis.dim_value = rng.choice((0, -1, 1, 2**31, 2**62))
    else:
        axis.dim_param = "n"


def _opset(model: Any, rng: random.Random) -> None:
    model.opset_import[0].version = rng.choice((1, 7, 11, 13, 21, 25, 99, 0, -1))


def _values(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.float_data:
        tensor.float_data[0] = rng.choice((float("nan"), float("inf"), 1e38))
    if tensor.int64_data:
        tensor.int64_data[0] = rng.choice((2**62, -(2**62), 7, -1))


def _outside(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = 1
    where = ("../outside/secret", "../../../outside/secret", "/etc/passwd", "golden/image.png", "w.bin")
    tensor.external_data.add(key="location", value=rng.choice(where))


_GRAPH_CHANGES = (_operator, _domain, _sizes, _element_type, _link, _port, _opset, _values, _outside)
_OPERATORS = (
    "Cast", "Loop", "If", "NonZero", "Identity", "Tile", "Expand", "ConstantOfShape", "EyeLike", "Range", "OneHot",
    "Scan", "StringNormalizer", "TfIdfVectorizer", "Resize", "MaxPool", "NonMaxSuppression", "Evil", "DequantizeLinear",
    "Einsum", "GridSample", "SequenceEmpty", "Optional", "RegexFullMatch", "DFT", "STFT",
)  # fmt: skip

HOSTILE_NAMES = (
    "../outside/secret", "../../outside/secret", "/etc/passwd", "a/../../outside/secret", "..", ".", "", "onnx",
    "golden", "onnx/FP32.onnx", "golden/image.png/x", "./manifest.json", "manifest.json", "a\\..\\b", "C:\\x",
    "é", "e\u0301", "a" * 300, "x/" + "y/" * 120 + "z", "\u202egpj", "a\nb", "a\0b", "onnx/fp32.onnx/", "-rf", "~",
)  # fmt: skip


def mutate_names(data: bytes, rng: random.Random) -> bytes:
    """Members that are hostile by their names, come twice or are links, listed with the right hashes or not at all."""
    files = unzip(data)
    manifest = files.pop("manifest.json", b"{}")
    extra = {rng.choice(HOSTILE_NAMES): rng.randbytes(8) for _ in range(rng.choice((1, 2, 4)))}
    listed = {**files, **extra} if rng.random() < 0.7 else files
    manifest = with_hashes(manifest, listed)
    if rng.random() < 0.3:
        manifest = manifest.replace(b"onnx/fp32.onnx", json.dumps(rng.choice(HOSTILE_NAMES)).encode()[1:-1])
    members = [("manifest.json", manifest), *files.items(), *extra.items()]
    if rng.random() < 0.3:
        members += [(name, b"other") for name, _ in rng.sample(members, 2)]
    rng.shuffle(members)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            if rng.random() < 0.1:
                info.external_attr = 0o120777 << 16
                content = b"../../outside/secret"
            archive.writestr(info, content, _method(rng))
    return made.getvalue()


def mutate_text(data: bytes, rng: random.Random) -> bytes:
    """Lines left out, repeated and mixed, or other bytes."""
    if rng.random() < 0.5:
        return mutate_bytes(data, rng)
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 2, 3))):
        place = rng.randrange(len(lines))
        lines[place : place + 1] = rng.choice(
            ([], [lines[place]] * 2, [lines[place] + b"," + lines[0]], [b'"' + lines[place]], [b"\0"], [b"x" * 200_000])
        )
        lines = lines or [b""]
    return b"\n".join(lines)


def either(*mutators: Mutate) -> Mutate:
    """One of several each time."""
    return partial(_mutate_either, mutators)


def _mutate_either(mutators: tuple[Mutate, ...], data: bytes, rng: random.Random) -> bytes:
    return rng.choice(mutators)(data, rng)


def _method(rng: random.Random) -> int:
    return rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
