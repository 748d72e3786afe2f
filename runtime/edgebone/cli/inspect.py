"""``edgebone inspect``: a bundle's content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.cli import options
from edgebone.cli.output import say_json
from edgebone.cli.rows import print_rows

if TYPE_CHECKING:
    from edgebone.core.manifest import CompiledEngine, Manifest, Plan, Tap, Variant


def inspect_command(bundle: options.Bundle, json: options.Json = False) -> None:
    """Show a bundle's content and proofs; checks every file's hash."""
    import msgspec

    from edgebone.core.bundle import open_bundle

    with open_bundle(bundle) as opened:
        if json:
            say_json(msgspec.json.format(msgspec.json.encode(opened.manifest), indent=2))
        else:
            _show(opened.manifest, bundle)


def _show(manifest: Manifest, path: str) -> None:
    model, weights, pre = manifest.model, manifest.model.weights, manifest.preprocess
    resize = "" if pre.resize is None else f" of {pre.resize} px"
    rows = [
        ("bundle", f"{path}: {manifest.name}, by {manifest.created_by}, {manifest.created_at}"),
        ("model", f"{model.name} ({model.library}), {model.parameters / 1e6:.2f} M parameters"),
        ("weights", f"{weights.name}: {weights.origin}; {weights.verified}"),
        (
            "preprocess",
            f"{pre.mode}{resize} to {pre.size_hw[1]}x{pre.size_hw[0]}, {pre.interpolation}"
            f"{', antialiased' if pre.antialias else ''}, {pre.color}, mean {_numbers(pre.mean)}, "
            f"std {_numbers(pre.std)} (in the graph)",
        ),
        ("input", str(manifest.input)),
        *(("output", str(spec)) for spec in manifest.outputs),
        *(("head", _head(manifest, name)) for name in manifest.heads),
        *(("tap", f"{name}: {'×'.join(map(str, tap.shape))}{_stride(tap)}") for name, tap in manifest.taps.items()),
        *(("variant", _variant(manifest, name)) for name in manifest.variants),
        *(("frames", _frames(manifest, name)) for name in manifest.frame_variants),
        *(("engine", _engine(engine)) for engine in manifest.engines.values()),
        *(("plan", _plan(plan)) for plan in manifest.plans.values()),
    ]
    total = sum(record.size for record in manifest.files.values())
    rows.append(("files", f"{len(manifest.files)}, {total / 1e6:.1f} MB, every hash checked"))
    print_rows(rows)


def _head(manifest: Manifest, name: str) -> str:
    head = manifest.heads[name]
    size = f", attached, {manifest.files[head.file].size / 1e3:.0f} kB" if head.file else ""
    return f"{name}: {head.decoder}{_labels(head.labels)}{size}{', detached' if head.detached else ''}"


def _stride(tap: Tap) -> str:
    return f", stride {tap.stride}" if tap.stride else ""


def _variant(manifest: Manifest, name: str) -> str:
    variant = manifest.variants[name]
    parity = variant.parity
    low, high = variant.batch
    agreement, matched = parity.top1_agreement, parity.matched
    made_for = f" for {' and '.join(variant.engines)}" if variant.engines else ""
    return (
        f"{name}: {variant.precision}{made_for}, batch {low if low == high else f'{low}-{high}'}, "
        f"{manifest.files[variant.file].size / 1e6:.1f} MB; against {parity.reference} on {parity.pictures} pictures: "
        f"max difference {parity.max_abs:.2g}, cosine {parity.cosine:.7f}"
        + ("" if agreement is None else f", top-1 agreement {100 * agreement:.1f} %")
        + ("" if matched is None else f", {100 * matched:.2f} % of boxes or pixels the same")
        + "".join(f"; {key}: {found}" for key, found in variant.reduced.items())
        + _cost(variant)
    )


def _frames(manifest: Manifest, name: str) -> str:
    frame = manifest.frame_variants[name]
    text = (
        f"{name}: takes frames {options.Size(*frame.size_hw)}, {frame.layout}, network of {frame.variant}, "
        f"{manifest.files[frame.file].size / 1e6:.1f} MB; its input is at most {frame.input_steps} of 255 off from "
        f"the host's preprocessing on {frame.frames} frames, {frame.input_mean_steps:.2g} on average"
    )
    if frame.parity is None:
        return f"{text}; its outputs were not compared, since no engine at hand runs {frame.variant}"
    matched = frame.parity.matched
    text += f"; outputs: max difference {frame.parity.max_abs:.2g}, cosine {frame.parity.cosine:.7f}"
    return text + ("" if matched is None else f", {100 * matched:.2f} % of boxes or pixels the same")


def _cost(variant: Variant) -> str:
    """Return the cost of a lower precision, and how it was made."""
    accuracy, record = variant.accuracy, variant.quantization
    if accuracy is None or record is None:
        return ""
    figure = (
        ""
        if accuracy.metric == "agreement"
        else f"{accuracy.metric} {accuracy.value:.2f} ({accuracy.fp32:.2f} in FP32), "
    )
    kept = f", {len(record.kept)} of {record.layers} layers in FP32" if record.kept else ""
    return (
        f"; {figure}agreement {accuracy.agreement:.2f} % on {accuracy.pictures} pictures of {accuracy.data}; ranges by "
        f"{record.method} on {record.calibration_pictures} of {record.calibration}{kept}"
    )


def _engine(engine: CompiledEngine) -> str:
    made = engine.provenance
    return (
        f"{engine.variant} for {engine.target} {made.get('version', '')}, {made.get('gpu') or 'this GPU'}, batch "
        f"{made.get('batch', '')}: {engine.size_bytes / 1e6:.1f} MB, compiled in {engine.seconds:.1f} s"
    )


def _plan(plan: Plan) -> str:
    batch = "" if plan.batch is None else f", batch {plan.batch}"
    return (
        f"{plan.machine}: {plan.engine} {plan.precision} [{plan.variant}], {plan.hint} hint{batch}: "
        f"{plan.p50_ms:.2f} ms, {plan.fps:.0f} fps (plain FP32 onnxruntime {plan.fp32_p50_ms:.2f} ms, "
        f"{plan.fp32_fps:.0f} fps), {plan.measured_at}"
        + (f", while {plan.disturbed}" if plan.disturbed is not None and not plan.disturbed.is_quiet else "")
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _labels(labels: tuple[str, ...]) -> str:
    if not labels:
        return ""
    return f", {len(labels)} labels: {', '.join(labels[:3])}{', …' if len(labels) > 3 else ''}"
