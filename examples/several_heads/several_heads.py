"""Run two heads on one pass of the backbone, one of them on every third frame."""

import sys

import edgebone
from edgebone_export.heads.attach.attach import attach
from edgebone_export.heads.fit.fit import fit
from edgebone_export.heads.fit.work import Settings

backbone, data, video, bundle = sys.argv[1:]
fit(backbone, data, "product.head", Settings(kind="linear", name="product"), overwrite=True)
fit(backbone, data, "looks.head", Settings(kind="embedding", name="looks"), overwrite=True)
attached = attach(backbone, ["product.head", "looks.head"], bundle, detached=True, overwrite=True)
print("heads:", ", ".join(attached.heads))
with edgebone.load(bundle, every={"looks": 3}) as model, model.stream(video) as stream:
    for frame, results in stream:
        print(frame.index, {name: str(result) for name, result in results.items()})
        if frame.index == 5:
            break
