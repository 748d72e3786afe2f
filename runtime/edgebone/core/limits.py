"""The largest inputs that edgebone accepts: one table, shown in docs/security.md.

A file's size is checked before it is read, a declared count or shape before memory is allocated for it.
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

ARCHIVE_RATIO = 100
"""Bytes in a zip over bytes of the zip, beside the 16 MB that even an empty one may unpack to."""

HEAD_BYTES = 512 * _MB
"""A head's file, and the graph inside it."""

GALLERY_BYTES = 16 * _GB
"""A gallery's file."""

SETTINGS_BYTES = 1 * _MB
"""A file of zones, of a shelf, of preprocessing."""

LABELS_BYTES = 16 * _MB
"""A file of class names."""

ANNOTATIONS_BYTES = 1 * _GB
"""A file of annotations: COCO's JSON."""

TABLE_BYTES = 256 * _MB
"""A CSV of pictures and what they show."""

TABLE_ROWS = 2_000_000
"""Rows of it."""

PICTURE_BYTES = 512 * _MB
"""A picture's file."""

PICTURE_PIXELS = 51_000_000
"""Pixels of a picture, and of each page of one: a decoder takes up to 24 bytes of memory for each."""

FRAME_PIXELS = 64_000_000
"""Pixels of a camera's or a video's frame."""

VIDEO_PIXELS = 36_000_000
"""A frame of H.264, H.265 and the like, of which a decoder keeps up to 17: 8192x4320 and a little."""

JPEG_SCANS = 32
"""Passes over the pixels in one frame of Motion JPEG; a progressive picture has about ten."""

PACKET_BYTES = 64 * _MB
"""One packet of a camera on the network."""

FFMPEG_BLOCK_BYTES = 200 * _MB
"""One block of memory that FFmpeg takes: a picture of FRAME_PIXELS in BGR, and a little."""

SECRET_BYTES = 4 * _KB
"""A file with a camera's password."""

ONNX_BYTES = 2**31 - 1
"""One ONNX file, and the data that a file to be imported keeps in others: protobuf holds no more."""

NETWORK_SIDE = 8192
"""Height or width of a network's input, and of what a picture is resized to before it is cropped."""

TENSOR_BYTES = 1 * _GB
"""A tensor of a network, as its manifest declares it, at its least batch."""

AXIS = 1 << 24
"""One axis of a tensor."""

AXES = 8
"""Axes of a tensor."""

BATCH = 4096
"""Pictures in one run."""

THREADS = 1024
"""Threads of one engine."""

LABELS = 1 << 20
"""Classes of a head."""

NAMES = 4096
"""Outputs of a head, variants, taps and whatever else a manifest lists by names."""

NAME_LENGTH = 1024
"""Characters of a name or a label."""

PATH_LENGTH = 4096
"""Characters of a file's path within a bundle."""

RESULTS = 1 << 20
"""Classes or boxes that a result may list."""

CANDIDATES = 30_000
"""Boxes of a picture that overlaps are looked for among, the best ones."""

VECTOR_NUMBERS = 65_536
"""Numbers of a gallery's vector."""

ZONES = 256
"""Zones of a file of zones, and lines."""

CORNERS = 1000
"""Corners of a zone."""

FACINGS = 10_000
"""Facings of a shelf, and looks at each that are remembered."""

PRODUCTS = 1000
"""Zones of a shelf, and products that belong in each."""

GRAPH_NESTING = 16
"""Graphs within graphs (``If``, ``Loop``, ``Scan``) of a network."""

GRAPH_FIELDS = 4_000_000
"""Fields of a network's protobuf: one of 5,000 nodes has some 200,000."""

TENSOR_ELEMENTS = 1 << 30
"""Elements of one tensor whose shape a network declares."""

METRICS_CONNECTIONS = 8
"""Connections to the metrics' port at a time."""

METRICS_TIMEOUT_S = 10.0
"""How long one of them may take."""

METRICS_REQUEST_BYTES = 64 * _KB
"""What one of them may ask."""

LOCK_TIMEOUT_S = 60.0
"""How long a writer waits for another one of the same file."""

COMPILING_TIMEOUT_S = 3600.0
"""How long a process waits for another one that compiles the engine that it needs."""

LINE_LOCK_TIMEOUT_S = 1.0
"""How long a line of JSON waits for another process that appends to the same file."""
