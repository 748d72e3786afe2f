"""The largest inputs that edgebone takes: one table, which docs/security.md shows.

A file's size is compared before it is read, a declared count or shape before memory is taken for it.
"""

from __future__ import annotations

_KB, _MB, _GB = 1 << 10, 1 << 20, 1 << 30

MANIFEST_BYTES = 16 * _MB
"""A bundle's ``manifest.json``, and the JSON inside a head or a gallery."""

BUNDLE_FILE_BYTES = 8 * _GB
"""One file of a bundle."""

GOLDEN_BYTES = 256 * _MB
"""A bundle's golden picture, or its golden tensors, on disk and unpacked."""

ARCHIVE_MEMBERS = 4096
"""Members of a zip: a bundle, a head, a gallery or an NPZ."""

HEAD_BYTES = 512 * _MB
"""A head's file, and the graph inside it."""

GALLERY_BYTES = 16 * _GB
"""A gallery's file."""

SETTINGS_BYTES = 1 * _MB
"""A file of zones, of a shelf, of preprocessing."""

LABELS_BYTES = 16 * _MB
"""A file of class names."""

ANNOTATIONS_BYTES = 1 * _GB
"""A file of annotations: COCO's JSON, a CSV."""

PICTURE_BYTES = 512 * _MB
"""A picture's file."""

PICTURE_PIXELS = 100_000_000
"""A picture: width times height, compared before it is decoded."""

FRAME_PIXELS = 64_000_000
"""A camera's or a video's frame, likewise."""

PACKET_BYTES = 64 * _MB
"""One packet of a camera on the network."""

ONNX_BYTES = 2**31 - 1
"""One ONNX file, and the data that a file to be imported keeps in others: protobuf holds no more."""

NETWORK_SIDE = 8192
"""Height or width of a network's input."""

BATCH = 4096
"""Pictures in one run."""

THREADS = 1024
"""Threads of one engine."""

GRAPH_NESTING = 16
"""Graphs within graphs (``If``, ``Loop``, ``Scan``) of a network."""

METRICS_CONNECTIONS = 8
"""Connections to the metrics' port at a time."""

METRICS_TIMEOUT_S = 10.0
"""How long one of them may be silent."""

LOCK_TIMEOUT_S = 60.0
"""How long a writer waits for another one of the same file."""
