"""Follow what a detector finds, and print who enters and leaves the zones of a file."""

import sys
from collections import Counter

import edgebone
from edgebone.vision import Tracking, Zones

bundle, video, file = sys.argv[1:]
tracking, zones, count = Tracking(), Zones.load(file), Counter()
with edgebone.load(bundle) as model:
    for frame, found in model.stream(video):
        for event in zones.update(frame, tracking.update(frame, found)):
            print(f"{event.position_s:.2f} s: {event.label} {event.tracker_id} {event.event}s {event.place}")
            count[event.event] += 1
print(dict(count) or "nothing happened")
