"""Fit a head on your own pictures, on the features of a frozen backbone."""

import sys
import time

import edgebone
from edgebone_export.heads.fit.fit import fit
from edgebone_export.heads.fit.work import Settings

backbone, data, picture, bundle = sys.argv[1:]
begun = time.monotonic()
report = fit(backbone, data, bundle, Settings(kind="linear"), overwrite=True)
print(f"{time.monotonic() - begun:.1f} s, of which the head took {report.fit_s:.1f} s")
for variant, accuracy in report.accuracies.items():
    print(variant, accuracy)
with edgebone.load(bundle) as model:
    print(model(picture))
