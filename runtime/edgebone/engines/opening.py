"""Opens engines for a bundle's variant or for an ONNX file's bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from edgebone.core.bundle import Bundle
from edgebone.core.errors import BundleError, EdgeboneError, EngineError, NoEngineError, raise_interrupt
from edgebone.core.manifest import Manifest
from edgebone.core.place import load_place
from edgebone.core.tensors import TensorSpec
from edgebone.engines.protocol import AsyncEngine
from edgebone.engines.request import EngineRequest
from edgebone.engines.select import Choice
from edgebone.engines.spec import Candidate
from edgebone.engines.table import ROWS, find, names

_log = logging.getLogger("edgebone.engines")


def open_engine(
    bundle: Bundle, candidate: Candidate, *, cache: bool = True, notice: Callable[[str], None] = _log.warning
) -> AsyncEngine:
    """Load a bundle's variant into an engine.

    Args:
        bundle: An open bundle.
        candidate: The variant to load, and the engine.
        cache: Whether to use the user's cache of compiled networks. TensorRT always uses it.
        notice: Called with a line before TensorRT compiles, which may take minutes; by default a warning is logged.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        EngineError: The engine is unknown, rejects the network, or cannot start.
    """
    variant = bundle.manifest.graph(candidate.variant)
    batch_range = variant.batch if candidate.batch is None else (candidate.batch, candidate.batch)
    engine = _open(
        EngineRequest(
            candidate, batch_range, lambda: bundle.read(variant.file), bundle=bundle, keeps=cache, notice=notice
        )
    )
    try:
        _check_against_manifest(bundle, engine, candidate.variant, batch_range[1])
    except EdgeboneError:
        engine.close()
        raise
    except Exception as error:
        # Another package's engine may describe itself wrongly.
        engine.close()
        raise_interrupt(error)
        raise EngineError(f"{candidate.engine} does not describe its inputs and outputs: {error}") from error
    return engine


def open_model(
    candidate: Candidate, model: bytes, batch_range: tuple[int, int], behind_another: bool = False
) -> AsyncEngine:
    """Load an ONNX file's bytes into an engine, without caching what it compiles.

    Args:
        candidate: The engine; its variant is ignored.
        model: The file's bytes.
        batch_range: Smallest and largest batch.
        behind_another: Whether another engine runs before it on the same cores, frame by frame.

    Raises:
        MissingDependencyError: The engine's package is not installed.
        EngineError: The engine is unknown, rejects the network, or cannot start.
    """
    return _open(EngineRequest(candidate, batch_range, lambda: model, keeps=False, behind_another=behind_another))


def _open(request: EngineRequest) -> AsyncEngine:
    name = request.candidate.engine
    spec = find(name)
    if spec is None:
        raise EngineError(f"there is no engine {name}; choose {', '.join(names())}")
    try:
        engine: AsyncEngine = load_of_engine(spec.open)(request)
    except EdgeboneError:
        raise
    except Exception as error:
        if spec in ROWS:
            raise
        # An error in another package must not prevent trying the next engine.
        raise EngineError(f"{name} cannot open the network: {type(error).__name__}: {error}") from error
    return engine


def load_of_engine(place: str) -> Any:
    """Import the object that an engine's row names.

    Raises:
        EngineError: It cannot be imported, for example because a dependency is missing.
    """
    try:
        return load_place(place)
    except (ImportError, AttributeError) as error:
        raise_interrupt(error)
        raise EngineError(f"{place} cannot be loaded: {error}") from error


def _check_against_manifest(bundle: Bundle, engine: AsyncEngine, variant: str, batch: int) -> None:
    """Reject a network whose inputs or outputs differ from the manifest."""
    manifest = bundle.manifest
    own_input = manifest.input_of(variant)
    # The order depends on the engine.
    wanted = ([own_input.name], sorted(spec.name for spec in manifest.outputs))
    found = ([spec.name for spec in engine.inputs], sorted(spec.name for spec in engine.outputs))
    if wanted != found:
        raise EngineError(
            f"{bundle.path}: the network has inputs and outputs {found}, its manifest says {wanted}; "
            "export the bundle again"
        )
    by_name = {spec.name: spec for spec in (*engine.inputs, *engine.outputs)}
    for said in (own_input, *manifest.outputs):
        is_ = by_name[said.name]
        if not _agree(said, is_):
            raise EngineError(
                f"{bundle.path}: the network has {is_}, its manifest says {said}; export the bundle again"
            )
    for name in sorted({output for head in manifest.heads.values() if not head.detached for output in head.outputs}):
        rows = by_name[name].shape[0] if by_name[name].shape else 0
        if isinstance(rows, int) and rows < batch:
            raise EngineError(
                f"{bundle.path}: the network outputs {by_name[name]} for {batch} pictures, not a row for each; "
                "export the bundle again"
            )


def _agree(said: TensorSpec, is_: TensorSpec) -> bool:
    """Return whether two specifications can describe one tensor: a free size fits any other."""
    return (
        said.dtype == is_.dtype
        and len(said.shape) == len(is_.shape)
        and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(said.shape, is_.shape, strict=True))
    )


def read_first(manifest: Manifest, choice: Choice) -> tuple[str, ...]:
    """Return the files that :func:`open_first` reads regardless of the caches."""
    best = choice.fits[0].candidate
    spec = find(best.engine)
    return () if spec is None or spec.may_skip_file else (manifest.graph(best.variant).file,)


def open_first(bundle: Bundle, choice: Choice) -> tuple[AsyncEngine, Candidate, list[str]]:
    """Open the best engine that fits; if one fails to open, try the next.

    Returns:
        The engine, its candidate, and a line for each engine that failed before it.

    Raises:
        BundleError: The bundle's own file is at fault, independent of the engine.
        NoEngineError: None opened; the message has a line per candidate.
    """
    failures: list[str] = []
    for fit in choice.fits:
        try:
            return open_engine(bundle, fit.candidate), fit.candidate, failures
        except BundleError:
            raise
        except EdgeboneError as error:
            failures.append(f"{fit.candidate}: {error}")
    raise NoEngineError(f"{bundle.path}: every engine that should fit failed to open:", failures)
