"""What becomes of results: steps that look at them frame by frame, and sinks that they go to."""

from edgebone.pipeline.naming import Naming
from edgebone.pipeline.pipeline import Pipeline
from edgebone.pipeline.seen import Summary
from edgebone.pipeline.step import Step
from edgebone.pipeline.tracks import Tracks

__all__ = ["Naming", "Pipeline", "Step", "Summary", "Tracks"]
