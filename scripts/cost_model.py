"""Compare the cost guard with measured times: are granted merges faster, and are declined merges slower?

    .venv/bin/python scripts/cost_model.py target/release/updp-compile [--runs 200]

Every row is a small model that can merge into one operator. The compiler is asked twice: with `--merge auto` (does the guard
grant the merge?) and with `--merge all` (the merged model). Original and merged model then run in turn in ONNX Runtime with all
of its own optimizations on, in one thread; the median of their ratios is printed. Prints the table of docs/experiments/cost-model.md.
Needs scripts/requirements-check.txt.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

# Within this distance of 1 a merge makes no difference. It still removes an operator, so it is granted.
TIE = 0.03


class Net:
    """Builds a model layer by layer; each layer method returns the name of its result."""

    def __init__(self, shape: list[int]) -> None:
        """`shape`: of the input `x`."""
        self.shape, self.nodes, self.weights = shape, [], []
        self.random = np.random.default_rng(0)

    def _weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _node(self, kind: str, operands: list[str], **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [name], name=name, **attributes))
        return name

    def conv(self, x: str, i: int, o: int, k: int, group: int = 1, pad: bool = True) -> str:
        """Convolution without bias, so that padding never needs a border map."""
        p = k // 2 if pad else 0
        return self._node("Conv", [x, self._weight(o, i // group, k, k)], pads=[p] * 4, group=group, kernel_shape=[k, k])

    def gemm(self, x: str, i: int, o: int) -> str:
        """Fully connected."""
        return self._node("Gemm", [x, self._weight(i, o), self._weight(o)])

    def add(self, a: str, b: str) -> str:
        """Sum."""
        return self._node("Add", [a, b])

    def save(self, y: str, path: Path) -> None:
        """Write the model with output `y`."""
        info = helper.make_tensor_value_info
        inputs, outputs = [info("x", TensorProto.FLOAT, self.shape)], [info(y, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "row", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())


def rows() -> dict[str, tuple[Net, str]]:
    """Name, model and its output."""
    made = {}
    for c, edge in ((16, 56), (64, 28), (128, 14)):
        at = f"{c} channels, {edge}×{edge}"

        def net(c: int = c, edge: int = edge) -> Net:
            return Net([1, c, edge, edge])

        n = net()
        made[f"1×1 then 3×3, {at}"] = n, n.conv(n.conv("x", c, c, 1), c, c, 3)
        n = net()
        made[f"1×1 to 4 times and back, {at}"] = n, n.conv(n.conv("x", c, 4 * c, 1), 4 * c, c, 1)
        n = net()
        made[f"1×1 to a quarter and back, {at}"] = n, n.conv(n.conv("x", c, c // 4, 1), c // 4, c, 1)
        n = net()
        made[f"depthwise 3×3 then 1×1, {at}"] = n, n.conv(n.conv("x", c, c, 3, group=c), c, c, 1)
        n = net()
        made[f"3×3 then 3×3 unpadded, {at}"] = n, n.conv(n.conv("x", c, c, 3, pad=False), c, c, 3, pad=False)
        n = net()
        made[f"3×3 beside 1×1, {at}"] = n, n.add(n.conv("x", c, c, 3), n.conv("x", c, c, 1))
        n = net()
        made[f"3×3 beside identity, {at}"] = n, n.add(n.conv("x", c, c, 3), "x")
        n = net()
        made[f"depthwise 3×3 beside identity, {at}"] = n, n.add(n.conv("x", c, c, 3, group=c), "x")
        n = net()
        made[f"5×5 beside 3×3, {at}"] = n, n.add(n.conv("x", c, c, 5), n.conv("x", c, c, 3))
    for inner in (64, 256, 1024):
        n = Net([1, 256])
        made[f"Gemm 256 → {inner} → 256, 1 row"] = n, n.gemm(n.gemm("x", 256, inner), inner, 256)
        n = Net([196, 256])
        made[f"Gemm 256 → {inner} → 256, 196 rows"] = n, n.gemm(n.gemm("x", 256, inner), inner, 256)
    return made


def compiled(binary: Path, model: Path, output: Path, policy: str) -> int:
    """Compile a model; return the number of nodes afterwards."""
    subprocess.run([binary, model, "-o", output, "--merge", policy, "--no-verify", "-q"], check=True)
    return len(onnx.load(output).graph.node)


def speedup(first: Path, second: Path, shape: list[int], runs: int) -> float:
    """Median of time(first) / time(second) over interleaved runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the idle pool of one session would spin beside the other
    sessions = [onnxruntime.InferenceSession(str(p), options, providers=["CPUExecutionProvider"]) for p in (first, second)]
    feed = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    ratios = []
    for index in range(runs + 20):
        times = []
        for session in sessions:
            start = time.perf_counter_ns()
            session.run(None, feed)
            times.append(time.perf_counter_ns() - start)
        if index >= 20:
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="the compiler")
    parser.add_argument("--runs", type=int, default=200, help="timed pairs a row (default 200)")
    arguments = parser.parse_args()
    binary = arguments.binary.resolve()
    right, made = 0, rows()
    print("| model | guard | speed of merged against original | decision |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        model, auto, merged = (Path(folder) / name for name in ("model.onnx", "auto.onnx", "all.onnx"))
        for name, (net, result) in made.items():
            net.save(result, model)
            is_granted = compiled(binary, model, auto, "auto") < len(net.nodes)
            if compiled(binary, model, merged, "all") >= len(net.nodes):
                raise SystemExit(f"{name}: does not merge at all")
            ratio = speedup(model, merged, net.shape, arguments.runs)
            is_right = is_granted == (ratio > 1 - TIE) or abs(ratio - 1) <= TIE
            right += is_right
            verdict = "right" if is_right else "wrong"
            print(f"| {name} | {'merges' if is_granted else 'declines'} | {ratio:.2f}× | {verdict} |", flush=True)
    print(f"\n{right} of {len(made)} decisions are right (ratios within {TIE:.0%} of 1 are right either way).")


if __name__ == "__main__":
    main()
