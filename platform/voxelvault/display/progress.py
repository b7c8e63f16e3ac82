"""A progress bar in a terminal (stderr) and in a notebook; nothing where nobody looks."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Progress:
    """A bar that may be told more than it knew at the start.

    Parameters
    ----------
    label : str
        What goes on; free of identifiers.
    total : int, optional
        How many steps, where known.
    unit : str
        What a step is.
    shown : bool, optional
        Show it or not; by default in notebooks and on terminals only.

    Examples
    --------
    >>> with Progress("ingest", total=2, shown=False) as bar:
    ...     bar.advance()
    ...     bar.advance()
    """

    def __init__(
        self, label: str, total: int | None = None, *, unit: str = "file", shown: bool | None = None
    ) -> None:
        notebook = in_notebook()
        if shown is None:
            shown = notebook or sys.stderr.isatty()
        self._bar: Any = (
            _bar(notebook)(desc=label, total=total, unit=unit, leave=True, file=sys.stderr) if shown else None
        )
        self.count = 0

    def advance(self, steps: int = 1) -> None:
        """Count steps.

        Parameters
        ----------
        steps : int
            How many were done.
        """
        self.count += steps
        if self._bar is not None:
            self._bar.update(steps)

    def expect(self, total: int) -> None:
        """Say how many steps there are in all.

        Parameters
        ----------
        total : int
            Steps.
        """
        if self._bar is not None:
            self._bar.total = total
            self._bar.refresh()

    def note(self, text: str) -> None:
        """Show a few words behind the bar.

        Parameters
        ----------
        text : str
            Free of identifiers: a notebook keeps it.
        """
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        """Return the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar, also after a failure."""
        self.close()


@contextmanager
def progress_bar(label: str, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Hold a bar that counts files and bytes.

    Parameters
    ----------
    label : str
        What goes on; free of identifiers.
    shown : bool
        Show it, in notebooks and on terminals.

    Yields
    ------
    callable
        ``advance(files, bytes)``.
    """
    done = 0
    with Progress(label, shown=None if shown else False) as bar:

        def advance(files: int, size: int) -> None:
            nonlocal done
            done += size
            bar.note(f"{done / 1e6:,.0f} MB")
            bar.advance(files)

        yield advance


def in_notebook() -> bool:
    """Say whether a notebook kernel runs this process."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return type(running).__name__ == "ZMQInteractiveShell"


def _bar(notebook: bool) -> Any:
    # tqdm.auto would warn in a kernel without ipywidgets; a text bar there is good enough.
    if notebook and importlib.util.find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as notebook_bar

        return notebook_bar
    from tqdm.std import tqdm as text_bar

    return text_bar
