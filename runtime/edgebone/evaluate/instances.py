"""COCO's average precision of masks."""

from __future__ import annotations

from functools import partial

from edgebone.evaluate.contract import Evaluation
from edgebone.evaluate.detection import find_instances, truth_of
from edgebone.tasks.detection import LEAST_SCORE
from edgebone.tasks.instances import INSTANCES

EVALUATION = Evaluation(find_instances, partial(truth_of, INSTANCES), settings={"score": LEAST_SCORE})
