"""Export a network of your own, say how its pictures are prepared, and run the bundle."""

import sys

from torch import Tensor, nn

import edgebone
from edgebone.core.manifest import Preprocess
from edgebone_export import export


class SmallNet(nn.Module):
    """Any module that takes (n, 3, height, width); this one has three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))


picture, bundle = sys.argv[1:]
preprocess = Preprocess(
    mode="stretch", size_hw=(96, 128), interpolation="bilinear", antialias=True, color="rgb",
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
)  # fmt: skip
network = SmallNet().eval()  # load your own weights here
report = export(network, bundle, labels=["bread", "milk", "tea"], preprocess=preprocess, overwrite=True)
print(report.parity)
with edgebone.load(bundle) as model:
    print(model(picture))
