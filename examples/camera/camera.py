"""Write what a camera sees to JSON lines, and say at the end how many frames were dropped."""

import sys
from contextlib import closing

import edgebone
from edgebone.sinks import open_sink

bundle, camera, file = sys.argv[1:]
with (
    edgebone.load(bundle) as model,
    model.stream(camera) as stream,
    closing(open_sink(file)) as lines,
):
    try:
        for frame, result in stream:
            lines.write(frame, result)
    except KeyboardInterrupt:
        pass
    for source in stream.stats.sources:
        print(f"{source.name}: {source.frames} results, {source.dropped} frames dropped")
