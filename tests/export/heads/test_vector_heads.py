"""Heads on vectors: fitted on scikit-learn's own data sets, run by the engines, and decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, Ridge

from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.decode import make_decoder
from edgebone_export.errors import ExportError
from edgebone_export.heads.data.splits import folds_of
from edgebone_export.heads.features.fitted import FittedHead, Samples
from edgebone_export.heads.fit.report_text import report_text
from edgebone_export.heads.vectors import metrics
from edgebone_export.heads.vectors.calibration import best_f1_threshold, platt, temperature_of
from edgebone_export.heads.vectors.classifier import fit_classifier
from edgebone_export.heads.vectors.embedding import fit_embedding
from edgebone_export.heads.vectors.graph import computed
from edgebone_export.heads.vectors.logistic import LogisticPath
from edgebone_export.heads.vectors.multilabel import fit_multilabel
from edgebone_export.heads.vectors.regression import fit_regression
from edgebone_export.heads.vectors.standardize import standardizer

WHOLE = Geometry((32, 32), (32, 32), (1.0, 1.0), (0.0, 0.0))
DIGITS = tuple("0123456789")
KINDS = ("linear", "logistic", "mlp", "prototype")


def split(x: np.ndarray, y: np.ndarray, most: int = 10_000) -> tuple[Samples, Samples]:
    order = np.random.default_rng(0).permutation(len(x))[:most]
    samples = Samples(x[order].astype(np.float32), y[order], np.arange(len(order)))
    cut = len(order) * 3 // 10
    return samples.take(np.arange(cut, len(order))), samples.take(np.arange(cut))


def digits(most: int = 900) -> tuple[Samples, Samples]:
    found = datasets.load_digits()
    return split(found.data, found.target, most)


def tumours() -> tuple[Samples, Samples, tuple[str, ...]]:
    found = datasets.load_breast_cancer()
    return *split(found.data, found.target), tuple(map(str, found.target_names))


def few(n: int = 12, d: int = 4, classes: int = 3) -> Samples:
    y = np.arange(n) % classes
    x = np.random.default_rng(0).normal(size=(n, d)) + 3 * np.eye(classes, d)[y]
    return Samples(x.astype(np.float32), y, np.arange(n))


def run(head: FittedHead, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(head.graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"vector": x})[0])


def decoded(head: FittedHead, x: np.ndarray) -> list[Any]:
    decoder = make_decoder(
        "head",
        Head(head.decoder, tuple(spec.name for spec in head.outputs), head.labels, dict(head.params)),
        head.outputs,
        (32, 32),
    )
    return [decoder([row], WHOLE) for row in run(head, x)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_what_the_report_says(kind: Any) -> None:
    train, held_out = digits()
    lines: list[str] = []
    head = fit_classifier(train, held_out, DIGITS, kind=kind, progress=lines.append)
    results = decoded(head, held_out.x)
    report = head.report
    hits = np.array([result.label == DIGITS[y] for result, y in zip(results, held_out.y, strict=True)])
    assert report["held_out"]["accuracy"]["value"] == pytest.approx(hits.mean(), abs=1e-6)
    assert hits.mean() > 0.85
    logits = run(head, held_out.x)
    assert metrics.log_loss(logits, held_out.y) == pytest.approx(report["held_out"]["nll"], abs=1e-4)
    validated = report["cross_validation"]
    assert abs(validated["accuracy"]["value"] - hits.mean()) < 0.06
    assert validated["nll"] <= validated["nll_before"] + 1e-6
    assert len(validated["fold_accuracies"]) == validated["folds"] == 5
    assert len(validated["tried"]) == len(lines)
    assert json.loads(json.dumps(report)) == report
    text = "\n".join(report_text(report))
    assert f"held out: accuracy {100 * hits.mean():.1f} %" in text
    assert "taken for" in text


def test_the_graph_is_small_and_takes_any_batch() -> None:
    train, _ = digits(300)
    model = onnx.load_from_string(fit_classifier(train, None, DIGITS).graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    assert model.opset_import[0].version == 18
    (vector,) = model.graph.input
    assert vector.name == "vector"
    assert vector.type.tensor_type.shape.dim[0].dim_param == "batch"
    network = onnx.load_from_string(fit_classifier(train, None, DIGITS, kind="mlp").graph)
    assert [node.op_type for node in network.graph.node] == ["Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_gives_the_same_bytes_and_leaves_torch_as_it_was(kind: Any) -> None:
    train, held_out = digits(250)
    torch.manual_seed(7)
    wanted = torch.rand(1)
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    first = fit_classifier(train, None, DIGITS, kind=kind)
    assert torch.equal(torch.rand(1), wanted)
    assert torch.get_num_threads() == threads
    # What is held out is only measured on.
    second = fit_classifier(train, held_out, DIGITS, kind=kind)
    assert first.graph == second.graph
    assert first.report["temperature"] == second.report["temperature"]
    third = fit_classifier(train, None, DIGITS, kind=kind, seed=1)
    assert third.report["cross_validation"]["fold_accuracies"] != first.report["cross_validation"]["fold_accuracies"]


def test_logistic_regression_is_scikit_learns() -> None:
    train, held_out = digits(400)
    scaling = standardizer(train.x)
    x, other = computed([scaling], train.x), computed([scaling], held_out.x)
    path = LogisticPath(x, train.y, np.ones(len(x)), 10)
    for _ in range(20):
        path.advance(1e-3)
    # Rows of length 1 in the mean, and a mean loss: what scikit-learn calls C.
    theirs = LogisticRegression(C=1 / (1e-3 * len(x)), tol=1e-6, max_iter=3000).fit(x / np.sqrt(x.shape[1]), train.y)
    wanted = theirs.predict_proba(other / np.sqrt(x.shape[1]))
    assert np.abs(metrics.softmax(path.scores(other)) - wanted).max() < 0.01


def test_a_class_with_one_picture_is_learned_and_said_not_to_be_tested() -> None:
    train, _ = digits(400)
    rows = np.concatenate([np.flatnonzero(train.y != 3), np.flatnonzero(train.y == 3)[:1]])
    train = train.take(rows)
    for kind in ("linear", "logistic", "prototype"):
        head = fit_classifier(train, None, DIGITS, kind=kind)  # type: ignore[arg-type]
        assert head.report["never_tested"] == ["3"]
        assert DIGITS[run(head, train.x[-1:]).argmax()] == "3"
        assert "not tested, since it needs a second picture: 3" in report_text(head.report)


@pytest.mark.parametrize("kind", KINDS)
def test_one_picture_a_class_is_enough(kind: Any) -> None:
    train, held_out = digits()
    ones = train.take(np.array([np.flatnonzero(train.y == digit)[0] for digit in range(10)]))
    head = fit_classifier(ones, held_out, DIGITS, kind=kind)
    assert head.report["cross_validation"] is None
    assert head.report["held_out"]["accuracy"]["value"] > 0.3
    assert "not tested" in report_text(head.report)[-1]


def test_rare_classes_count_as_much_as_others_unless_told_not_to() -> None:
    train, held_out = digits(1700)
    rare = np.flatnonzero(train.y == 8)[:6]
    train = train.take(np.concatenate([np.flatnonzero(train.y != 8), rare]))

    def recall(balanced: bool) -> float:
        head = fit_classifier(train, None, DIGITS, kind="logistic", balanced=balanced)
        assert dict(head.report["train"]["pictures_of"])["8"] == 6
        eights = held_out.x[held_out.y == 8]
        return float((run(head, eights).argmax(axis=1) == 8).mean())

    assert recall(True) > recall(False)


def test_views_of_a_picture_are_on_one_side() -> None:
    # Noise with labels by chance: only who has seen a picture's other view can tell its class.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 32)).repeat(2, axis=0)
    y = rng.integers(0, 2, 200).repeat(2)
    samples = Samples(x.astype(np.float32), y, np.arange(200).repeat(2))
    for kind in ("linear", "prototype"):
        report = fit_classifier(samples, None, ("a", "b"), kind=kind).report  # type: ignore[arg-type]
        assert report["cross_validation"]["accuracy"]["value"] < 0.62
        assert report["cross_validation"]["pictures"] == report["cross_validation"]["accuracy"]["n"] == 200
    found = fit_embedding(samples, ("a", "b")).report["cross_validation"]
    assert found["accuracy"]["value"] < 0.65


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 3), st.integers(2, 6))
def test_folds_are_even_and_part_no_picture(classes: list[int], views: int, folds: int) -> None:
    y, picture = np.array(classes).repeat(views), np.arange(len(classes)).repeat(views)
    fold = folds_of(y, picture, folds, 0)
    for number in range(len(classes)):
        assert len(set(fold[picture == number])) == 1
    once = fold[::views]
    counts = np.bincount(classes)
    used = min(folds, counts.max())
    for index, count in enumerate(counts):
        own = once[np.array(classes) == index]
        if count == 1 or used < 2:
            assert (own == -1).all()
        elif count:
            sizes = np.bincount(own, minlength=used)
            assert own.min() >= 0
            assert sizes.max() - sizes.min() <= 1
            assert (sizes < count).all()
    tested = np.bincount(once[once >= 0], minlength=used) if used > 1 else np.zeros(1)
    assert tested.max() - tested.min() <= 1


@pytest.mark.parametrize("kind", ["linear", "logistic", "mlp"])
def test_a_threshold_finds_the_share_that_is_asked_for(kind: Any) -> None:
    train, held_out, labels = tumours()
    head = fit_classifier(train, held_out, labels, kind=kind, positive="malignant", sensitivity=0.99)
    decision = head.report["decision"]
    validated, measured = decision["cross_validation"], decision["held_out"]
    assert validated["sensitivity"]["value"] >= 0.99
    assert validated["auroc"] > 0.98
    assert head.params["threshold"] == decision["threshold"] < 0.5
    results = decoded(head, held_out.x)
    ill = held_out.y == labels.index("malignant")
    called = np.array([result.decision == "malignant" for result in results])
    assert measured["sensitivity"]["value"] == pytest.approx(called[ill].mean(), abs=1e-6)
    assert measured["specificity"]["value"] == pytest.approx((~called[~ill]).mean(), abs=1e-6)
    assert measured["sensitivity"]["n"] == ill.sum()
    low, high = measured["sensitivity"]["interval95"]
    assert low < measured["sensitivity"]["value"] <= high
    assert any("held out, decided as malignant from" in line for line in report_text(head.report))


def test_a_band_leaves_to_a_person_what_would_be_wrong_too_often() -> None:
    train, held_out, labels = tumours()
    head = fit_classifier(train, held_out, labels, positive="malignant", sensitivity=0.99, decision_accuracy=0.995)
    validated, measured = (head.report["decision"][name] for name in ("cross_validation", "held_out"))
    assert validated["accuracy_of_decisions"]["value"] >= 0.995 > validated["accuracy"]["value"]
    assert 0 < validated["abstained"]["value"] < 0.3
    decisions = np.array([result.decision for result in decoded(head, held_out.x)])
    left = decisions == "abstain"
    assert measured["abstained"]["value"] == pytest.approx(left.mean(), abs=1e-6)
    right = decisions[~left] == np.array(labels)[held_out.y][~left]
    assert measured["accuracy_of_decisions"]["value"] == pytest.approx(right.mean(), abs=1e-6)
    given = fit_classifier(train, held_out, labels, positive="malignant", abstain=(0.2, 0.7))
    assert given.params["abstain"] == [0.2, 0.7]
    assert given.params["threshold"] == 0.5


def test_of_many_classes_the_close_calls_are_left_out() -> None:
    train, held_out = digits()
    head = fit_classifier(train, held_out, DIGITS, decision_accuracy=0.995)
    validated = head.report["decision"]["cross_validation"]
    assert validated["accuracy_of_decisions"]["value"] >= 0.995
    assert 0 < validated["abstained"]["value"] < 0.6
    results = decoded(head, held_out.x)
    left = np.mean([result.decision == "abstain" for result in results])
    assert head.report["decision"]["held_out"]["abstained"]["value"] == pytest.approx(left, abs=1e-6)
    fixed = fit_classifier(train, None, DIGITS, abstain_below=0.9)
    assert fixed.params["abstain_below"] == 0.9


def test_an_accuracy_that_cannot_be_reached_is_said() -> None:
    rng = np.random.default_rng(0)
    samples = Samples(rng.normal(size=(100, 5)).astype(np.float32), rng.integers(0, 2, 100), np.arange(100))
    sure = Samples(np.concatenate([samples.x, samples.x]), np.concatenate([samples.y, 1 - samples.y]), np.arange(200))
    for more in ({"positive": "a"}, {}):
        with pytest.raises(ExportError, match="cannot reach an accuracy of 1 "):
            fit_classifier(sure, None, ("a", "b"), decision_accuracy=1.0, **more)  # type: ignore[arg-type]


def test_labels_hold_each_for_itself() -> None:
    train, held_out = digits()
    labels = ("even", "zero", "from five on")

    def many(samples: Samples) -> Samples:
        y = samples.y
        return Samples(samples.x, np.stack([y % 2 == 0, y == 0, y >= 5], axis=1), samples.picture)

    head = fit_multilabel(many(train), many(held_out), labels)
    measured = head.report["held_out"]
    assert measured["mAP"] > 0.9
    truth = many(held_out).y
    called = np.zeros_like(truth)
    for row, result in zip(called, decoded(head, held_out.x), strict=True):
        row[result.class_id] = True
    assert measured["micro_f1"] == pytest.approx(metrics.f1(truth.ravel(), called.ravel()), abs=1e-5)
    assert [row["label"] for row in measured["labels"]] == list(labels)
    # Probabilities mean what they say.
    shares = np.stack([result.probabilities for result in decoded(head, held_out.x)])
    assert np.abs(shares.mean(axis=0) - truth.mean(axis=0)).max() < 0.06
    assert head.graph == fit_multilabel(many(train), None, labels).graph
    assert json.loads(json.dumps(head.report)) == head.report
    assert "mAP" in report_text(head.report)[1]


def test_a_label_with_one_picture_is_learned_and_said_not_to_be_tested() -> None:
    samples = few(20)
    y = np.stack([samples.y == 0, np.arange(20) == 7], axis=1)
    head = fit_multilabel(Samples(samples.x, y, samples.picture), None, ("often", "once"))
    assert head.report["never_tested"] == ["once"]
    assert head.params["thresholds"][1] == 0.5


def test_numbers_come_in_their_own_units_with_how_far_off_they_are() -> None:
    found = datasets.load_diabetes()
    train, held_out = split(found.data, np.stack([found.target, 1000 + found.data[:, 2] * 5], axis=1))
    head = fit_regression(train, held_out, ("progression", "body mass"))
    first, second = head.report["held_out"]["values"]
    assert first["r2"] > 0.4
    assert second["r2"] > 0.99
    assert 0.8 < first["covered"]["value"] < 0.97
    values = run(head, held_out.x)
    assert np.abs(values - held_out.y).mean(axis=0) == pytest.approx([first["mae"], second["mae"]], rel=1e-3)
    results = decoded(head, held_out.x[:1])
    assert results[0].names == ("progression", "body mass")
    assert results[0].half_width == pytest.approx(head.params["half_width"])
    assert head.graph == fit_regression(train, None, ("progression", "body mass")).graph
    assert json.loads(json.dumps(head.report)) == head.report
    assert "within ±" in report_text(head.report)[1]


@pytest.mark.parametrize("n", [30, 200])
def test_ridge_regression_is_scikit_learns(n: int) -> None:
    # More features than rows, and fewer.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 60)).astype(np.float32)
    y = x[:, :1] * 3 + rng.normal(size=(n, 1))
    head = fit_regression(Samples(x, y, np.arange(n)), None, ("value",))
    scaling = standardizer(x)
    scaled = computed([scaling], x).astype(np.float64) / np.sqrt(60)
    theirs = Ridge(alpha=head.report["chosen"]["strength"] * n).fit(scaled, y)
    assert np.abs(run(head, x) - theirs.predict(scaled).reshape(n, 1)).max() < 1e-3


@pytest.mark.parametrize("labelled", [True, False])
def test_embeddings_have_length_one_and_bring_alike_pictures_together(labelled: bool) -> None:
    train, held_out = digits()
    # A feature that drowns the rest, unless classes or spreads are looked at.
    noise = np.random.default_rng(0).normal(size=(len(train.x) + len(held_out.x), 1)) * 200
    x = np.concatenate([np.concatenate([train.x, held_out.x]), noise], axis=1).astype(np.float32)
    known, new = x[: len(train.x)], x[len(train.x) :]
    samples = Samples(known, train.y if labelled else np.full(len(known), -1), train.picture)
    head = fit_embedding(samples, DIGITS if labelled else (), dimension=32)
    assert head.report["kind"] == ("lda" if labelled else "pca")
    vectors = run(head, new)
    assert vectors.shape == (len(new), 9 if labelled else 32)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    right = train.y[(vectors @ run(head, known).T).argmax(axis=1)] == held_out.y
    assert right.mean() > (0.9 if labelled else 0.6)
    assert head.graph == fit_embedding(samples, DIGITS if labelled else (), dimension=32).graph
    assert len(report_text(head.report)) == 2


def test_a_vector_of_zeros_gives_zeros() -> None:
    samples = few(6)
    plain = fit_embedding(Samples(samples.x, np.empty(0, int), samples.picture))
    assert plain.report["kind"] == "plain"
    assert not run(plain, np.zeros((1, 4), np.float32)).any()
    named = fit_classifier(few(), None, tuple("abc"), kind="prototype")
    middle = standardizer(few().x).mean.astype(np.float32)[None]
    assert np.isfinite(run(named, middle)).all()


def test_features_that_never_move_count_nothing_and_rare_ones_do_not_drown_the_rest() -> None:
    samples = few(60)
    constant = np.full((60, 1), 1e6, np.float32)
    rare = np.zeros((60, 1), np.float32)
    rare[7] = 1e-5
    wide = Samples(np.concatenate([samples.x, constant, rare], axis=1), samples.y, samples.picture)
    head = fit_classifier(wide, None, tuple("abc"))
    moved = wide.x.copy()
    moved[:, 4] += 100
    moved[:, 5] = 1e-3
    assert np.abs(run(head, moved) - run(head, wide.x)).max() < 0.2


Change = Callable[[Samples], Samples]


def with_number(value: float) -> Change:
    def change(samples: Samples) -> Samples:
        x = samples.x.copy()
        x[5, 2] = value
        return Samples(x, samples.y, samples.picture)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_number(np.nan), "1 of 12 vectors have NaN or infinity, the first in row 5, number 2"),
        (with_number(-np.inf), "NaN or infinity"),
        (with_number(3e38), r"3e\+38 overflow"),
        (lambda s: Samples(s.x * 0 + 1, s.y, s.picture), "vectors are the same"),
        (lambda s: Samples(s.x + 1e9, s.y, s.picture), "same|large numbers that differ little|rounding"),
        (lambda s: Samples(s.x[:, 0], s.y, s.picture), r"shape \(n, d\), found \[12\]"),
        (lambda s: s.take(np.array([], int)), r"found \[0, 4\]"),
        (lambda s: Samples(s.x, s.y, s.picture[:3]), "expected a picture number for each"),
        (lambda s: Samples(s.x, s.y + 1, s.picture), "row 2 has class 3, but there are 3 labels"),
        (lambda s: Samples(s.x, s.y - 1, s.picture), "row 0 has class -1"),
        (lambda s: Samples(s.x, s.y.astype(float), s.picture), "integer class"),
        (lambda s: Samples(s.x, s.y[:5], s.picture), "integer class"),
        (lambda s: s.take(s.y == 1), r"one class \('b'\)"),
        (lambda s: s.take(s.y != 2), "no training picture of 'c'"),
    ],
)
def test_samples_that_nothing_can_be_fitted_on_are_refused(change: Change, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        fit_classifier(change(few()), None, tuple("abc"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "forest"}, "found 'forest'"),
        ({"folds": 1}, "2 folds"),
        ({"kind": "mlp", "hidden": 0}, "hidden"),
        ({"sensitivity": 0.9}, "need a positive class"),
        ({"abstain": (0.2, 0.4)}, "need a positive class"),
        ({"positive": "c"}, "one of two labels"),
        ({"positive": "a", "sensitivity": 1.5}, "sensitivity must be above 0"),
        ({"positive": "a", "abstain": (0.6, 0.4)}, "lower first"),
        ({"positive": "a", "abstain_below": 0.6}, "without a positive class"),
        ({"abstain_below": 1.6}, "must be a probability"),
        ({"abstain_below": 0.6, "decision_accuracy": 0.9}, "either"),
        ({"positive": "a", "sensitivity": 1.0, "abstain": (0.99, 1.0)}, "outside the abstention"),
    ],
)
def test_wishes_that_do_not_go_together_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        fit_classifier(few(classes=2), None, ("a", "b"), **settings)


def test_what_is_only_held_out_cannot_be_recognised() -> None:
    samples = few()
    with pytest.raises(ExportError, match="only the held-out samples have 'c'"):
        fit_classifier(samples.take(samples.y < 2), samples, tuple("abc"))
    with pytest.raises(ExportError, match="expected vectors of 4 numbers, as in training, found 3"):
        fit_classifier(samples, Samples(samples.x[:, :3], samples.y, samples.picture), tuple("abc"))
    with pytest.raises(ExportError, match="a class is named 'abstain'"):
        fit_classifier(samples, None, ("a", "b", "abstain"), abstain_below=0.5)
    ones = samples.take(np.arange(3))
    with pytest.raises(ExportError, match="pass two or more of a class"):
        fit_classifier(ones, None, tuple("abc"), decision_accuracy=0.9)


def test_targets_of_another_kind_are_refused() -> None:
    samples = few()
    ones = np.ones((12, 2))
    with pytest.raises(ExportError, match=r"labels of shape \(12, 2\)"):
        fit_multilabel(samples, None, ("a", "b"))
    with pytest.raises(ExportError, match="'a' applies to every training picture"):
        fit_multilabel(Samples(samples.x, ones > 0, samples.picture), None, ("a", "b"))
    with pytest.raises(ExportError, match="values other than 0 and 1"):
        fit_multilabel(Samples(samples.x, ones * 2, samples.picture), None, ("a", "b"))
    with pytest.raises(ExportError, match="must differ"):
        fit_regression(Samples(samples.x, ones, samples.picture), None, ("a", "a"))
    with pytest.raises(ExportError, match="'a' is the same for every training picture"):
        fit_regression(Samples(samples.x, ones, samples.picture), None, ("a", "b"))
    with pytest.raises(ExportError, match="finite numbers"):
        fit_regression(Samples(samples.x, ones * np.nan, samples.picture), None, ("a", "b"))
    values = Samples(samples.x, samples.x[:, :2].astype(float), samples.picture)
    with pytest.raises(ExportError, match="found 5 and 3"):
        fit_regression(values.take(np.arange(3)), None, ("a", "b"))
    with pytest.raises(ExportError, match="dimension of 1 or more"):
        fit_embedding(samples, tuple("abc"), dimension=0)


def test_an_interval_is_wilsons() -> None:
    assert metrics.wilson(0.768, 2485) == pytest.approx([0.75101, 0.78418], abs=1e-4)
    assert metrics.wilson(1.0, 10) == pytest.approx([0.72247, 1.0], abs=1e-4)
    assert metrics.wilson(0.0, 0) == [0.0, 1.0]


def test_calibration_takes_back_what_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    y = np.array([rng.choice(5, p=row) for row in metrics.softmax(logits)])
    sure = logits * 3
    temperature = temperature_of(sure, y, len(y))
    assert temperature == pytest.approx(3, rel=0.06)
    before = metrics.calibration_error(metrics.softmax(sure), y)
    assert metrics.calibration_error(metrics.softmax(sure / temperature), y) < 0.03 < before
    # However few are right, nothing is certain.
    three, classes = np.eye(2)[[0, 1, 0]] * 10, np.array([0, 1, 0])
    assert metrics.softmax(three / temperature_of(three, classes, 3)).max() < 0.95
    odds = rng.normal(size=4000) * 2
    holds = rng.random(4000) < metrics.sigmoid(odds * 0.5 + 1)
    factor, offset = platt(odds, holds)
    assert (factor, offset) == pytest.approx((0.5, 1), abs=0.1)
    assert platt(odds, odds > 99) == (1, 0)


def test_the_best_threshold_lies_between_what_it_parts() -> None:
    shares = np.array([0.9, 0.8, 0.4, 0.4, 0.1])
    assert best_f1_threshold(shares, np.array([True, True, False, False, False])) == pytest.approx(0.6)
    # Equal ones are not parted.
    assert best_f1_threshold(shares, np.array([True, True, True, False, False])) in (0.25, 0.6)
    assert best_f1_threshold(shares, np.zeros(5, bool)) == 0.5


def test_confusions_name_what_is_taken_for_what() -> None:
    y, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 1, 0, 2])
    first, second = metrics.confusions(y, predicted, ("a", "b", "c"))
    assert first == {"true": "a", "predicted": "b", "count": 2, "share_of_true": pytest.approx(2 / 3, abs=1e-5)}
    assert (second["true"], second["predicted"]) == ("b", "a")
    assert [row["label"] for row in metrics.worst_classes(y, predicted, ("a", "b", "c"))] == ["a", "b", "c"]
    assert metrics.macro_f1(y, predicted) == pytest.approx((0.4 + 0.4 + 1) / 3)


@pytest.mark.parametrize("kind", ["linear", "logistic", "mlp"])
def test_the_probability_of_a_rare_positive_class_is_how_often_it_is_there(kind: Any) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(3000) < 0.05).astype(np.int64)
    x = (rng.normal(size=(3000, 8)) + 0.9 * y[:, None] * (np.arange(8) < 3)).astype(np.float32)
    samples = Samples(x, y, np.arange(3000))
    train, held_out = samples.take(np.arange(2000)), samples.take(np.arange(2000, 3000))
    head = fit_classifier(train, held_out, ("benign", "malignant"), kind=kind, positive="malignant", sensitivity=0.8)
    p = metrics.softmax(run(head, held_out.x))[:, 1]
    # Fitted with classes that count the same, it would be some 0.2.
    assert p.mean() == pytest.approx(held_out.y.mean(), abs=0.015)
    assert head.report["decision"]["held_out"]["sensitivity"]["value"] > 0.6
    assert head.report["held_out"]["ece"] < 0.03
