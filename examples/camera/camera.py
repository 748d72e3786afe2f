"""Write what a camera sees to JSON lines, and say at the end how old the results were."""

import sys
from contextlib import closing
from pathlib import Path

import edgebone
from edgebone.sinks.jsonl import JsonLines

bundle, camera, file = sys.argv[1:]
with (
    edgebone.load(bundle) as model,
    model.stream(camera) as stream,
    closing(JsonLines(Path(file))) as lines,
):
    try:
        for frame, result in stream:
            lines.write(frame, result)
    except KeyboardInterrupt:
        pass
    for source in stream.stats.sources:
        print(f"{source.name}: {source.frames} results, {source.dropped} frames dropped")
