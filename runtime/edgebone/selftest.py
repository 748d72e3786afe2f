"""Replays a bundle's golden sample: checks that this machine computes what was proved at export."""

from __future__ import annotations

import numpy as np

from edgebone.core.bundle import Bundle
from edgebone.core.errors import EdgeboneError
from edgebone.core.golden import GoldenSample, head_key, read_recorded
from edgebone.decode import make_decoders
from edgebone.engines.opening import open_engine
from edgebone.engines.proved import Replay, held_against, run_golden
from edgebone.engines.spec import Candidate
from edgebone.model.attached_heads import DetachedHeads
from edgebone.preprocess import preprocess
from edgebone.sources.golden_picture import read_golden_picture


def preprocess_off_by(bundle: Bundle, sample: GoldenSample) -> int:
    """Return the difference of this machine's preprocessing from the recorded input, in steps of 255; 0 for none.

    Raises:
        BundleError: The recorded picture is not readable.
    """
    out = np.zeros_like(sample.network_input[0])
    preprocess(bundle.manifest.preprocess, read_golden_picture(bundle), out)
    return int(np.abs(out.astype(np.int16) - sample.network_input[0].astype(np.int16)).max())


def replay(bundle: Bundle, sample: GoldenSample, candidate: Candidate) -> Replay:
    """Run the recorded input on one engine and compare its outputs with the recorded ones."""
    try:
        # How an output is compared depends on its head, which is checked here.
        make_decoders(bundle.manifest)
        with open_engine(bundle, candidate) as engine:
            precision = engine.precision
            outputs = run_golden(bundle, sample, candidate, engine)
        with DetachedHeads(bundle, candidate, {}) as heads:
            for name, ran in heads.run(outputs).items():
                outputs.update({head_key(name, output): array for output, array in ran.outputs.items()})
    except EdgeboneError as error:
        return Replay(candidate.engine, candidate.precision, False, float("inf"), 0.0, str(error))
    return held_against(bundle, candidate, precision, outputs, read_recorded(bundle, candidate.variant))
