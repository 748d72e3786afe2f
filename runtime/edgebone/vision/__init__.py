"""Analysis over time: tracks, events in zones and at lines, counts, and the stock of shelves."""

from edgebone.vision.drawing import draw_zones
from edgebone.vision.events import Event
from edgebone.vision.tracking import Tracking
from edgebone.vision.zone_file import ZonesError
from edgebone.vision.zones import Zones

__all__ = ["Event", "Tracking", "Zones", "ZonesError", "draw_zones"]
