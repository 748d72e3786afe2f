"""What a report says, in lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST = 5
_WHERE = {"held_out": "held out", "cross_validation": "cross-validation"}


def report_text(report: Mapping[str, Any]) -> list[str]:
    """Write a fitted head's report as lines, the most important first.

    Args:
        report: ``FittedHead.report``.
    """
    if report["task"] in _ON_MAPS:
        return _ON_MAPS[report["task"]](report)
    chosen = ", ".join(f"{name} {_number(value)}" for name, value in report["chosen"].items())
    counts = report["train"]
    views = f", {counts['rows']} views" if counts["rows"] != counts["pictures"] else ""
    lines = [
        f"{report['task']}, {report['kind']}: {counts['pictures']} pictures{views}, {report['features']} features, "
        f"{report['seconds']:.1f} s{'; chosen: ' if chosen else ''}{chosen}"
    ]
    for place, name in _WHERE.items():
        found = report.get(place)
        if found is not None:
            lines += _TASKS[report["task"]](name, found, report)
    if report.get("held_out") is None and report.get("cross_validation") is None:
        lines.append(f"nothing was measured: {report.get('why', 'no class has two pictures')}")
    if report.get("one_scene"):
        names = report["one_scene"]
        lines.append(
            f"all pictures look alike, which flatters the figures: {', '.join(names[:_MOST])}"
            f"{f' and {len(names) - _MOST} more' if len(names) > _MOST else ''}"
        )
    if report.get("never_tested"):
        names = report["never_tested"]
        lines.append(
            f"never tested, for want of a second picture: {', '.join(names[:_MOST])}"
            f"{f' and {len(names) - _MOST} more' if len(names) > _MOST else ''}"
        )
    return lines


def _classification(name: str, found: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name}: accuracy {_share(found['accuracy'])}, macro F1 {found['macro_f1']:.3f}; calibration error "
        f"{_percent(found['ece_before'])} before, {_percent(found['ece'])} after"
    ]
    if "fold_accuracies" in found:
        lines[0] += f"; the {found['folds']} parts: " + ", ".join(_percent(value) for value in found["fold_accuracies"])
    if name == "held out" or report["held_out"] is None:
        lines += [
            f"  {row['true']} taken for {row['predicted']}: {row['count']} times ({_percent(row['share_of_true'])})"
            for row in found["confusions"][:_MOST]
        ]
    return lines + _decision(name, report)


def _decision(name: str, report: Mapping[str, Any]) -> list[str]:
    decision = report.get("decision", {})
    figures = decision.get(name.replace(" ", "_").replace("-", "_"))
    if figures is None:
        return []
    if "positive" in decision:
        how = f"{decision['positive']} from {decision['threshold']:.3f} on"
        if "abstain" in decision:
            how += ", nothing from {:.3f} to {:.3f}".format(*decision["abstain"])
    else:
        how = f"nothing below {decision['abstain_below']:.3f}"
    parts = [
        f"{figure.replace('_', ' ')} {_number(value) if not isinstance(value, Mapping) else _share(value)}"
        for figure, value in figures.items()
        if value is not None
    ]
    return [f"{name}, decided as {how}: {', '.join(parts)}"]


def _multilabel(name: str, found: Mapping[str, Any], _: Mapping[str, Any]) -> list[str]:
    worst = sorted((row for row in found["labels"] if row["support"]), key=lambda row: row["f1"])[:_MOST]
    return [
        f"{name}: mAP {_percent(found['mAP'])}, F1 of all decisions {_number(found['micro_f1'])}, mean over labels "
        f"{_number(found['macro_f1'])}",
        *(f"  {row['label']}: F1 {row['f1']:.3f}, {row['support']} rows" for row in worst),
    ]


def _regression(name: str, found: Mapping[str, Any], _: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in found["values"]:
        text = (
            f"{name}, {row['name']}: R² {_number(row['r2'])}, mean error {_number(row['mae'])}, "
            f"root mean square {_number(row['rmse'])}"
        )
        if "half_width" in row:
            text += f"; {_share(row['covered'])} within ± {_number(row['half_width'])}"
        lines.append(text)
    return lines


def _embedding(name: str, found: Mapping[str, Any], _: Mapping[str, Any]) -> list[str]:
    tried = ", ".join(f"{row['kind']} {_percent(row['accuracy'])}" for row in found.get("tried", ()))
    line = f"{name}: nearest neighbour of the same class {_share(found['accuracy'])}"
    return [line + f"; tried: {tried}" * bool(tried)]


def _segmentation(report: Mapping[str, Any]) -> list[str]:
    lines = [_dense(report)]
    for name, found in _measured(report):
        lines.append(
            f"{name}: mIoU {_percent(found['miou'])} on {found['pictures']} pictures, pixel accuracy "
            f"{_percent(found['pixel_accuracy'])}"
        )
        if name == "held out" or report["held_out"] is None:
            lines += [
                f"  {label}: IoU {'unknown' if value is None else _percent(value)}, border F1 "
                f"{_number(found['border_f1'].get(label))} within {found['border_tolerance_px']} pixels"
                for label, value in found["iou"].items()
            ]
    return lines


def _detection(report: Mapping[str, Any]) -> list[str]:
    return [
        _dense(report),
        *(
            f"{name}: AP {_percent(found['AP'])}, AP50 {_percent(found['AP50'])} on {found['pictures']} pictures with "
            f"{sum(found['boxes'].values())} boxes; F1 {_number(found['f1'])} of boxes from score "
            f"{_number(report['score'])} on"
            for name, found in _measured(report)
        ),
    ]


def _measured(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What was only measured on first, then what the choices were made on."""
    places = (("held out", report["held_out"]), ("validation, on which the epoch was chosen", report["validation"]))
    return [(name, found) for name, found in places if found is not None]


def _anomaly(report: Mapping[str, Any]) -> list[str]:
    normal, odd = report["held_out"]["normal"], report["held_out"]["anomalous"]
    lines = [
        f"anomaly, {report['kind']}: {report['patches']} patches of {report['train']['pictures']} normal pictures, "
        f"{report['seconds']:.1f} s",
        f"threshold {_number(report['threshold'])}: {report['threshold_by']}",
        f"held out: {_share(normal['false_alarms'])} of normal pictures taken for odd ones",
    ]
    if odd is not None:
        lines.append(f"odd pictures: {_share(odd['found'])} found, AUROC {_number(odd['auroc'])}")
    return lines


def _dense(report: Mapping[str, Any]) -> str:
    return (
        f"{report['task']}, {report['kind']}: {report['train']['pictures']} pictures, {report['parameters']} weights, "
        f"{report['seconds']:.1f} s; best of {report['epochs']} epochs: {report['best_epoch']}"
    )


_ON_MAPS = {"segmentation": _segmentation, "detection": _detection, "anomaly": _anomaly}
_TASKS = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
    "embedding": _embedding,
}


def _share(value: Mapping[str, Any]) -> str:
    """``76.8 % (71.6 to 81.1 %, n 296)``."""
    if value["value"] is None:
        return "unknown (n 0)"
    low, high = value["interval95"]
    return f"{_percent(value['value'])} ({100 * low:.1f} to {_percent(high)}, n {value['n']})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
