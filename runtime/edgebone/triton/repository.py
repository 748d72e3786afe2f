"""Writes a bundle as a model of a Triton repository."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.errors import BundleError, OutputError
from edgebone.core.golden import read_golden
from edgebone.core.locking import locked
from edgebone.core.machine import Machine
from edgebone.core.manifest import CompiledEngine, Head, Manifest, Variant
from edgebone.core.near import did_you_mean
from edgebone.core.staging import put_in_place, staging
from edgebone.core.tensors import Array, TensorSpec
from edgebone.core.writing import writing
from edgebone.decode.registry import find_spec
from edgebone.engines.batches import filled
from edgebone.engines.table import ROWS
from edgebone.triton.config_text import Field, Word, to_text

_BACKENDS = {row.name: row.triton for row in sorted(ROWS, key=lambda row: row.name) if row.triton}
_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
_WARMUP = "golden"


@dataclass(frozen=True)
class TritonModel:
    """The written model.

    Attributes:
        path: The model's folder in the repository.
        versions: The variant of each version, by the version's number.
    """

    path: Path
    versions: dict[int, str]


def export_triton(
    path: str,
    repository: Path,
    *,
    name: str | None = None,
    variants: Sequence[str] = (),
    backend: str = "onnxruntime",
    max_batch: int | None = None,
    instances: int = 1,
    delay_us: int = 1000,
    overwrite: bool = False,
) -> TritonModel:
    """Write a bundle into a model repository, atomically; its other models are not touched.

    Args:
        path: The bundle.
        repository: The repository's folder; created if missing.
        name: The model's name; None derives it from the bundle's.
        variants: One version each, from 1; empty for FP32.
        backend: ``onnxruntime``, ``openvino``, or ``tensorrt`` for the bundle's compiled engines.
        max_batch: The largest batch that Triton gathers; None for the variant's.
        instances: The number of copies that run in parallel.
        delay_us: How long Triton waits to fill a batch, in microseconds.
        overwrite: Replace a model of that name.

    Raises:
        BundleError: A variant is missing or not for this backend, or a head is detached.
        OutputError: The model already exists, or cannot be written.
    """
    if backend not in _BACKENDS:
        raise BundleError(
            f"there is no backend {backend}; {did_you_mean(backend, _BACKENDS)}choose {', '.join(_BACKENDS)}"
        )
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        detached = [key for key, head in manifest.heads.items() if head.detached]
        if detached:
            raise BundleError(
                f"{path}: head {detached[0]} is detached, and Triton serves one graph; attach it without --detached"
            )
        chosen = list(variants) or ["fp32"]
        for own in chosen:
            _check_variant(path, manifest, own, backend)
        model = _legal_name(name, manifest.name)
        largest = _largest_batch(path, manifest, chosen, max_batch)
        file = "model.plan" if _BACKENDS[backend].compiled else "model.onnx"
        contents = {f"{number}/{file}": _content(bundle, own, backend) for number, own in enumerate(chosen, start=1)}
        label_files = _label_files(manifest.heads)
        warmed = _warmed(read_golden(bundle).network_input, manifest, chosen)
        config = _config(manifest, model, chosen, backend, largest, instances, delay_us, label_files, warmed.shape)
        contents["config.pbtxt"] = to_text(config).encode()
        contents[f"warmup/{_WARMUP}"] = warmed.tobytes()
        for head, labels in label_files.items():
            lines = (f"{_one_line(label)}\n" for label in manifest.heads[head].labels)
            contents[labels] = "".join(lines).encode()
    _write(repository, model, contents, overwrite)
    return TritonModel(repository / model, dict(enumerate(chosen, start=1)))


def _check_variant(path: str, manifest: Manifest, name: str, backend: str) -> None:
    if name not in manifest.variants:
        hint = did_you_mean(name, manifest.variants)
        raise BundleError(f"{path}: there is no variant {name}; {hint}there are {', '.join(manifest.variants)}")
    made_for = manifest.variants[name].engines
    if made_for and backend not in made_for:
        raise BundleError(
            f"{path}: variant {name} is for {' and '.join(made_for)}, not for {backend}; "
            "choose another --backend, or another --variant"
        )


def _legal_name(name: str | None, own: str) -> str:
    if name is None:
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", own).strip("._") or "model"
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise BundleError(f"a model's name has letters, digits, _ . and -, not {name!r}")
    return name


def _largest_batch(path: str, manifest: Manifest, chosen: Sequence[str], wanted: int | None) -> int:
    """Return the largest batch that Triton gathers; 0 for a static one, which it must not change."""
    ranges = [manifest.variants[name].batch for name in chosen]
    if len(set(ranges)) > 1:
        raise BundleError(f"{path}: the variants have batches {ranges}, the versions of one model must have the same")
    low, high = ranges[0]
    if low == high:
        if wanted is not None and wanted != high:
            raise BundleError(
                f"{path}: its batch is fixed at {high}; export it with --batch 1-{wanted} to gather batches"
            )
        return 0
    if low > 1:
        raise BundleError(
            f"{path}: its smallest batch is {low}, but Triton sends single pictures; export it with --batch 1-{high}"
        )
    if wanted is not None and not 1 <= wanted <= high:
        raise BundleError(f"{path}: it accepts batches of 1 to {high}, not {wanted}")
    return wanted or high


def _content(bundle: Bundle, variant: str, backend: str) -> bytes:
    manifest = bundle.manifest
    if not _BACKENDS[backend].compiled:
        return bundle.read(manifest.variants[variant].file)
    own = [engine for engine in manifest.engines.values() if engine.variant == variant]
    served = [engine for engine in own if engine.target == backend]
    if not served:
        why = "Triton does not serve TensorRT-RTX's engines; " if own else ""
        raise BundleError(
            f"{bundle.path}: it has no TensorRT engine for variant {variant}: {why}edgebone compile {bundle.path} "
            "--target tensorrt"
        )
    return bundle.read(_only(bundle.path, variant, served).file)


def _only(path: Path, variant: str, engines: Sequence[CompiledEngine]) -> CompiledEngine:
    """Return the only engine; of several, this machine's, since an engine runs on the GPU that it was compiled for."""
    if len(engines) == 1:
        return engines[0]
    machine = Machine.probe()
    here = ",".join(machine.gpus) or machine.jetson
    fitting = [engine for engine in engines if here and engine.provenance.get("gpu") == here]
    if len(fitting) != 1:
        places = "; ".join(engine.provenance.get("gpu") or "an unknown GPU" for engine in engines)
        raise BundleError(
            f"{path}: it has {len(engines)} TensorRT engines for variant {variant} ({places}), but Triton needs one; "
            "export on the machine that will serve, from a bundle with one engine for its GPU"
        )
    return fitting[0]


def _warmed(network_input: Array, manifest: Manifest, chosen: Sequence[str]) -> Array:
    """Return the golden input as Triton sends it: repeated for a fixed batch, one picture for a free one."""
    low, high = manifest.variants[chosen[0]].batch
    return filled(network_input, high) if low == high else network_input[0]


def _config(
    manifest: Manifest,
    name: str,
    variants: Sequence[str],
    backend: str,
    largest_batch: int,
    instances: int,
    delay_us: int,
    label_files: Mapping[str, str],
    warmed_shape: Sequence[int],
) -> dict[str, Field]:
    dynamic = largest_batch > 0
    labels = {
        output: label_files[head_name]
        for head_name, head in manifest.heads.items()
        if head.labels and _has_score_a_label(head)
        for output in head.outputs
    }
    config: dict[str, Field] = {"name": name}
    served = _BACKENDS[backend]
    if served.compiled:
        config["platform"] = f"{backend}_plan"
    else:
        config["backend"] = backend
        config["default_model_filename"] = "model.onnx"
    config["max_batch_size"] = largest_batch
    config["input"] = [_tensor(manifest.input, dynamic)]
    config["output"] = [
        {**_tensor(spec, dynamic), **({"label_filename": labels[spec.name]} if spec.name in labels else {})}
        for spec in manifest.outputs
    ]
    if dynamic:
        config["dynamic_batching"] = {"preferred_batch_size": [largest_batch], "max_queue_delay_microseconds": delay_us}
    # Auto: a GPU if the server has one and the backend can use it.
    config["instance_group"] = [{"count": instances, "kind": Word(served.kind)}]
    config["version_policy"] = {"specific": {"versions": list(range(1, len(variants) + 1))}}
    warmed: dict[str, Field] = {
        "data_type": _type(manifest.input),
        "dims": list(warmed_shape),
        "input_data_file": _WARMUP,
    }
    # A sample of batch 0, the default, is skipped; 1 is also right for fixed batches.
    config["model_warmup"] = [
        {"name": _WARMUP, "batch_size": 1, "inputs": {"key": manifest.input.name, "value": warmed}}
    ]
    parameters = _parameters(manifest, variants)
    if served.pads and dynamic:
        # Triton's OpenVINO backend fixes the batch at its maximum, and rejects smaller ones unless it may pad them.
        parameters["ENABLE_BATCH_PADDING"] = "YES"
    config["parameters"] = [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()]
    return config


def _parameters(manifest: Manifest, variants: Sequence[str]) -> dict[str, str]:
    """Return what a client needs to prepare pictures and decode outputs, as JSON."""
    named = {str(number): _about(name, manifest.variants[name]) for number, name in enumerate(variants, start=1)}
    return {
        "edgebone.preprocess": msgspec.json.encode(manifest.preprocess).decode(),
        "edgebone.heads": msgspec.json.encode(manifest.heads).decode(),
        "edgebone.versions": msgspec.json.encode(named).decode(),
    }


def _about(name: str, variant: Variant) -> dict[str, object]:
    return {"variant": name, "precision": variant.precision, "accuracy": variant.accuracy}


def _tensor(spec: TensorSpec, dynamic: bool) -> dict[str, Field]:
    if dynamic and (not spec.shape or isinstance(spec.shape[0], int)):
        raise BundleError(
            f"{spec} has no batch axis, so Triton cannot batch pictures; export the bundle with --batch 1"
        )
    # With max_batch_size, Triton prepends the batch axis itself.
    sizes = spec.shape[1:] if dynamic else spec.shape
    dims: list[Field] = [size if isinstance(size, int) else -1 for size in sizes]
    described: dict[str, Field] = {"name": spec.name, "data_type": _type(spec), "dims": dims or [1]}
    # Triton has no shape without axes, but can reshape to one.
    return described if dims else {**described, "reshape": {}}


def _type(spec: TensorSpec) -> Word:
    if spec.dtype not in _TYPES:
        raise BundleError(f"{spec} has a type that Triton lacks; it supports {', '.join(_TYPES)}")
    return Word(f"TYPE_{_TYPES[spec.dtype]}")


def _has_score_a_label(head: Head) -> bool:
    spec = find_spec(head.decoder)
    return spec is not None and spec.task.one_score_a_label


def _label_files(heads: Mapping[str, Head]) -> dict[str, str]:
    """Return a unique file name for each head with labels."""
    files: dict[str, str] = {}
    for name, head in heads.items():
        if not head.labels:
            continue
        stem = f"labels_{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"
        while f"{stem}.txt" in files.values():
            stem += "_"
        files[name] = f"{stem}.txt"
    return files


def _one_line(label: str) -> str:
    return " ".join(label.splitlines())


def _write(repository: Path, model: str, contents: dict[str, bytes], overwrite: bool) -> None:
    target = repository / model
    with writing(target):
        is_new = not repository.exists()
        try:
            with locked(target):
                if target.exists() and not overwrite:
                    raise OutputError(f"{target} exists; choose another --name, or replace it with --force")
                if target.exists() and not (target / "config.pbtxt").is_file():
                    raise OutputError(f"{target} is not a Triton model (it has no config.pbtxt); it was not replaced")
                _put(Path(os.path.realpath(target)), contents)
        except BaseException:
            if is_new:
                with suppress(OSError):
                    repository.rmdir()
            raise


def _put(place: Path, contents: dict[str, bytes]) -> None:
    with staging(place) as folder:
        made = folder / "model"
        for name, content in contents.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        put_in_place(made, place)
