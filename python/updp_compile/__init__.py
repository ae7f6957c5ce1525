"""Makes trained ONNX vision models faster: merges layers exactly, and prunes blocks and recovers accuracy.

>>> import updp_compile
>>> model, report = updp_compile.compile("model.onnx", output="merged.onnx")  # doctest: +SKIP
>>> model, report = updp_compile.prune("model.onnx", "images/", output="pruned.onnx", speedup=1.3)  # doctest: +SKIP

Every function takes a model as a path, as bytes or as an ``onnx.ModelProto``. Keyword arguments are the options of the
command line with ``_`` in place of ``-``; ``docs/command-line.md`` lists them. Reports are dataclasses, and ``docs/report.md``
explains their fields. Errors are :class:`UpdpError`; their ``code`` is explained in ``docs/errors.md``.
"""

from __future__ import annotations

from ._data import Data
from ._documents import (
    BenchReport,
    CompileReport,
    DoctorReport,
    EvaluateReport,
    InspectReport,
    TrainReport,
    VerifyReport,
)
from ._errors import (
    GoalMissedError,
    InternalError,
    ModelError,
    NothingToPruneError,
    RuntimeMissingError,
    UnsupportedError,
    UpdpError,
    UpdpWarning,
    UsageError,
    VerificationError,
)
from ._jobs import benchmark, compile, doctor, evaluate, finetune, inspect, prune, verify
from ._models import AnyModel
from ._native import VERSION as __version__
from ._progress import Event, Progress

__all__ = [
    "AnyModel",
    "BenchReport",
    "CompileReport",
    "Data",
    "DoctorReport",
    "EvaluateReport",
    "Event",
    "GoalMissedError",
    "InspectReport",
    "InternalError",
    "ModelError",
    "NothingToPruneError",
    "Progress",
    "RuntimeMissingError",
    "TrainReport",
    "UnsupportedError",
    "UpdpError",
    "UpdpWarning",
    "UsageError",
    "VerificationError",
    "VerifyReport",
    "__version__",
    "benchmark",
    "compile",
    "doctor",
    "evaluate",
    "finetune",
    "inspect",
    "prune",
    "verify",
]
