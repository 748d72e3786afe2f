"""Count what stands on a shelf, and print what runs out, comes back or stands wrong."""

import sys

import edgebone
from edgebone.pipeline import Pipeline, Stocktaking
from edgebone.sinks.callback import CallbackSink

bundle, video, file = sys.argv[1:]
with edgebone.load(bundle) as model:
    step = Stocktaking(file)
    summary = Pipeline(model, [step], [CallbackSink(event=print)]).run(video)
print(*summary.lines, sep="\n")
print(f"{step.shelf.embedded} of {step.shelf.looks} looks went through the network")
