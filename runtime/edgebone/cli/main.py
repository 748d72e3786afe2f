"""The program's start: signal handlers are installed before slow imports."""

from __future__ import annotations

import sys

from edgebone.cli import signals

# Commands that serve cameras for days and reload on SIGHUP.
_RELOADING = ("run", "shelf")


def main() -> None:
    """Run the ``edgebone`` program."""
    signals.listen(hold_reload=next((word for word in sys.argv[1:] if not word.startswith("-")), "") in _RELOADING)
    try:
        from edgebone.cli.program import run_program

        run_program()
        return
    except signals.Stopped:
        pass
    except Exception:
        # Before Python 3.12 a class body turns an exception that stops it into a RuntimeError.
        if not signals.heard():
            raise
    # Only after the exception is released with its frames, whose generators close then.
    signals.end()
