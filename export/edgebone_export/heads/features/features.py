"""Compute a frozen backbone's features with the engine that will run it, and cache them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.ahead import ahead
from edgebone.core.bundle import Bundle
from edgebone.core.caches import Cached, cache_folder, cached
from edgebone.core.errors import EngineError, SourceError, TensorError
from edgebone.core.manifest import Tap
from edgebone.core.tensors import Array, TensorSpec
from edgebone.engines.batches import run_all
from edgebone.engines.opening import open_model
from edgebone.engines.plans import plan_first, planned
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.select import candidates, choose
from edgebone.engines.spec import Candidate
from edgebone.engines.table import find, this_machine
from edgebone.preprocess import preprocess
from edgebone.sources.images import read_image
from edgebone_export.graphs.edit import checked_bytes
from edgebone_export.heads.attach.join import graph_with_taps, join, open_backbone, remove_outputs, tap_value
from edgebone_export.heads.data.views import views_of
from edgebone_export.heads.features.fitted import VECTOR
from edgebone_export.heads.features.readings import Reading, pooling_graph, width

# Part of every key: raise it when the same inputs lead to other features.
_VERSION = 2


@dataclass(frozen=True)
class Features:
    """A backbone's features of pictures.

    Attributes:
        arrays: Arrays by name, ``vector`` or a tap: float32 (rows, …), one row per view.
        picture: int64 (rows,): each row's index among the requested pictures.
        unreadable: Indices of pictures that could not be read, with the reason.
        from_cache: Number of pictures found in the cache.
        sha256: Hash of each readable picture, by index.
    """

    arrays: dict[str, NDArray[np.float32]]
    picture: NDArray[np.int64]
    unreadable: dict[int, str]
    from_cache: int
    sha256: dict[int, str]

    def others_than(self, known: Collection[str]) -> tuple[NDArray[np.int64], list[int]]:
        """Return the rows of pictures with unknown hashes, and the indices of pictures with known ones."""
        again = [place for place, digest in self.sha256.items() if digest in known]
        return np.flatnonzero(~np.isin(self.picture, again)), again


class FeatureEngine:
    """A variant's graph, cut off where a head begins; a context manager.

    Args:
        bundle: An open bundle.
        candidate: Variant, engine and precision.
        taps: The bundle's taps.
        reads: Readings, which make one ``vector``; or names of taps.

    Raises:
        ExportError: The variant's graph has no such tap.
        EngineError: The engine rejects the graph.
    """

    def __init__(
        self, bundle: Bundle, candidate: Candidate, taps: Mapping[str, Tap], reads: Sequence[Reading] | Sequence[str]
    ) -> None:
        manifest = bundle.manifest
        variant = manifest.variants[candidate.variant]
        where = f"{bundle.path}, {candidate.variant}"
        content = bundle.read(variant.file)
        if isinstance(reads[0], Reading):
            graph, specs = _with_vector(content, [item for item in reads if isinstance(item, Reading)], taps, where)
        else:
            graph, specs = graph_with_taps(content, {str(name): taps[str(name)] for name in reads}, where)
        self.candidate = candidate
        self.preprocess = manifest.preprocess
        self._outputs = {name: spec.name for name, spec in specs.items()}
        self._batch = variant.batch
        self.one_at_a_time = variant.batch == (1, 1)
        key = [
            _VERSION,
            hashlib.sha256(graph).hexdigest(),
            str(candidate),
            _versions(candidate.engine),
            manifest.preprocess,
        ]
        self.space = hashlib.sha256(msgspec.json.encode(key)).hexdigest()
        self._engine: AsyncEngine = open_model(candidate, graph, variant.batch)

    def run(self, inputs: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return features of network inputs, uint8 (n, height, width, 3), as float32 arrays (n, …) by name."""
        low, high = self._batch
        outputs = run_all(self._engine, inputs, high, low)
        return {name: outputs[output] for name, output in self._outputs.items()}

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def __enter__(self) -> FeatureEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def pick(bundle: Bundle, engine: str, precision: str | None, variant: str | None = None) -> Candidate:
    """Choose what computes features: what `edgebone.load` would choose, or a variant on the first engine that runs it.

    Raises:
        EngineError: The engine, precision or variant is unknown.
        NoEngineError: No engine on this machine runs it.
    """
    manifest, machine = bundle.manifest, this_machine(engine)
    if variant is not None and variant not in manifest.variants:
        raise EngineError(f"{bundle.path}: no variant {variant}; the bundle has {', '.join(manifest.variants)}")
    if (engine, precision, variant) == ("auto", None, None):
        plan = planned(manifest, machine)
        if plan is not None:
            choice = plan_first(plan, choose(candidates(manifest), machine, manifest.variants), machine, manifest)
            if choice.fits[0].candidate is plan:
                # How it is run does not change the result.
                return Candidate(plan.engine, plan.precision, plan.variant)
    options = candidates(manifest, engine, precision or (manifest.variants[variant].precision if variant else "fp32"))
    if variant is not None:
        options = [option for option in options if option.variant == variant]
    return choose(options, machine, manifest.variants).fits[0].candidate


def extract(
    engine: FeatureEngine,
    pictures: Sequence[Path],
    *,
    views: int = 1,
    seed: int = 0,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Features:
    """Return features of pictures, from the cache if possible.

    Args:
        engine: Engine that computes them.
        pictures: Picture files.
        views: Views per picture; 1 is the picture alone.
        seed: Seed of the random views.
        cache: Folder of cached features, one file per picture, keyed by the picture's content and everything else that
            determines them; None for no cache. A damaged file is recomputed. If the network takes one picture at a
            time, features cached for several views also serve for fewer.
        progress: Called with the number of pictures done and their total.

    Raises:
        SourceError: None of the pictures can be read.
    """
    folder = None if cache is None else cache / engine.space[:32]
    unreadable: dict[int, str] = {}
    hashes: dict[int, str] = {}
    rows: list[dict[str, Array]] = []
    picture: list[int] = []
    hits = done = 0

    def one(path: Path) -> tuple[dict[str, Array], str, bool] | str:
        try:
            content = path.read_bytes()
        except OSError as error:
            return str(error.strerror or error)
        return _of_picture(engine, path, content, views, seed, folder)

    with closing(ahead(one, pictures)) as all_found:
        for place, found in enumerate(all_found):
            done += 1
            progress(done, len(pictures))
            if isinstance(found, str):
                unreadable[place] = found
                continue
            arrays, hashes[place], hit = found
            hits += hit
            rows.append(arrays)
            picture += [place] * views
    if not rows:
        raise SourceError(
            f"none of {len(pictures)} pictures can be read: {next(iter(unreadable.values()), 'no files')}"
        )
    joined = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return Features(joined, np.asarray(picture, np.int64), unreadable, hits, hashes)


def _of_picture(
    engine: FeatureEngine, path: Path, content: bytes, views: int, seed: int, folder: Path | None
) -> tuple[dict[str, Array], str, bool] | str:
    digest = hashlib.sha256(content).hexdigest()
    places = [] if folder is None else _places(engine, folder, digest, views, seed)
    for place in places:
        kept = _kept(place)
        if kept is not None and all(len(array) >= views for array in kept.values()):
            return {name: array[:views] for name, array in kept.items()}, digest, True
    inputs = np.zeros((views, *engine.preprocess.size_hw, 3), np.uint8)
    # The picture's own hash seeds its views, so they do not depend on the order of pictures.
    own_seed = (seed << 32) + int(digest[:8], 16)
    try:
        for view, out in zip(views_of(read_image(path, content), views, own_seed), inputs, strict=True):
            preprocess(engine.preprocess, view, out)
    except SourceError as error:
        return str(error)
    except TensorError as error:
        return f"{path}: {error}"
    arrays = engine.run(inputs)
    if places:
        _keep(places[0], arrays)
    return arrays, digest, False


def _places(engine: FeatureEngine, folder: Path, digest: str, views: int, seed: int) -> list[Cached]:
    """Return the cache files that may have a picture's features; the first is the one to write."""
    # The first two views are the picture and its mirror image, whatever the seed.
    seeds = [seed] if views > 2 else [None, seed]
    if engine.one_at_a_time:
        # A view does not depend on how many follow it, so features cached for more views serve for fewer.
        return [cached(folder / digest[:2], engine.space, digest, own) for own in seeds]
    return [cached(folder / digest[:2], engine.space, digest, seeds[0], views)]


def _kept(place: Cached) -> dict[str, Array] | None:
    found = place.load()
    if found is None:
        return None
    with np.load(io.BytesIO(found[0]), allow_pickle=False) as arrays:
        return dict(arrays)


def _keep(place: Cached, arrays: Mapping[str, Array]) -> None:
    recorded = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(recorded, **named)
    # A full disk only costs time at the next fit.
    with suppress(OSError):
        place.keep(recorded.getvalue())


def _with_vector(
    content: bytes, readings: Sequence[Reading], taps: Mapping[str, Tap], where: str
) -> tuple[bytes, dict[str, TensorSpec]]:
    model = open_backbone(content, where)
    reads = {item.tap: tap_value(model, item.tap, taps[item.tap], where) for item in readings}
    spec = TensorSpec(VECTOR, "float32", ("batch", width(readings, taps)))
    (made,) = join(model, "features", pooling_graph(readings, taps), reads, [spec])
    remove_outputs(model, [str(value.name) for value in model.graph.outputs if value.name != made.name])
    return checked_bytes(model, f"{where}: the graph of its features"), {VECTOR: made}


def _versions(engine: str) -> str:
    """Return the version of the computing package: another one may round differently."""
    spec = find(engine)
    here = this_machine(engine).packages
    versions = [here[name] for name in (spec.packages if spec else ()) if name in here]
    return f"{engine} {' '.join(versions)}"


def default_cache() -> Path | None:
    """Return the user's cache folder of features, or None if it cannot be written."""
    return cache_folder("features")
