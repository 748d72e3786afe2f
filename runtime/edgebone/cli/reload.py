"""SIGHUP: what a run was started with is loaded again, between two frames or while none comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgebone.cli.output import note
from edgebone.cli.signals import raise_if_heard, reload_asked
from edgebone.core.errors import EdgeboneError

if TYPE_CHECKING:
    from edgebone.cli.follow import Follow
    from edgebone.cli.naming import Naming
    from edgebone.core.frame import Frame
    from edgebone.core.results import Results
    from edgebone.model.model import Model
    from edgebone.stream.stream import Stream


class Reload:
    """Loads again what SIGHUP asks for: the zones, and the bundle with its galleries.

    One that cannot be read, or lacks what the run needs, is refused with a line, and the one before goes on.

    Args:
        load: Loads the bundle.
        named: The galleries.
        follow: What is followed; None for nothing.
    """

    def __init__(self, load: Callable[[], Model], named: Naming, follow: Follow | None = None) -> None:
        self._load = load
        self._named = named
        self._follow = follow

    def look(self, stream: Stream[Model]) -> None:
        """Load again, if SIGHUP has come."""
        if not reload_asked():
            return
        if self._follow is not None and self._follow.has_zones:
            reloaded("zones", self._follow.load_zones_again)
        reloaded("bundle", lambda: self._swap(stream))

    def _swap(self, stream: Stream[Model]) -> None:
        model = self._load()
        try:
            if self._follow is not None:
                self._follow.check(model)
            galleries = self._named.open(model)
            stream.swap(model)
        except BaseException:
            model.close()
            raise
        self._named.take(model, galleries, stream.answered_by)


def reloaded(what: str, load: Callable[[], object]) -> None:
    """Load something again, and say so; one that is refused is said, and the one before goes on."""
    are = "are" if what.endswith("s") else "is"
    were = "they were" if what.endswith("s") else "it was"
    try:
        load()
    except EdgeboneError as error:
        note(f"edgebone: {error}; going on with the {what} as {were}")
    else:
        note(f"edgebone: the {what} {are} loaded again")


def frames(stream: Stream[Model], reload: Reload, named: Naming) -> Iterator[tuple[Frame, Results]]:
    """The stream's frames, with names in the place of embeddings, and another model in it whenever SIGHUP came."""
    for frame, result in stream:
        raise_if_heard()
        named.look()
        # Before another model comes: this result, and those under way, are of the one that is there.
        shown = named(result, stream.answered_by)
        reload.look(stream)
        yield frame, shown
