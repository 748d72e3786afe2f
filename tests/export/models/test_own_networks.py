"""Networks of the user's own, whatever they take and return, through export and runtime."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgebone
from edgebone.core.manifest import Preprocess
from edgebone.preprocess import preprocess
from edgebone_export import export
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.models.contract import ModelRequest
from edgebone_export.models.registry import load_backbone
from edgebone_export.pictures import synthesize
from edgebone_export.proof.verify import normalize

SPEC = Preprocess("stretch", (32, 48), "bilinear", True, "rgb", (0.5,) * 3, (0.25,) * 3)
PICTURE = synthesize((60, 90), np.random.default_rng(2))


class Two(collections.OrderedDict):
    """As transformers' ModelOutput is: a dictionary whose items are fields, too."""


@dataclasses.dataclass
class Fields:
    depth: Tensor
    loss: Tensor | None = None


Pair = collections.namedtuple("Pair", ["near", "far"])


class Net(nn.Module):
    """Two maps and a vector; ``give`` makes of them what it returns."""

    def __init__(self, give: Any, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)
        self.give = give

    def forward(self, images: Tensor) -> Any:
        fine = self.fine(images).relu()
        coarse = self.coarse(fine)
        return self.give(images, fine, coarse, self.head(coarse.mean((2, 3))))


def network_input() -> Tensor:
    out = np.zeros((1, *SPEC.size_hw, 3), np.uint8)
    preprocess(SPEC, PICTURE, out[0])
    return torch.from_numpy(normalize(SPEC, out))


RETURNED = {
    "one map": (lambda x, f, c, v: c, {"raw": ["raw"]}, ["output"]),
    "depth": (lambda x, f, c, v: f.mean(1, keepdim=True), {}, ["output"]),
    "a mask of whole numbers": (lambda x, f, c, v: f.argmax(1), {}, ["output"]),
    "a tuple of one number and a map": (lambda x, f, c, v: (v[:, :1], c), {}, ["output_0", "output_1"]),
    "a tuple": (lambda x, f, c, v: (v, c), {}, ["output_0", "output_1"]),
    "a nest": (lambda x, f, c, v: {"a": [f, c], "b": None}, {}, ["a_0", "a_1"]),
    "a ModelOutput": (lambda x, f, c, v: Two(logits=v, hidden_states=(f, c)), {}, ["logits", "hidden_states_0",
                                                                                   "hidden_states_1"]),
    "fields": (lambda x, f, c, v: Fields(depth=f), {}, ["depth"]),
    "a named tuple": (lambda x, f, c, v: Pair(f, c), {}, ["near", "far"]),
    "names of torch's and of ours": (lambda x, f, c, v: {"images": x * 2 + f.mean(), "relu": f + 1, "conv2d": c},
                                     {}, ["output_images", "relu", "conv2d"]),
}  # fmt: skip


@pytest.mark.parametrize("case", RETURNED)
def test_what_a_network_returns_is_taken_as_it_is(case: str, tmp_path: Path) -> None:
    give, _, names = RETURNED[case]
    net = Net(give).eval()
    export(net, tmp_path / "b", preprocess=SPEC)
    with torch.inference_mode():
        wanted = torch.utils._pytree.tree_leaves(_plain(net(network_input())))
    with edgebone.load(tmp_path / "b", engine="onnxruntime") as model:
        found = model(PICTURE)
    assert list(found.tensors) == names
    for have, want in zip(found.tensors.values(), wanted, strict=True):
        np.testing.assert_allclose(have[0] if have.ndim == want.ndim else have, want[0].numpy(), atol=1e-4)


def _plain(returned: Any) -> Any:
    """The same in the order of its items; torch sorts dictionaries, and knows no dataclass."""
    if isinstance(returned, dict):
        return [_plain(item) for item in returned.values() if item is not None]
    if isinstance(returned, Fields):
        return [returned.depth]
    return list(returned) if isinstance(returned, tuple) else returned


def test_the_classes_of_a_model_output_are_its_logits(tmp_path: Path) -> None:
    net = Net(lambda x, f, c, v: Two(logits=v, pooled=v * 2)).eval()
    export(net, tmp_path / "b", preprocess=SPEC, output_kind="logits", labels=list("abcde"))
    with edgebone.load(tmp_path / "b", engine="onnxruntime") as model:
        result = model(PICTURE)
    with torch.inference_mode():
        wanted = net(network_input())["logits"].softmax(1)[0].numpy()
    np.testing.assert_allclose(result.probabilities, wanted, atol=1e-4)
    assert result.label == "abcde"[int(wanted.argmax())]


def test_maps_that_a_network_returns_are_its_features() -> None:
    backbone = load_backbone(ModelRequest(Net(lambda x, f, c, v: (c, f)), preprocess=SPEC, output_kind="features"))
    assert [(item.stride, item.channels) for item in backbone.features] == [(2, 6), (4, 8)]
    # Where it returns classes, its layers are looked at.
    tapped = load_backbone(ModelRequest(Net(lambda x, f, c, v: v), preprocess=SPEC, output_kind="features"))
    assert [(item.stride, item.channels) for item in tapped.features] == [(2, 6), (4, 8)]


def test_scores_of_pixels_become_segments(tmp_path: Path) -> None:
    net = Net(lambda x, f, c, v: {"out": f}).eval()
    seen = synthesize(SPEC.size_hw, np.random.default_rng(4))
    export(net, tmp_path / "b", preprocess=SPEC, output_kind="segmentation", labels=list("abcdef"))
    with edgebone.load(tmp_path / "b", engine="onnxruntime") as model:
        found = model(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
    with torch.inference_mode():
        classes = net(torch.from_numpy(normalize(SPEC, seen[None])))["out"].argmax(1)[0].numpy()
    assert (found.class_id == np.kron(classes, np.ones((2, 2)))).mean() > 0.99
    assert set(found.labels) <= set("abcdef")


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_network_that_takes_grey_pictures_gets_them(color: str, tmp_path: Path) -> None:
    spec = Preprocess("stretch", (32, 48), "bilinear", True, color, (0.5,) * 3, (0.25,) * 3)  # type: ignore[arg-type]
    net = Net(lambda x, f, c, v: v, channels=1).eval()
    torch.save({"module." + key: value for key, value in net.state_dict().items()}, tmp_path / "w.pth")
    other = Net(lambda x, f, c, v: v, channels=1)
    other.head.weight.data.zero_()
    export(other, tmp_path / "b", preprocess=spec, weights=str(tmp_path / "w.pth"))
    with edgebone.load(tmp_path / "b", engine="onnxruntime") as model:
        found = model(PICTURE)
    seen = np.zeros((32, 48, 3), np.uint8)
    preprocess(spec, PICTURE, seen)
    grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY if color == "rgb" else cv2.COLOR_BGR2GRAY)
    with torch.inference_mode():
        wanted = net(torch.from_numpy((grey / 255 - 0.5) / 0.25).float()[None, None]).softmax(1)[0].numpy()
    # OpenCV rounds grey to whole steps, the graph does not.
    np.testing.assert_allclose(found.probabilities, wanted, atol=2e-3)


def refuse() -> None:
    raise ValueError


@pytest.mark.parametrize(
    ("give", "asked", "words"),
    [
        (lambda x, f, c, v: v.mean(0), {}, r"first axis is the batch; for 2 pictures it returned output \[5\]"),
        (lambda x, f, c, v: None, {}, "first axis is the batch; for 2 pictures it returned NoneType"),
        (
            lambda x, f, c, v: (v, v),
            {"output_kind": "logits"},
            r"logits must be one output of shape .* output_1 \[2, 5\]",
        ),
        (lambda x, f, c, v: v, {"output_kind": "segmentation"}, r"segmentation must be one .*found output"),
        (lambda x, f, c, v: refuse(), {}, "does not run at 48x32: ValueError at 'raise ValueError'"),
        (lambda x, f, c, v: x.nonsense(), {}, "Net does not run at 48x32: 'Tensor' object has no attribute"),
    ],
)
def test_what_is_not_there_is_refused_in_words(give: Any, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ExportError, match=words):
        load_backbone(ModelRequest(Net(give), preprocess=SPEC, **asked))


def test_a_grey_network_cannot_have_three_means() -> None:
    spec = Preprocess("stretch", (32, 48), "bilinear", True, "rgb", (0.4, 0.5, 0.6), (0.25,) * 3)
    with pytest.raises(ExportError, match=r"takes one channel: .*found \[0.4, 0.5, 0.6\]"):
        load_backbone(ModelRequest(Net(lambda x, f, c, v: v, channels=1), preprocess=spec))


class Windows(nn.Module):
    """Attention within windows, as Hiera and NesT have it: (batch, windows, heads, tokens, channels)."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 3 * 8, 4, stride=4)
        self.head = nn.Linear(8, 3)
        self.masked = masked

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).unflatten(2, (4, -1))
        query, key, value = tokens.permute(0, 2, 3, 1).unflatten(3, (3, 2, 4)).permute(3, 0, 1, 4, 2, 5)
        mask = torch.arange(query.shape[-2]).reshape(-1, 1) >= torch.arange(query.shape[-2]) if self.masked else None
        mask = None if mask is None else mask.expand(4, 1, -1, -1)
        found = nn.functional.scaled_dot_product_attention(query, key, value, mask)
        return self.head(found.transpose(2, 3).flatten(3).mean((1, 2)))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch", [(1, 1), (1, 3)])
def test_attention_within_windows_is_exported(masked: bool, batch: tuple[int, int], tmp_path: Path) -> None:
    report = export(Windows(masked), tmp_path / "b", preprocess=SPEC, weights="random", batch=batch)
    assert report.parity.max_rel < 1e-3


class Chaos(nn.Module):
    """The last digit of what it sees is the first of what it says."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3)
        self.rounds = rounds

    def forward(self, images: Tensor) -> Tensor:
        value = self.body(images).mean((2, 3))
        for _ in range(self.rounds):
            value = torch.sin(20 * value)
        return value


def test_a_network_that_magnifies_rounding_is_refused_for_that(tmp_path: Path) -> None:
    with pytest.raises(
        ParityError, match=r"the network magnifies rounding: in double precision PyTorch's own .*trained"
    ):
        export(Chaos(12), tmp_path / "b", preprocess=SPEC, weights="random")
    assert not (tmp_path / "b").exists()
