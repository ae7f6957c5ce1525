"""Progress of a job."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union

from ._errors import UpdpWarning

_LOG = logging.getLogger("updp_compile")


@dataclass(frozen=True)
class Event:
    """Something that happens in a job.

    Attributes:
        kind: ``stage``: a numbered stage of a long job starts. ``progress``: a piece of work goes on. ``message``: useful
            information. ``warning``: a possible problem with the result.
        text: Name of the work, or the message.
        done: Number of finished steps, or the number of the stage, from 1.
        total: Number of steps or stages; 0 if it is unknown.
    """

    kind: Literal["stage", "progress", "message", "warning"]
    text: str
    done: int
    total: int


Progress = Union[bool, Callable[[Event], None], None]
"""Who follows a job: a function that gets each :class:`Event`; ``True`` for a bar, ``False`` for nothing, ``None`` for a bar in
terminals and notebooks."""


def _is_watched() -> bool:
    """Whether a person sees a bar: in a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    # Programs without a console have no such file, or a closed one.
    return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()


def caller_level() -> int:
    """The ``stacklevel`` of a warning that names the line outside this package, for the function that asks."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    return level


class Bar:
    """A tqdm bar for each piece of work; messages go to the log ``updp_compile``."""

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._bar: Any = None
        self._work: tuple[str, int] = ("", 0)
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if event.kind == "message":
            _LOG.info("%s", event.text)
        elif event.kind == "stage":
            self._stage = f"[{event.done}/{event.total}] "
            _LOG.info("%s%s", self._stage, event.text)
        elif event.kind == "progress" and self._is_shown:
            self._show(event)

    def _show(self, event: Event) -> None:
        name = event.text.split(":")[0]
        if self._bar is None or self._work != (name, event.total):
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            self.close()
            self._work = (name, event.total)
            self._bar = tqdm(total=event.total or None, leave=False)
        self._bar.set_description(self._stage + event.text, refresh=False)
        self._bar.n = event.done
        self._bar.refresh()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Listener:
    """Passes events of the native half on. Warnings become Python warnings, too.

    Paths of temporary files are replaced in texts, as ``shown`` says.
    """

    def __init__(self, progress: Progress, shown: Mapping[str, str] | None = None) -> None:
        self._bar: Bar | None = None
        self._shown = shown or {}
        if callable(progress):
            self._follow: Callable[[Event], None] = progress
        elif progress is not None and progress not in (True, False):
            raise TypeError(f"progress is a function, True, False or None, not {type(progress).__qualname__}")
        else:
            self._bar = Bar(_is_watched() if progress is None else bool(progress))
            self._follow = self._bar

    def __call__(self, kind: Any, text: str, done: int, total: int) -> None:
        for path, name in self._shown.items():
            text = text.replace(path, name)
        self._follow(Event(kind, text, done, total))
        if kind == "warning":
            warnings.warn(text, UpdpWarning, stacklevel=caller_level())

    def close(self) -> None:
        """Ends what is shown."""
        if self._bar is not None:
            self._bar.close()
