"""Differential run over foreign models: does the compiler preserve the outputs of each model?

    .venv/bin/python scripts/corpus.py target/release/updp-compile DIR... [--onnx-backend] [--jobs 2] [--timeout 60]
        [--flags "--merge all"] [--report out.json] [--list CLASS]

Every `.onnx` file below the folders is compiled with `BINARY MODEL -o OUT` and put into one class:

    same          exit 0, changed, outputs equal in ONNX Runtime with its graph optimizer off
    unchanged     exit 0, equal in every field
    unverifiable  exit 0, changed, but neither ONNX Runtime nor the reference evaluator of the `onnx` package can run the
                  original, or the original is not deterministic
    refused       exit 2..8 with a line `error[...]` on stderr and no output file

    MISMATCH      outputs differ, or the output does not run although the original does
    SIGNATURE     inputs, outputs (names, types, shapes, order), opset imports or IR version changed
    CRASH         signal, panic, exit 1 or 101, a refusal without its error line, or an exit 0 without its output
    HANG          longer than --timeout
    UNSTABLE      a second run, or the output compiled again, gives other bytes

The classes in capitals make the exit status 1. `--onnx-backend` adds the backend tests of the installed `onnx` package:
the models it ships and the node tests it generates. If `test_data_set_*/input_*.pb` are beside a model, they are the
inputs. Otherwise inputs are drawn by declared type and shape, with two batch sizes if the batch is symbolic, and
overridable initializers are overridden once. Limits: max|delta| / max|reference| <= 1e-4 (2e-2 if f16 or bf16 are used);
integers, booleans and strings exactly. ONNX Runtime works in child processes, so that a crash affects only one model.
Needs scripts/requirements-check.txt.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import itertools
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GOOD = ("same", "unchanged", "unverifiable", "refused")
BAD = ("MISMATCH", "SIGNATURE", "CRASH", "HANG", "UNSTABLE")
DOCUMENTED_REFUSALS = range(2, 9)
ERROR_LINE = re.compile(r"^error\[[A-Z]\d+\]: .+$", re.MULTILINE)
LIMIT = 1e-4
LIMIT_HALF = 2e-2
DRAWS = 3
HALF_TYPES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
# Values tried in turn for symbolic dims until the original runs: (spatial dims of images, every other dim but the batch).
FILLS = [(32, 4), (8, 8), (16, 16), (1, 1), (2, 2), (64, 3), (224, 16)]
# Integers are drawn from these half-open ranges, in turn, until the original runs.
INTEGER_RANGES = [(0, 3), (0, 2), (0, 1), (1, 2)]
# Batch sizes of the draws, in turn, until the original runs.
BATCHES = [(2, 3, 2), (1, 1, 1), (8, 16, 8)]
MAX_INPUT_ELEMENTS = 1 << 24


class Unsupported(Exception):
    """An input or output that this script cannot make or read."""


@dataclasses.dataclass
class Verdict:
    """The result for one model."""

    label: str
    detail: str = ""
    error: float | None = None


# --- The child process: everything that touches ONNX Runtime -----------------------------------------------------------


def strip_initialized(model: onnx.ModelProto) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Split the graph inputs into those a caller must feed and those with a default value."""
    names = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    required = [i for i in model.graph.input if i.name not in names]
    return required, [i for i in model.graph.input if i.name in names]


def describe(value: onnx.ValueInfoProto) -> str:
    """Name and type of a graph input or output, for messages."""
    kind = value.type
    if not kind.HasField("tensor_type"):
        return f"{value.name}: {kind.WhichOneof('value')}"
    element = TensorProto.DataType.Name(kind.tensor_type.elem_type)
    if not kind.tensor_type.HasField("shape"):
        return f"{value.name}: {element} of unknown rank"
    dims = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in kind.tensor_type.shape.dim]
    return f"{value.name}: {element}[{','.join(dims)}]"


def signature_change(before: onnx.ModelProto, after: onnx.ModelProto) -> str | None:
    """Describe the change in the interface of the model, or return None.

    Below IR 4 every initializer is also listed as an input. Those listings follow their initializers: they may vanish,
    change shape or be new, but nothing new may appear that a caller would have to feed, and what stays keeps its order.
    """

    def key(values: list[onnx.ValueInfoProto]) -> list[tuple[str, bytes]]:
        return [(v.name, v.type.SerializeToString(deterministic=True)) for v in values]

    def imports(model: onnx.ModelProto) -> list[tuple[str, int]]:
        return sorted((o.domain, o.version) for o in model.opset_import)

    if before.ir_version != after.ir_version:
        return f"IR version {before.ir_version} became {after.ir_version}"
    if imports(before) != imports(after):
        return f"opset imports {imports(before)} became {imports(after)}"
    if key(before.graph.output) != key(after.graph.output):
        return f"outputs {[describe(v) for v in before.graph.output]} became {[describe(v) for v in after.graph.output]}"
    required = (strip_initialized(before)[0], strip_initialized(after)[0])
    inputs = (list(before.graph.input), list(after.graph.input))
    compared = inputs if before.ir_version >= 4 else required
    if key(compared[0]) != key(compared[1]):
        return f"inputs {[describe(v) for v in compared[0]]} became {[describe(v) for v in compared[1]]}"
    before_names, after_names = ([i.name for i in values] for values in inputs)
    if [n for n in before_names if n in set(after_names)] != [n for n in after_names if n in set(before_names)]:
        return "the order of the inputs changed"
    return None


def input_shape(value: onnx.ValueInfoProto, batch: int, fill: tuple[int, int]) -> list[int]:
    """Concrete dims for a tensor input: declared ones as they are, open (symbolic or negative) ones by position."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [batch, fill[1]]
    rank = len(tensor.shape.dim)
    dims = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(dim.dim_value)
        elif axis == 0:
            dims.append(batch)
        elif axis == 1 and rank == 4:
            dims.append(3)
        else:
            dims.append(fill[0] if rank == 4 else fill[1])
    return dims


def has_symbolic_batch(values: list[onnx.ValueInfoProto]) -> bool:
    """Whether the first dim of some input is open."""
    for value in values:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            return True
        if tensor.shape.dim and (not tensor.shape.dim[0].HasField("dim_value") or tensor.shape.dim[0].dim_value < 0):
            return True
    return False


def draw(element: int, shape: list[int], integers: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Random values of an ONNX element type."""
    if np.prod(shape, dtype=np.float64) > MAX_INPUT_ELEMENTS:
        raise Unsupported(f"input of {shape} is too large")
    if element == TensorProto.STRING:
        return rng.choice(np.array(["one", "two", "three", ""], dtype=object), size=shape)
    if element == TensorProto.BOOL:
        return rng.integers(0, 2, size=shape).astype(bool)
    dtype = helper.tensor_dtype_to_np_dtype(element)
    if element in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    if np.issubdtype(dtype, np.integer) or "int" in dtype.name:
        return rng.integers(*integers, size=shape).astype(dtype)
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def read_proto(path: Path, kind: onnx.TypeProto) -> Any:
    """Read one `input_N.pb` of a backend test as the graph input's type says."""
    raw = path.read_bytes()
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        tensor = TensorProto.FromString(raw)
        array = numpy_helper.to_array(tensor)
        return array.astype(object) if tensor.data_type == TensorProto.STRING else array
    if which == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if which == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    raise Unsupported(f"input of type {which}")


def recorded_feeds(
    model_path: Path, required: list[onnx.ValueInfoProto], every: list[onnx.ValueInfoProto]
) -> Iterator[dict[str, Any]]:
    """The inputs of `test_data_set_*` beside the model, if they are there.

    The files carry no reliable names, only positions: among all inputs or, where there are as many files as required
    inputs, among those.
    """
    for folder in sorted(model_path.parent.glob("test_data_set_*")):
        files = sorted(folder.glob("input_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
        values = required if len(files) == len(required) else every
        if len(files) <= len(values) and (files or not required):
            yield {v.name: read_proto(f, v.type) for f, v in zip(files, values)}


def drawn_feeds(
    required: list[onnx.ValueInfoProto], batch: int, fill: tuple[int, int], integers: tuple[int, int], seed: int
) -> dict[str, Any]:
    """Random inputs for every required graph input."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in required:
        if not value.type.HasField("tensor_type"):
            raise Unsupported(f"input {describe(value)}")
        shape = input_shape(value, batch, fill)
        feeds[value.name] = draw(value.type.tensor_type.elem_type, shape, integers, rng)
    return feeds


def overrides(model: onnx.ModelProto, directory: Path, seed: int) -> dict[str, np.ndarray]:
    """Other values for the initializers that a caller may override (IR 4 and later): floats only, shape kept."""
    if model.ir_version < 4:
        return {}
    rng = np.random.default_rng(seed)
    listed = {i.name for i in model.graph.input}
    values = {}
    for tensor in model.graph.initializer:
        if tensor.name in listed and tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16):
            array = numpy_helper.to_array(tensor, base_dir=str(directory))
            values[tensor.name] = (array + rng.uniform(0.1, 0.5, array.shape)).astype(array.dtype)
    return values


class Session:
    """An ONNX Runtime session with the graph optimizer off."""

    name = "ONNX Runtime"

    def __init__(self, path: Path) -> None:
        """Load the model; raises whatever ONNX Runtime raises."""
        import onnxruntime

        self.runtime = onnxruntime
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """Run all outputs."""
        if any(self._needs_typed_value(v) for v in feeds.values()) or any(
            t.type in ("tensor(bfloat16)",) or "float8" in t.type for t in self.session.get_outputs()
        ):
            results = self.session.run_with_ort_values(None, {k: self._to_value(v) for k, v in feeds.items()})
            return [self._from_value(r) for r in results]
        return self.session.run(None, feeds)

    @staticmethod
    def _needs_typed_value(value: Any) -> bool:
        return (
            isinstance(value, np.ndarray)
            and value.dtype.kind == "V"
            or getattr(value, "dtype", np.dtype(bool)).name
            in (
                "bfloat16",
                "float8_e4m3fn",
                "float8_e4m3fnuz",
                "float8_e5m2",
                "float8_e5m2fnuz",
            )
        )

    def _to_value(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            raise Unsupported("a sequence beside a bfloat16 tensor")
        if not self._needs_typed_value(value):
            return self.runtime.OrtValue.ortvalue_from_numpy(value)
        element = helper.np_dtype_to_tensor_dtype(value.dtype)
        storage = np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")
        return self.runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(storage, element)

    @staticmethod
    def _from_value(value: Any) -> Any:
        if not value.is_tensor():
            raise Unsupported("a sequence beside a bfloat16 tensor")
        if value.element_type() != TensorProto.BFLOAT16 and value.element_type() not in range(17, 21):
            return value.numpy()
        dtype = helper.tensor_dtype_to_np_dtype(value.element_type())
        count = int(np.prod(value.shape()))
        raw = ctypes.string_at(value.data_ptr(), count * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(value.shape())


class ReferenceSession:
    """The reference evaluator of the `onnx` package, for models that ONNX Runtime does not accept."""

    name = "reference evaluator"

    def __init__(self, path: Path) -> None:
        """Load the model; raises whatever the evaluator raises."""
        from onnx.reference import ReferenceEvaluator

        self.evaluator = ReferenceEvaluator(str(path))

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        """Run all outputs."""
        return self.evaluator.run(None, feeds)


def difference(reference: Any, result: Any, limit: float) -> tuple[float, str | None]:
    """Compare two outputs: the scale-relative error and, if it is too large, why."""
    if type(reference) is not type(result) and not (np.isscalar(reference) and np.isscalar(result)):
        return 0.0, f"{type(result).__name__} instead of {type(reference).__name__}"
    if reference is None:
        return 0.0, None
    if isinstance(reference, (list, tuple)):
        if len(reference) != len(result):
            return 0.0, f"{len(result)} elements instead of {len(reference)}"
        pairs = [difference(a, b, limit) for a, b in zip(reference, result)]
        return max((e for e, _ in pairs), default=0.0), next((why for _, why in pairs if why), None)
    if isinstance(reference, dict):
        if list(reference) != list(result):
            return 0.0, "other keys"
        return difference(list(reference.values()), list(result.values()), limit)

    expected, found = np.asarray(reference), np.asarray(result)
    if expected.dtype != found.dtype:
        return 0.0, f"{found.dtype} instead of {expected.dtype}"
    if expected.shape != found.shape:
        return 0.0, f"shape {list(found.shape)} instead of {list(expected.shape)}"
    if expected.size == 0:
        return 0.0, None
    is_float = np.issubdtype(expected.dtype, np.inexact) or "float" in expected.dtype.name
    if not is_float:
        differing = int(np.count_nonzero(expected != found))
        return 0.0, f"{differing} of {expected.size} elements differ" if differing else None
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    expected, found = expected.astype(wide), found.astype(wide)
    finite = np.isfinite(expected)
    if not np.array_equal(np.where(finite, 0, expected), np.where(finite, 0, found), equal_nan=True):
        return float("inf"), "infinities or NaN in other places"
    if not np.isfinite(found[finite]).all():
        return float("inf"), "not finite where the reference is"
    scale = float(np.abs(expected[finite]).max(initial=0.0)) or 1.0
    error = float(np.abs(expected[finite] - found[finite]).max(initial=0.0)) / scale
    return error, f"relative error {error:.2e} above {limit:.0e}" if error > limit else None


def uses_half(model: onnx.ModelProto) -> bool:
    """Whether f16 or bf16 arithmetic may take part."""
    if any(t.data_type in HALF_TYPES for t in model.graph.initializer):
        return True
    values = itertools.chain(model.graph.input, model.graph.output, model.graph.value_info)
    if any(v.type.tensor_type.elem_type in HALF_TYPES for v in values):
        return True
    nodes = itertools.chain(model.graph.node, *(f.node for f in model.functions))
    return any(a.name == "to" and a.i in HALF_TYPES or a.t.data_type in HALF_TYPES for n in nodes for a in n.attribute)


def references(
    model: onnx.ModelProto, path: Path, session: Session | ReferenceSession
) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Inputs on which the original runs, with its outputs; raises the last failure if there are none."""
    required, _ = strip_initialized(model)
    seed = zlib.crc32(path.name.encode())
    found = 0
    failure: Exception = Unsupported("no inputs")
    recorded: list[dict[str, Any]] = []
    try:
        recorded = list(recorded_feeds(path, required, list(model.graph.input)))
    except Exception as error:  # noqa: BLE001 - a damaged test data file: draw instead
        failure = error
    for feeds in recorded:
        try:
            outputs = session.run(feeds)
        except Exception as error:  # noqa: BLE001
            failure = error
            continue
        found += 1
        yield feeds, outputs
    symbolic = has_symbolic_batch(required)
    plans = itertools.product(FILLS, BATCHES if symbolic else [(1,) * DRAWS], INTEGER_RANGES)
    while found == 0 and (plan := next(plans, None)):
        fill, batches, integers = plan
        for index, batch in enumerate(batches):
            try:
                feeds = drawn_feeds(required, batch, fill, integers, seed + index)
                outputs = session.run(feeds)
            except Exception as error:  # noqa: BLE001
                failure = error
                break
            recorded.append(feeds)
            found += 1
            yield feeds, outputs
    if found == 0:
        raise failure
    changed = overrides(model, path.parent, seed)
    if changed:
        feeds = {**recorded[-1], **changed}
        try:
            outputs = session.run(feeds)
        except Exception:  # noqa: BLE001 - the original does not take other values here
            return
        yield feeds, outputs


def brief(error: BaseException) -> str:
    """First line of an exception, cut to fit into a table."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200]


def verify(original: Path, output: Path, report_stage: Any) -> Verdict:
    """Compare two model files. `report_stage` gets each stage before it runs, in case it never returns."""
    report_stage("reading the original")
    try:
        before = onnx.load(original, load_external_data=False)
    except Exception as error:  # noqa: BLE001
        return Verdict("unverifiable", f"onnx cannot read the original: {brief(error)}")
    report_stage("reading the output")
    try:
        after = onnx.load(output, load_external_data=False)
    except Exception as error:  # noqa: BLE001
        return Verdict("MISMATCH", f"onnx cannot read the output: {brief(error)}")
    if change := signature_change(before, after):
        return Verdict("SIGNATURE", change)
    if before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True):
        return Verdict("unchanged")

    report_stage("running the original")
    limit = LIMIT_HALF if uses_half(before) else LIMIT
    reasons = []
    for engine in (Session, ReferenceSession):
        try:
            session = engine(original)
            cases = list(references(before, original, session))
            again = session.run(cases[0][0])
            break
        except Exception as error:  # noqa: BLE001
            reasons.append(brief(error))
    else:
        return Verdict("unverifiable", f"original does not run: {' / '.join(reasons)}")
    if any(why for a, b in zip(cases[0][1], again) for _, why in [difference(a, b, limit)]):
        return Verdict("unverifiable", "original is not deterministic")

    report_stage("running the output")
    worst = 0.0
    try:
        session = engine(output)
        for feeds, outputs in cases:
            for value, reference, result in zip(before.graph.output, outputs, session.run(feeds)):
                error, why = difference(reference, result, limit)
                worst = max(worst, error)
                if why:
                    return Verdict("MISMATCH", f"{value.name}: {why} ({engine.name})", worst)
    except Exception as error:  # noqa: BLE001
        return Verdict("MISMATCH", f"output does not run ({engine.name}): {brief(error)}")
    return Verdict("same", f"{len(cases)} inputs, {engine.name}", worst)


def serve() -> None:
    """Answer requests (one JSON line each: original, output) until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the output of ONNX Runtime must not mix with the answers
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        verdict = verify(
            Path(request["original"]), Path(request["output"]), lambda s: answers.write(json.dumps({"stage": s}) + "\n")
        )
        answers.write(json.dumps({"verdict": dataclasses.asdict(verdict)}) + "\n")


# --- The parent process ------------------------------------------------------------------------------------------------


class Worker:
    """One child that runs ONNX Runtime; started when needed, again after it died."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds for one comparison."""
        self.timeout = timeout
        self.process: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the child."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def compare(self, original: Path, output: Path) -> Verdict:
        """Ask the child; if it dies or does not answer, that is a separate verdict."""
        if self.process is None:
            command = [sys.executable, __file__, "--serve"]
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        stage = "starting"
        end = time.monotonic() + self.timeout
        try:
            self.process.stdin.write(json.dumps({"original": str(original), "output": str(output)}) + "\n")
            self.process.stdin.flush()
            buffer = ""
            descriptor = self.process.stdout.fileno()
            while True:
                ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
                if not ready:
                    return self._lost(stage, f"longer than {self.timeout:.0f} s")
                chunk = os.read(descriptor, 1 << 16).decode()
                if not chunk:
                    status = self.process.wait()
                    return self._lost(stage, f"died ({signal_name(status)})")
                buffer += chunk
                *lines, buffer = buffer.split("\n")
                for answer in map(json.loads, lines):
                    if "verdict" in answer:
                        return Verdict(**answer["verdict"])
                    stage = answer["stage"]
        except BrokenPipeError:
            return self._lost(stage, "died")

    def _lost(self, stage: str, how: str) -> Verdict:
        self.close()
        label = "MISMATCH" if stage.endswith("output") else "unverifiable"
        return Verdict(label, f"the checking process {how} while {stage}")


def signal_name(status: int) -> str:
    """Exit status in words."""
    return signal.Signals(-status).name if status < 0 else f"exit {status}"


@dataclasses.dataclass
class Compiled:
    """One run of the binary."""

    status: int | None
    stderr: str
    seconds: float
    files: dict[str, bytes]


def compile_model(command: list[str], model: Path, folder: Path, timeout: float) -> Compiled:
    """Run `BINARY MODEL -o folder/out.onnx FLAGS`; `status` is None after a time-out."""
    folder.mkdir()
    start = time.monotonic()
    process = subprocess.Popen(
        [command[0], str(model), "-o", str(folder / "out.onnx"), *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        stderr = process.communicate(timeout=timeout)[1].decode(errors="replace")
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stderr = process.communicate()[1].decode(errors="replace")
        status = None
    seconds = time.monotonic() - start
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files |= {f"{p.relative_to(folder)}/": b"" for p in sorted(folder.rglob("*")) if p.is_dir()}
    return Compiled(status, stderr, seconds, files)


def misbehaviour(run: Compiled) -> Verdict | None:
    """The failure of the process or its refusal; None for a plain success."""
    if run.status is None:
        return Verdict("HANG", f"killed after {run.seconds:.0f} s")
    last = (run.stderr.strip().splitlines() or [""])[-1][:200]
    panic = next((line for line in run.stderr.splitlines() if "panicked at" in line), None)
    if panic:
        return Verdict("CRASH", panic[:200])
    if run.status == 0:
        return None if "out.onnx" in run.files else Verdict("CRASH", "exit 0 without an output file")
    if run.status not in DOCUMENTED_REFUSALS:
        return Verdict("CRASH", f"{signal_name(run.status)}: {last}")
    error = ERROR_LINE.search(run.stderr)
    if error is None:
        return Verdict("CRASH", f"exit {run.status} without an `error[...]` line: {last}")
    if run.files:
        return Verdict("CRASH", f"exit {run.status}, but left {', '.join(run.files)}")
    return Verdict("refused", f"exit {run.status}: {error.group(0)[:200]}")


def judge(command: list[str], model: Path, worker: Worker, scratch: Path, timeout: float) -> Verdict:
    """Class of one model."""
    first = compile_model(command, model, scratch / "first", timeout)
    if verdict := misbehaviour(first):
        return verdict
    verdict = worker.compare(model, scratch / "first" / "out.onnx")
    if verdict.label in BAD:
        return verdict
    second = compile_model(command, model, scratch / "second", timeout)
    if second.files != first.files:
        return Verdict("UNSTABLE", "a second run gives other bytes")
    again = compile_model(command, scratch / "first" / "out.onnx", scratch / "again", timeout)
    if again.status != 0:
        return Verdict("UNSTABLE", f"the output compiled again: {(misbehaviour(again) or verdict).detail}")
    if again.files != first.files:
        return Verdict("UNSTABLE", "the output compiled again gives other bytes")
    return verdict


def write_backend_node_tests(folder: Path) -> None:
    """Write the node tests that the `onnx` package generates, in the layout of its shipped tests (inputs only)."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        test = folder / "node" / case.name
        test.mkdir(parents=True, exist_ok=True)
        (test / "model.onnx").write_bytes(case.model.SerializeToString(deterministic=True))
        for number, (inputs, _) in enumerate(case.data_sets or []):
            data = test / f"test_data_set_{number}"
            data.mkdir(exist_ok=True)
            for position, (value, declared) in enumerate(zip(inputs, case.model.graph.input)):
                kind = declared.type.WhichOneof("value")
                make = {"sequence_type": numpy_helper.from_list, "optional_type": numpy_helper.from_optional}.get(
                    kind, numpy_helper.from_array
                )
                proto = value if hasattr(value, "SerializeToString") else make(value, declared.name)
                (data / f"input_{position}.pb").write_bytes(proto.SerializeToString())


def find_models(folders: list[Path], backend: Path | None) -> list[tuple[str, Path]]:
    """All models, as (name to print, path), in a fixed order."""
    models = []
    for folder in folders:
        if not folder.is_dir():
            sys.exit(f"{folder}: no such folder")
        models += [(str(path), path.resolve()) for path in sorted(folder.rglob("*.onnx"))]
    if backend:
        write_backend_node_tests(backend)
        shipped = Path(onnx.__file__).parent / "backend" / "test" / "data"
        for root in (shipped, backend):
            models += [(f"onnx-backend/{path.relative_to(root)}", path) for path in sorted(root.rglob("*.onnx"))]
    return models


def print_summary(results: dict[str, Verdict], seconds: float) -> None:
    """Table of counts, refusals by kind, then every bad case."""
    counts = Counter(v.label for v in results.values())
    print(f"\n{len(results)} models in {seconds:.0f} s\n")
    print("| class | models |\n|---|---|")
    for label in GOOD + BAD:
        print(f"| {label} | {counts[label]} |")
    worst = max((v.error or 0.0 for v in results.values() if v.label == "same"), default=0.0)
    print(f"\nlargest relative error among `same`: {worst:.2e}")
    refusals = Counter(v.detail.split("]", 1)[0] + "]" for v in results.values() if v.label == "refused")
    for kind, count in sorted(refusals.items()):
        print(f"refused, {kind}: {count}")
    for name, verdict in results.items():
        if verdict.label == "refused" and verdict.detail.startswith("exit 5"):
            print(f"look at this one: {name}: {verdict.detail}")
    for label in BAD:
        for name, verdict in results.items():
            if verdict.label == label:
                print(f"{label}  {name}: {verdict.detail}")


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="the compiler")
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="folders with .onnx files")
    parser.add_argument("--onnx-backend", action="store_true", help="add the backend tests of the onnx package")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time (default 2)")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one run or comparison (default 60)")
    parser.add_argument("--flags", default="", help="more flags for the compiler, as one string")
    parser.add_argument("--report", type=Path, help="write every result as JSON")
    parser.add_argument("--list", action="append", default=[], metavar="CLASS", help="also list the models of this class")
    return parser.parse_args()


def main() -> int:
    """Run everything; 1 if any model is in a bad class."""
    arguments = parse_arguments()
    if not arguments.folders and not arguments.onnx_backend:
        sys.exit("nothing to do: name a folder or give --onnx-backend")
    binary = shutil.which(arguments.binary.absolute())
    if binary is None:
        sys.exit(f"{arguments.binary}: not an executable file")
    command = [binary, *shlex.split(arguments.flags)]
    results: dict[str, Verdict] = {}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="corpus-") as scratch_root:
        scratch_root = Path(scratch_root)
        backend = scratch_root / "onnx-backend" if arguments.onnx_backend else None
        models = find_models(arguments.folders, backend)
        workers = [Worker(arguments.timeout) for _ in range(arguments.jobs)]

        def run_one(numbered: tuple[int, tuple[str, Path]]) -> tuple[str, Verdict]:
            index, (name, path) = numbered
            worker = workers.pop()
            scratch = scratch_root / f"run{index}"
            scratch.mkdir()
            try:
                return name, judge(command, path, worker, scratch, arguments.timeout)
            finally:
                shutil.rmtree(scratch)
                workers.append(worker)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            for done, (name, verdict) in enumerate(pool.map(run_one, enumerate(models)), 1):
                results[name] = verdict
                if done % 200 == 0 or verdict.label in BAD:
                    print(f"[{done}/{len(models)}] {verdict.label:12} {name}", flush=True)
        for worker in workers:
            worker.close()
    if not results:
        sys.exit("no .onnx files found")
    print_summary(results, time.monotonic() - start)
    for label in arguments.list:
        for name, verdict in results.items():
            if verdict.label == label:
                print(f"{label}  {name}: {verdict.detail}")
    if arguments.report:
        report = {name: dataclasses.asdict(verdict) for name, verdict in results.items()}
        arguments.report.write_text(json.dumps({"flags": arguments.flags, "models": report}, indent=1) + "\n")
    return int(any(v.label in BAD for v in results.values()))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main())
