"""The functions of the module, one for each job."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _options as options_of
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
from ._models import AnyModel, Model
from ._options import (
    BenchmarkOptions,
    CompileOptions,
    DoctorOptions,
    EvaluateOptions,
    FinetuneOptions,
    InspectOptions,
    PruneOptions,
    StrPath,
    VerifyOptions,
)
from ._progress import Progress
from ._run import Scratch, arguments, run

if TYPE_CHECKING:
    from onnx import ModelProto
    from typing_extensions import Unpack

    # What comes back in kind.
    M = TypeVar("M", bytes, ModelProto)


@overload
def compile(
    model: AnyModel, output: StrPath, *, progress: Progress = None, **options: Unpack[CompileOptions]
) -> tuple[Path, CompileReport]: ...
@overload
def compile(
    model: StrPath, output: None = None, *, progress: Progress = None, **options: Unpack[CompileOptions]
) -> tuple[bytes, CompileReport]: ...
@overload
def compile(
    model: M, output: None = None, *, progress: Progress = None, **options: Unpack[CompileOptions]
) -> tuple[M, CompileReport]: ...
def compile(
    model: Any, output: StrPath | None = None, *, progress: Progress = None, **options: Unpack[CompileOptions]
) -> tuple[Any, CompileReport]:
    """Merges layers without changing the function, and verifies the result by running it.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        output: Path of the result. Without it the result comes back as bytes, or as a ``ModelProto`` if one was given.
        progress: A function that gets each :class:`Event`, ``True`` for a bar, ``False`` for nothing; ``None``: a bar in terminals
            and notebooks.
        **options: Options of ``updp-compile compile``.

    Returns:
        The model (its path if ``output`` is given) and the report.

    Raises:
        UpdpError: By its subclass and ``code``: a broken model, a result that differs, a gate that is missed.
    """
    with Scratch() as scratch:
        return _made("compile", Model(model, scratch.path), output, [], dict(options), progress, scratch)


@overload
def prune(
    model: AnyModel,
    data: Data | None,
    output: StrPath,
    *,
    progress: Progress = None,
    **options: Unpack[PruneOptions],
) -> tuple[Path, CompileReport]: ...
@overload
def prune(
    model: AnyModel,
    data: Data | None = None,
    *,
    output: StrPath,
    progress: Progress = None,
    **options: Unpack[PruneOptions],
) -> tuple[Path, CompileReport]: ...
@overload
def prune(
    model: StrPath,
    data: Data | None = None,
    output: None = None,
    *,
    progress: Progress = None,
    **options: Unpack[PruneOptions],
) -> tuple[bytes, CompileReport]: ...
@overload
def prune(
    model: M,
    data: Data | None = None,
    output: None = None,
    *,
    progress: Progress = None,
    **options: Unpack[PruneOptions],
) -> tuple[M, CompileReport]: ...
def prune(
    model: Any,
    data: Data | None = None,
    output: StrPath | None = None,
    *,
    progress: Progress = None,
    **options: Unpack[PruneOptions],
) -> tuple[Any, CompileReport]:
    """Prunes blocks, recovers accuracy from images, merges what is pruned, and verifies the merge.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        data: Images; labels are not needed. See :data:`Data`.
        output: Path of the result. Without it the result comes back as bytes, or as a ``ModelProto`` if one was given.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile prune``. One of them is the goal: ``speedup=1.3`` (times as fast), ``latency_ms=2.5``,
            ``macs=0.7`` (share that is left), ``max_drop=1.0`` (points of accuracy), ``prune=3`` (blocks) or ``blocks=[3, 5]``.

    Returns:
        The model (its path if ``output`` is given) and the report. ``report.pruning`` holds the pruned blocks, the accuracy and
        the measured speed.

    Raises:
        GoalMissedError: The goal was missed; its ``model`` and ``report`` are the best result.
        UpdpError: Everything else, by its subclass and ``code``.
    """
    with Scratch() as scratch:
        words, given = _images(data, dict(options), scratch)
        return _made("prune", Model(model, scratch.path), output, words, given, progress, scratch)


@overload
def finetune(
    model: AnyModel, data: Data, output: StrPath, *, progress: Progress = None, **options: Unpack[FinetuneOptions]
) -> tuple[Path, TrainReport]: ...
@overload
def finetune(
    model: StrPath, data: Data, output: None = None, *, progress: Progress = None, **options: Unpack[FinetuneOptions]
) -> tuple[bytes, TrainReport]: ...
@overload
def finetune(
    model: M, data: Data, output: None = None, *, progress: Progress = None, **options: Unpack[FinetuneOptions]
) -> tuple[M, TrainReport]: ...
def finetune(
    model: Any, data: Data, output: StrPath | None = None, *, progress: Progress = None, **options: Unpack[FinetuneOptions]
) -> tuple[Any, TrainReport]:
    """Trains a model as it is, without a deep-learning framework.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        data: Images, with labels or without; without them the model is trained to agree with itself. See :data:`Data`.
        output: Path of the result. Without it the result comes back as bytes, or as a ``ModelProto`` if one was given.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile finetune``, such as ``epochs=5``.

    Returns:
        The model (its path if ``output`` is given) and the report.

    Raises:
        UpdpError: By its subclass and ``code``.
    """
    with Scratch() as scratch:
        words, given = _images(data, dict(options), scratch)
        return _made("finetune", Model(model, scratch.path), output, words, given, progress, scratch)


def inspect(model: AnyModel, *, progress: Progress = None, **options: Unpack[InspectOptions]) -> InspectReport:
    """Says what is in a model: its graph, and its blocks with the forms they could take.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile inspect``, such as ``latency=True`` to measure every block.
    """
    with Scratch() as scratch:
        return InspectReport.from_json(_document("inspect", _models(model, None, scratch), [], dict(options), progress, scratch))


def verify(
    reference: AnyModel, model: AnyModel, *, progress: Progress = None, **options: Unpack[VerifyOptions]
) -> VerifyReport:
    """Compares two models by running both on the same inputs.

    A difference is no exception: read ``is_equal`` of the report, and ``proves_nothing``, which says why inputs could not show a
    difference.

    Args:
        reference: The model to compare with: path, bytes or ``onnx.ModelProto``.
        model: The other model.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile verify``, such as ``input_data={"input": array}``.
    """
    with Scratch() as scratch:
        models = [Model(reference, scratch.path, "reference.onnx"), Model(model, scratch.path)]
        return VerifyReport.from_json(_document("verify", models, [], dict(options), progress, scratch))


def evaluate(
    model: AnyModel,
    data: Data,
    other: AnyModel | None = None,
    *,
    progress: Progress = None,
    **options: Unpack[EvaluateOptions],
) -> EvaluateReport:
    """Measures accuracy on images, or how often two models agree.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        data: Images; two models need no labels. See :data:`Data`.
        other: A second model to compare with.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile evaluate``, such as ``preprocess="imagenet"``.
    """
    with Scratch() as scratch:
        models = _models(model, other, scratch)
        words, given = _images(data, dict(options), scratch)
        return EvaluateReport.from_json(_document("evaluate", models, words, given, progress, scratch))


def benchmark(
    model: AnyModel, other: AnyModel | None = None, *, progress: Progress = None, **options: Unpack[BenchmarkOptions]
) -> BenchReport:
    """Measures the latency of one model, or of two in turns.

    Args:
        model: Path, bytes or ``onnx.ModelProto``.
        other: A second model; ``report.models[1].speedup`` says how many times as fast it is.
        progress: As for :func:`compile`.
        **options: Options of ``updp-compile bench``, such as ``batch=8``.
    """
    with Scratch() as scratch:
        return BenchReport.from_json(_document("bench", _models(model, other, scratch), [], dict(options), progress, scratch))


def doctor(**options: Unpack[DoctorOptions]) -> DoctorReport:
    """Says what this machine has for running models: ONNX Runtime, devices, memory, and what to type where something is missing.

    A runtime that does not work is no exception: read ``works``, ``error`` and ``cures`` of the report.

    Args:
        **options: Options of ``updp-compile doctor``.
    """
    with Scratch() as scratch:
        return DoctorReport.from_json(_document("doctor", [], [], dict(options), False, scratch))


_LOOKING: dict[str, dict[str, Any]] = {
    "inspect": options_of.InspectOptions.__annotations__,
    "verify": options_of.VerifyOptions.__annotations__,
    "evaluate": options_of.EvaluateOptions.__annotations__,
    "bench": options_of.BenchmarkOptions.__annotations__,
    "doctor": options_of.DoctorOptions.__annotations__,
}


def _document(
    job: str, models: list[Model], words: list[str], options: dict[str, Any], progress: Progress, scratch: Scratch
) -> dict[str, Any]:
    """The document of a job that makes no model. A failure that comes with a document, such as a difference, is in it."""
    words = [*words, *arguments(options, _LOOKING[job], scratch)]
    shown = scratch.shown | {each.path: each.shown() for each in models}
    document, _ = run([job, "--json", *words, "--", *(each.path for each in models)], progress, shown)
    return document or {}


def _models(model: Any, other: Any, scratch: Scratch) -> list[Model]:
    models = [Model(model, scratch.path)]
    if other is not None:
        models.append(Model(other, scratch.path, "other.onnx"))
    return models


def _images(data: Any, options: dict[str, Any], scratch: Scratch) -> tuple[list[str], dict[str, Any]]:
    """The option of the images, and the other options. Floats count as preprocessed, so nothing is done to them."""
    if data is None:
        return [], options
    path, is_float = scratch.images("data", data, _needed(options))
    if is_float:
        options.setdefault("preprocess", "none")
    return [f"--data={path}"], options


def _needed(options: dict[str, Any]) -> int | None:
    """How many images of an iterable are needed: those asked for, and those that are held out."""
    if options.get("images") is None:
        return None
    share = options.get("val_split")
    try:
        asked = int(options["images"])
        held_out = 0.0 if options.get("val") is not None else 0.1 if share is None else float(share)
    except (TypeError, ValueError):
        raise TypeError(f"images and val_split are numbers, not {options['images']!r} and {share!r}") from None
    return math.ceil(asked / (1.0 - held_out)) if 0.0 <= held_out < 1.0 else asked


_REPORTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "compile": (CompileReport, options_of.CompileOptions.__annotations__),
    "prune": (CompileReport, options_of.PruneOptions.__annotations__),
    "finetune": (TrainReport, options_of.FinetuneOptions.__annotations__),
}


def _made(
    job: str,
    model: Model,
    output: StrPath | None,
    words: list[str],
    options: dict[str, Any],
    progress: Progress,
    scratch: Scratch,
) -> tuple[Any, Any]:
    """Runs a job that makes a model, and returns the model with the report."""
    report_type, known = _REPORTS[job]
    target = scratch.path / "result.onnx" if output is None else Path(os.fspath(output))
    words = [*words, *arguments(options, known, scratch)]
    shown = scratch.shown | {model.path: model.shown()}
    # Its option says so; then the input is the output.
    if options.get("in_place"):
        if not model.is_path or output is not None:
            raise TypeError("in_place=True writes the model to its own path: give a path and no output")
        place, target, output = [], Path(model.path), model.path
    else:
        # A file may have the name that stands for the standard output.
        place = [f"--output={os.path.join('.', '-') if str(target) == '-' else target}"]
    if output is None:
        if options.get("external_data"):
            raise TypeError("external_data=True writes a second file beside the result: give an output")
        shown[str(target)] = "<result>"
    document, error = run([job, "--quiet", *words, *place, "--", model.path], progress, shown)
    report = report_type.from_json(document or {})
    result = model.result(target, output)
    if error is not None:
        error.model, error.report = result, report
        raise error
    return result, report
