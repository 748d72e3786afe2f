"""Count what stands on a shelf, and print what runs out, comes back or stands wrong."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

import edgebone
from edgebone.sources import open_source
from edgebone.vision.shelf import Shelf
from edgebone.vision.shelf_file import read_shelf

bundle, video, file = sys.argv[1:]
with edgebone.load(bundle) as model, closing(open_source(video)) as source:

    def recognise(pictures: Sequence[np.ndarray]) -> list[str]:
        return [result.label if result.confidence[0] > 0.5 else "unknown" for result in model(list(pictures))]

    shelf = Shelf(read_shelf(Path(file)), recognise)
    while (frame := source.read()) is not None:
        stock, events = shelf.update(frame)
        for event in events:
            print(event)
print(stock)
print(f"{shelf.embedded} of {shelf.looks} looks went through the network")
