"""The program's beginning: signals are heard before anything is imported that takes a while."""

from __future__ import annotations

import sys

from edgebone.cli import signals

# What serves cameras for days, and loads again at SIGHUP.
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
        # Before Python 3.12 a class body turns whatever stops it into a RuntimeError.
        if not signals.heard():
            raise
    # Not before the exception is gone, and with it the frames that it held, whose generators close then.
    signals.end()
