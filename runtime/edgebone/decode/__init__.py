"""Decodes raw output tensors into typed results: one pure function per head kind, registered as ``name@version``.

A decoder's version changes if its result for the same tensors would, so that old bundles keep their meaning.
"""

from edgebone.decode.contract import Decoder, DecoderSpec
from edgebone.decode.registry import decoder_names, find_spec, make_box_reader, make_decoder, make_decoders, spec_of

__all__ = [
    "Decoder",
    "DecoderSpec",
    "decoder_names",
    "find_spec",
    "make_box_reader",
    "make_decoder",
    "make_decoders",
    "spec_of",
]
