"""Compare the compiler with onnxslim and onnxsim as whole processes; prints Markdown tables for docs/experiments/exact-compilation.md.

    .venv/bin/python scripts/bench.py target/release/updp-compile --models target/zoo [--runs 5] [--flags "..."]
        [--large DIR] [--chain DIR]

The tools compile every model in turn (A B C A B C ...), `--runs` times after one warm-up; medians are printed. Peak memory
is the kernel's `ru_maxrss` of the process, which also counts the pages of mapped files. The anonymous part ("above the page
cache") is sampled every 2 ms in another run, which is not timed. This process stays small, because a child's `ru_maxrss`
starts at the size of its parent (about 20 MiB here): smaller peaks are not visible. Every output is loaded into ONNX
Runtime once; an output that does not load counts as a failure.

`--large DIR` also makes a 2.4 GB model with external data (four MatMuls, a Relu after each so that they stay four) and
`--chain DIR` a series of Conv-BatchNormalization-Relu chains up to 20,000 nodes; both are deleted afterwards.
The script uses tools that are installed beside this Python interpreter (scripts/requirements-bench.txt). It reports a
missing tool by name and leaves it out.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

MIB = 1 << 20
OURS = "updp-compile"
FLOOR = "plain copy"
CHAIN_NODES = (1_000, 5_000, 20_000)
LARGE_WIDTH = 12_288
LARGE_LAYERS = 4
TIMEOUT = 600.0


@dataclasses.dataclass
class Run:
    """One finished process."""

    status: int
    seconds: float
    peak_bytes: int


@dataclasses.dataclass
class Row:
    """The result of one tool for one model."""

    runs: list[Run]
    anonymous_bytes: int
    output_bytes: int
    loads: bool

    @property
    def failure(self) -> str | None:
        """How the tool failed, if it did."""
        status = next((r.status for r in self.runs if r.status != 0), 0)
        if status == 0:
            return None if self.loads else "output does not load"
        return signal.Signals(-status).name if status < 0 else f"exit {status}"

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return statistics.median(r.seconds for r in self.runs)

    @property
    def peak_bytes(self) -> int:
        """Median peak memory."""
        return int(statistics.median(r.peak_bytes for r in self.runs))


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a tool without its output; the tool gets its own process group."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def finish(process: subprocess.Popen[bytes], began: float) -> Run:
    """Wait for a process; it is killed after TIMEOUT."""
    killer = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Run(process.returncode, seconds, usage.ru_maxrss * 1024)


def timed(command: list[str]) -> Run:
    """Run a tool once."""
    began = time.monotonic()
    return finish(start(command), began)


def anonymous_peak(command: list[str]) -> int:
    """Run a tool once more and sample its anonymous memory."""
    began = time.monotonic()
    process = start(command)
    peak = 0
    stop = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not stop.wait(0.002):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            for line in status.splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) * 1024)

    sampler = threading.Thread(target=sample)
    sampler.start()
    finish(process, began)
    stop.set()
    sampler.join()
    return peak


def written_bytes(folder: Path) -> int:
    """Total size of the files that a tool wrote."""
    return sum(p.stat().st_size for p in folder.iterdir() if p.is_file())


def does_load(model: Path) -> bool:
    """Whether ONNX Runtime can create a session from a file; a child process tries it."""
    quiet = subprocess.DEVNULL
    command = [sys.executable, __file__, "--load", str(model)]
    return subprocess.run(command, stdout=quiet, stderr=quiet, check=False).returncode == 0


def compare(commands: dict[str, list[str]], model: Path, scratch: Path, runs: dict[str, int], warm_up: bool) -> dict[str, Row]:
    """Run all tools on a model, interleaved; each tool runs `runs` times."""
    collected: dict[str, list[Run]] = {name: [] for name in commands}
    outputs = {name: scratch / name.replace(" ", "") for name in commands}
    rounds = max(runs.values()) + int(warm_up)
    for index in range(rounds):
        for name, command in commands.items():
            measured = index - int(warm_up)
            if measured >= runs[name]:
                continue
            shutil.rmtree(outputs[name], ignore_errors=True)
            outputs[name].mkdir(parents=True)
            os.sync()  # earlier writes must not slow this run down
            run = timed(fill(command, model, outputs[name]))
            if measured >= 0:
                collected[name].append(run)
    rows = {}
    for name, command in commands.items():
        size = written_bytes(outputs[name])
        loads = does_load(outputs[name] / (model.name if name == FLOOR else "out.onnx"))
        shutil.rmtree(outputs[name])
        outputs[name].mkdir()
        rows[name] = Row(collected[name], anonymous_peak(fill(command, model, outputs[name])), size, loads)
        shutil.rmtree(outputs[name])
    return rows


def fill(command: list[str], model: Path, folder: Path) -> list[str]:
    """Put the file names into a command template."""
    names = {"{model}": model, "{output}": folder / "out.onnx", "{folder}": folder}
    for key, path in names.items():
        command = [word.replace(key, str(path)) for word in command]
    return command


def tool_commands(binary: Path, flags: list[str]) -> dict[str, list[str]]:
    """Command templates of the installed tools; this project's compiler comes first."""
    ours = [str(binary), "{model}", "-o", "{output}", *flags]
    commands = {OURS: [*ours, "--no-verify"], f"{OURS} + verify": ours}
    for name, more in (("onnxslim", []), ("onnxsim", []), ("onnxsim --no-certify", ["--no-certify"])):
        program = Path(sys.executable).with_name(name.split()[0])
        if program.exists():
            commands[name] = [str(program), "{model}", "{output}", *more]
        else:
            print(f"{name}: not installed beside {sys.executable}, left out", file=sys.stderr)
    return commands


def number(value: float, digits: int = 2) -> str:
    """A number for a table."""
    return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"


def table(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def print_comparison(title: str, sizes: dict[str, int], results: dict[str, dict[str, Row]]) -> None:
    """Ratios first, then seconds, then memory."""
    names = list(next(iter(results.values())))
    peers = [n for n in names if not n.startswith(OURS)]

    def ratio(rows: dict[str, Row], peer: str, measure: str) -> str:
        if rows[OURS].failure or rows[peer].failure:
            return rows[peer].failure or "–"
        return number(getattr(rows[peer], measure) / getattr(rows[OURS], measure)) + "×"

    print(f"### {title}\n\nHow many times the time of `{OURS} --no-verify`, and of its peak memory, each tool takes:\n")
    table(
        ["model", *(f"time {p}" for p in peers), *(f"memory {p}" for p in peers)],
        [[m, *(ratio(r, p, "seconds") for p in peers), *(ratio(r, p, "peak_bytes") for p in peers)] for m, r in results.items()],
    )
    print("Median seconds:\n")
    table(
        ["model", "MB", *names],
        [[m, number(sizes[m] / 1e6, 1), *(r[n].failure or number(r[n].seconds, 3) for n in names)] for m, r in results.items()],
    )
    print("Peak memory, MiB (times the file; anonymous part):\n")
    table(
        ["model", *names],
        [
            [
                m,
                *(
                    f"{r[n].peak_bytes / MIB:.0f} ({number(r[n].peak_bytes / sizes[m])}×; {r[n].anonymous_bytes / MIB:.0f})"
                    for n in names
                ),
            ]
            for m, r in results.items()
        ],
    )
    print("MB written:\n")
    table(["model", *names], [[m, *(number(r[n].output_bytes / 1e6, 1) for n in names)] for m, r in results.items()])


def model_bytes(model: Path) -> int:
    """Size of a model with the external data beside it."""
    return sum(p.stat().st_size for p in (model, model.with_name(model.name + ".data")) if p.exists())


def bench_models(commands: dict[str, list[str]], models: list[Path], runs: int, scratch: Path) -> None:
    """The main table."""
    results, sizes = {}, {}
    for model in models:
        print(f"{model.name} …", file=sys.stderr)
        sizes[model.stem] = model_bytes(model)
        results[model.stem] = compare(commands, model, scratch, dict.fromkeys(commands, runs), warm_up=True)
    print_comparison(f"Whole processes, median of {runs} interleaved runs", sizes, results)


def generate(kind: str, target: Path, nodes: int = 0) -> None:
    """Write a model in a child process, so that this one stays small."""
    command = [sys.executable, __file__, "--generate", kind, str(target), str(nodes)]
    subprocess.run(command, check=True)


def bench_large(commands: dict[str, list[str]], folder: Path, runs: int, scratch: Path) -> None:
    """The model with 2.4 GB of external data: this compiler and a plain copy (the lower bound) run several times, the others once."""
    folder = Path(tempfile.mkdtemp(prefix="large-", dir=folder))
    try:
        print("writing the 2.4 GB model …", file=sys.stderr)
        model = folder / "large.onnx"
        generate("large", model)
        commands = {**commands, FLOOR: ["cp", "{model}", "{model}.data", "{folder}"]}
        often = {name: runs if name in (OURS, FLOOR) else 1 for name in commands}
        sizes = {"large": model_bytes(model)}
        results = {"large": compare(commands, model, scratch, often, warm_up=False)}
        print_comparison(f"2.4 GB of external data (ours: median of {runs}, others: one run)", sizes, results)
    finally:
        shutil.rmtree(folder)


def bench_chain(command: list[str], folder: Path, runs: int, scratch: Path) -> None:
    """How the time grows with the number of nodes."""
    folder = Path(tempfile.mkdtemp(prefix="chain-", dir=folder))
    rows: list[tuple[int, Row]] = []
    try:
        for nodes in CHAIN_NODES:
            print(f"chain of {nodes} nodes …", file=sys.stderr)
            model = folder / f"chain_{nodes}.onnx"
            generate("chain", model, nodes)
            rows.append((nodes, compare({OURS: command}, model, scratch, {OURS: runs}, warm_up=True)[OURS]))
    finally:
        shutil.rmtree(folder)
    per_node = [row.seconds / nodes for nodes, row in rows]
    print(f"### Cost by graph size, `{OURS} --no-verify`, median of {runs}\n")
    table(
        ["nodes", "time per node against the first row", "µs per node", "seconds", "peak MiB"],
        [
            [
                str(nodes),
                row.failure or number(cost / per_node[0]) + "×",
                number(cost * 1e6, 1),
                number(row.seconds, 3),
                f"{row.peak_bytes / MIB:.0f}",
            ]
            for (nodes, row), cost in zip(rows, per_node)
        ],
    )


def write_large(target: Path) -> None:
    """x -> (MatMul, Relu) four times; each weight [12288, 12288] f32, written to `<target>.data` a slice at a time."""
    import numpy as np
    from onnx import StringStringEntryProto, TensorProto, helper

    rows_per_slice = 256
    bytes_per_weight = LARGE_WIDTH * LARGE_WIDTH * 4
    rng = np.random.default_rng(0)
    with target.with_name(target.name + ".data").open("wb") as data:
        for _ in range(LARGE_LAYERS * LARGE_WIDTH // rows_per_slice):
            part = rng.random((rows_per_slice, LARGE_WIDTH), dtype=np.float32)
            data.write(((part - np.float32(0.5)) / np.float32(LARGE_WIDTH**0.5)).tobytes())
    nodes, weights, previous = [], [], "x"
    for layer in range(LARGE_LAYERS):
        weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[LARGE_WIDTH, LARGE_WIDTH])
        weight.data_location = TensorProto.EXTERNAL
        place = {"location": target.name + ".data", "offset": layer * bytes_per_weight, "length": bytes_per_weight}
        weight.external_data.extend(StringStringEntryProto(key=k, value=str(v)) for k, v in place.items())
        weights.append(weight)
        result = "y" if layer == LARGE_LAYERS - 1 else f"r{layer}"
        nodes.append(helper.make_node("MatMul", [previous, f"w{layer}"], [f"m{layer}"], name=f"matmul{layer}"))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [result], name=f"relu{layer}"))
        previous = result
    write_graph(nodes, weights, "x", [1, LARGE_WIDTH], "y", target)


def write_chain(target: Path, count: int) -> None:
    """A chain of Conv 1x1 (4 channels), BatchNormalization, Relu, `count` nodes long."""
    import numpy as np
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, previous = [], [], "x"
    for index in range(count):
        result = "y" if index == count - 1 else f"v{index}"
        operands, kind = [previous], ("Conv", "BatchNormalization", "Relu")[index % 3]
        if kind == "Conv":
            values = {"weight": 0.5 * rng.standard_normal((4, 4, 1, 1))}
        elif kind == "BatchNormalization":
            values = {part: 0.5 + rng.random(4) for part in ("scale", "bias", "mean", "var")}
        else:
            values = {}
        for part, array in values.items():
            operands.append(f"n{index}.{part}")
            weights.append(numpy_helper.from_array(array.astype(np.float32), operands[-1]))
        nodes.append(helper.make_node(kind, operands, [result], name=f"n{index}"))
        previous = result
    write_graph(nodes, weights, "x", ["batch", 4, 8, 8], "y", target)


def write_graph(nodes: list, weights: list, source: str, shape: list, result: str, target: Path) -> None:
    """Save a model with one input and one output of the same shape."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        target.stem,
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    target.write_bytes(model.SerializeToString(deterministic=True))


def print_versions(binary: Path) -> None:
    """The command line, the compared versions and the machine."""
    ours = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout.strip() or "unknown version"
    versions = []
    for package in ("onnxslim", "onnxsim", "onnx", "onnxruntime"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].split(":")[1].strip() if names else platform.machine()
    print(f"`{shlex.join(['scripts/bench.py', *sys.argv[1:]])}`\n")
    print(f"{ours}; {', '.join(versions)}; Python {platform.python_version()}; {processor}, {os.cpu_count()} CPUs\n")


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="the compiler")
    parser.add_argument("--models", type=Path, nargs="*", default=[], metavar="PATH", help="models, or folders of models")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each tool (default 5)")
    parser.add_argument("--flags", default="", help="more flags for the compiler, as one string")
    parser.add_argument("--large", type=Path, metavar="DIR", help="also the 2.4 GB model, made in DIR (needs 8 GB there)")
    parser.add_argument("--chain", type=Path, metavar="DIR", help="also the 20,000-node series, made in DIR")
    return parser.parse_args()


def main() -> None:
    """Run what was asked for."""
    arguments = parse_arguments()
    found = shutil.which(arguments.binary.absolute())
    if found is None:
        sys.exit(f"{arguments.binary}: not an executable file")
    binary = Path(found)
    models = [m for path in arguments.models for m in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    missing = [str(m) for m in models if not m.is_file()]
    if missing or arguments.models and not models:
        sys.exit(f"no such model: {', '.join(missing or map(str, arguments.models))}")
    commands = tool_commands(binary, shlex.split(arguments.flags))
    print_versions(binary)
    for folder in (arguments.large, arguments.chain):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.large) as scratch:
        if models:
            bench_models(commands, models, arguments.runs, Path(scratch))
        if arguments.chain:
            bench_chain(commands[OURS], arguments.chain, arguments.runs, Path(scratch))
        if arguments.large:
            bench_large(commands, arguments.large, min(arguments.runs, 3), Path(scratch))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
    elif sys.argv[1:2] == ["--generate"]:
        kind, target, count = sys.argv[2:]
        write_large(Path(target)) if kind == "large" else write_chain(Path(target), int(count))
    else:
        main()
