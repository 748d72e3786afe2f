"""Presents results to people: draws, saves, shows, tabulates and summarises them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any, ClassVar

from edgebone.core.errors import EdgeboneError, MissingDependencyError

_ROWS_SHOWN, _WIDTH_SHOWN, _MOST_IN_A_CELL = 20, 640, 8


class Shown:
    """A result, or several heads' results, of one picture.

    A result of ``model(picture)`` remembers its picture; results of a list or a stream need it as an argument.
    """

    painter: ClassVar[Callable[[Any, Any], Any] | None] = None
    """Draws results onto a picture; set by the model, since this room must not import drawing."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """Return the result as table rows, plain values by column."""
        return _rows(self.to_dict())

    def __repr__(self) -> str:
        """``<Detections: 2 person (best 87.1 %)>``."""
        return f"<{type(self).__name__}: {self}>"

    def draw(self, picture: Any = None) -> Any:
        """Draw the result onto a copy of the picture.

        Args:
            picture: Anything that a model accepts; None for the result's own picture.

        Returns:
            A ``PIL.Image.Image`` in RGB.

        Raises:
            EdgeboneError: The result does not know its picture.
            SourceError: The picture cannot be read.
        """
        known = getattr(self, "_picture", None) if picture is None else picture
        if known is None or Shown.painter is None:
            raise EdgeboneError("the result does not know its picture; pass it, as in result.draw(frame)")
        return Shown.painter(known, self)

    def save(self, path: Any, picture: Any = None) -> None:
        """Write the picture with the result on it, in the format of the path's suffix; arguments as :meth:`draw`."""
        self.draw(picture).save(path)

    def show(self, picture: Any = None) -> None:
        """Show the picture with the result on it in the system's viewer; arguments as :meth:`draw`."""
        self.draw(picture).show()

    def to_df(self) -> Any:
        """Return the rows as a pandas DataFrame, or as a polars one if only polars is installed.

        Raises:
            MissingDependencyError: Neither is installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            try:
                import polars
            except ModuleNotFoundError as error:
                raise MissingDependencyError("neither pandas nor polars is installed: pip install pandas") from error
            return polars.DataFrame(self.rows())
        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """Return HTML for notebooks: the summary, the picture if known, and the first rows."""
        # Imported here: only notebooks pay for it.
        import html

        parts = [f"<p>{html.escape(str(self))}</p>"]
        if getattr(self, "_picture", None) is not None:
            parts.append(_as_html(self.draw()))
        return "".join([*parts, _table(self.rows())])


def remember(results: Shown | dict[str, Any] | Any, picture: Any) -> None:
    """Store the picture in its results."""
    for item in (results, *(results.values() if isinstance(results, dict) else ())):
        if isinstance(item, Shown):
            # The class is frozen for its fields; the picture is not a field and is not compared.
            object.__setattr__(item, "_picture", picture)


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    listed = next((item for item in found.values() if isinstance(item, list)), None)
    if listed is not None and all(isinstance(item, dict) for item in listed):
        return [_flat(item) for item in listed]
    return [_flat(found)]


def _flat(found: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return one row: nested values get both names; long lists are omitted."""
    row: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            row.update(_flat(value, f"{prefix}{name}."))
        elif name == "bbox":
            row.update(zip(("left", "top", "width", "height"), value, strict=True))
        elif not isinstance(value, list) or len(value) <= _MOST_IN_A_CELL:
            row[f"{prefix}{name}"] = value
    return row


def _table(rows: list[dict[str, Any]]) -> str:
    import html

    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cell(row.get(name)))}</td>' for name in names)}</tr>"
        for row in rows[:_ROWS_SHOWN]
    )
    more = f"<p>and {len(rows) - _ROWS_SHOWN} more</p>" if len(rows) > _ROWS_SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_html(image: Any) -> str:
    image.thumbnail((_WIDTH_SHOWN, _WIDTH_SHOWN))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'
