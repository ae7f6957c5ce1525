"""Errors and warnings."""

from __future__ import annotations

from typing import Any


class UpdpWarning(UserWarning):
    """A possible problem with a result."""


class UpdpError(Exception):
    """Why a job failed.

    Attributes:
        code: Stable code, such as ``I0102``. ``docs/errors.md`` and ``updp-compile errors CODE`` explain it.
        cure: What to do about it; ``None`` if the message says it.
        exit_code: Exit code of the command line.
        model: The model that was written although a goal or a gate was missed; else ``None``.
        report: The report of such a model; else ``None``.
    """

    def __init__(self, code: str, message: str, cure: str | None, exit_code: int) -> None:
        super().__init__(f"[{code}] {message}" + (f" ({cure})" if cure else ""))
        self.code = code
        self.message = message
        self.cure = cure
        self.exit_code = exit_code
        self.model: Any = None
        self.report: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The dictionary holds the model, the report and notes.
        return type(self), (self.code, self.message, self.cure, self.exit_code), self.__dict__


class InternalError(UpdpError):
    """A bug of updp-compile. Please report it."""


class UsageError(UpdpError, ValueError):
    """Wrong options or data."""


class ModelError(UpdpError):
    """The model is broken."""


class UnsupportedError(UpdpError):
    """The model has something that is not supported, or the target refuses it."""


class VerificationError(UpdpError):
    """The result differs from the input model. Nothing was written."""


class NothingToPruneError(UpdpError):
    """There is nothing to prune."""


class GoalMissedError(UpdpError):
    """A goal or a gate was missed. ``model`` and ``report`` hold the best result."""


class RuntimeMissingError(UpdpError):
    """No runtime can run the model."""


_BY_EXIT_CODE: dict[int, type[UpdpError]] = {
    1: InternalError,
    2: UsageError,
    3: ModelError,
    4: UnsupportedError,
    5: VerificationError,
    6: NothingToPruneError,
    7: GoalMissedError,
    8: RuntimeMissingError,
}


def error_of(failure: tuple[str, str, str | None, int]) -> UpdpError:
    """The exception of a failure."""
    code, message, cure, exit_code = failure
    if cure == "updp-compile --help lists everything":
        cure = "docs/command-line.md lists the options; write _ for -"
    return _BY_EXIT_CODE.get(exit_code, UpdpError)(code, message, cure, exit_code)
