#!/usr/bin/env python3
"""Accuracy against the number of pruned blocks, for the six networks trained on Fashion-MNIST.

    scripts/fit_table.py BINARY [--work DIR] [--plot FILE.svg] [--only NAME,...] [--counts 1,2,...]

For every network and k = 1, 2, ... the k blocks that `--prune k` chooses, on the 10,000 test images:

fit             `--data --prune k`: the tool's closed-form fit
identity swap   the same blocks, `--recover none --form conv`: activations to the identity, kernels shrunk, an activation
                and a BatchNormalization at the end with the statistics of 1,000 training images
affine          the original with each inner activation f of these blocks replaced by a·u + c; for each channel
                a = Cov(u, f(u)) / Var(u) and c = E f(u) − a·E u over 1,000 training images. Kernels and paddings stay
                as they are, so this is a reference and no pruned network
drop            the original with the branches of these blocks taken out: the shortcut goes through alone, an
                activation behind the sum stays; of a transformer's layer the MLP. – where a block has no shortcut

All but the first change nothing outside the blocks. Prints a Markdown table for each network and draws all networks in one
SVG. Results that are already in DIR are not measured again, so a stopped run can continue. Needs the Debian package
dataset-fashion-mnist. Ends with 1 if a run failed without a refusal, or if the accuracy in the tool's report differs from
the accuracy measured here.
"""

import argparse
import functools
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
DATASET = Path("/usr/share/datasets/fashion-mnist")
TRAIN, TEST = DATASET / "train-images-idx3-ubyte.gz", DATASET / "t10k-images-idx3-ubyte.gz"
TEST_LABELS = DATASET / "t10k-labels-idx1-ubyte.gz"
NETWORKS = ["resnet", "mobilenetv2", "vgg", "convnext", "repvgg", "deit"]
SERIES = [("fit", "#0b6e4f"), ("identity swap", "#c0392b"), ("affine", "#2c5aa0"), ("drop", "#b8860b")]
STATISTICS_IMAGES = 1000
BATCH = 500
# The convolutions of the VGG are in one module; its blocks end at a pooling layer.
VGG_BLOCKS = [["features.0", "features.2", "features.3", "features.5"],
              ["features.7", "features.9", "features.10", "features.12"],
              ["features.14", "features.16", "features.17", "features.19", "features.20", "features.22"]]
EXIT_NOTHING_TO_PRUNE = 6


def read_idx(path):
    """The array of a gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    dims = numpy.frombuffer(raw, ">u4", count=rank, offset=4)
    return numpy.frombuffer(raw, numpy.uint8, offset=4 + 4 * rank).reshape(dims)


def preprocessed(images):
    """f32 [N, 1, 28, 28] as `--preprocess fashion-mnist` makes it."""
    return ((images[:, None].astype("float32") / 255 - 0.45) / 0.25).astype("float32")


def session(model):
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def accuracy(model, images, labels):
    """Share of images whose largest output is the label's."""
    run, right = session(model), 0
    for at in range(0, len(images), BATCH):
        logits, = run.run(None, {"input": images[at:at + BATCH]})
        right += int((logits.argmax(1) == labels[at:at + BATCH]).sum())
    return right / len(images)


class Network:
    """A trained network, its blocks as `inspect` lists them, and the position of each block in the file."""

    def __init__(self, name, binary, images):
        self.name = name
        self.path = ROOT / "fixtures" / "trained" / f"fmnist_{name}.bn.onnx"
        self.model = onnx.load(self.path)
        self.nodes = list(self.model.graph.node)
        self.producer = {value: node for node in self.nodes for value in node.output}
        shown = subprocess.run([str(binary), "inspect", str(self.path), "--json"], capture_output=True, text=True,
                               check=True)
        self.blocks = [block for block in json.loads(shown.stdout)["blocks"] if block["prunable"]]
        self.activations = {block["index"]: self.inner_activations(block) for block in self.blocks}
        self.images = images

    def belongs(self, node, block):
        if self.name == "vgg":
            return any(f"/{module}/" in node.name for module in VGG_BLOCKS[block["index"]])
        return f"/{module(block)}/" in node.name

    def inner_activations(self, block):
        """Pairs (value in, value out) of the activations between the block's weighted operators, in order."""
        found = [node for node in self.nodes if self.belongs(node, block) and node.op_type in ("Relu", "Clip", "Erf")]
        if self.name in ("resnet", "vgg", "repvgg"):
            found = found[:-1]
        expected = block["baseline"]["layers"] - 1 if block["kind"] in ("chain", "inverted-residual") else 1
        if len(found) != expected:
            sys.exit(f"{self.name} block {block['index']}: {len(found)} inner activations, expected {expected}")
        return [self.ends(node) for node in found]

    def ends(self, node):
        if node.op_type != "Erf":
            return node.input[0], node.output[0]
        # u · (1 + erf(u / √2)) · 0.5
        scaled, last = self.producer[node.input[0]], node
        for op in ("Add", "Mul", "Mul"):
            last, = [user for user in self.nodes if last.output[0] in user.input]
            if last.op_type != op:
                sys.exit(f"{self.name}: {node.name} is no GELU in the spelling known here")
        return scaled.input[0], last.output[0]

    @functools.cached_property
    def stand_ins(self):
        """For each inner activation, by its result: slope and offset of each channel, in the shape that broadcasts."""
        pairs = [pair for pairs in self.activations.values() for pair in pairs]
        probe = onnx.ModelProto()
        probe.CopyFrom(self.model)
        names = sorted({value for pair in pairs for value in pair})
        probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        run, sums, rows = session(probe), {}, {}
        for at in range(0, len(self.images), 100):
            values = dict(zip(names, run.run(names, {"input": self.images[at:at + 100]})))
            for before, after in pairs:
                u, f = (values[value].astype("float64") for value in (before, after))
                axis = self.channel_axis(after, u.ndim)
                others = tuple(i for i in range(u.ndim) if i != axis)
                terms = numpy.stack([term.sum(others) for term in (u, f, u * u, u * f)])
                sums[after] = sums.get(after, 0) + terms
                rows[after] = rows.get(after, 0) + u.size // u.shape[axis]
        fitted = {}
        for _, after in pairs:
            u, f, uu, uf = sums[after] / rows[after]
            variance = uu - u * u
            varies = variance > 1e-12
            slope = numpy.where(varies, (uf - u * f) / numpy.where(varies, variance, 1), 0)
            shape = (-1, 1, 1) if self.is_spatial(after) else (-1,)
            fitted[after] = (slope.reshape(shape), (f - slope * u).reshape(shape))
        return fitted

    def is_spatial(self, after):
        """Whether the channel axis comes before height and width; otherwise it is the last axis."""
        return self.producer[after].op_type in ("Relu", "Clip")

    def channel_axis(self, after, rank):
        return 1 if self.is_spatial(after) else rank - 1

    def affine(self, chosen):
        """The network with affine stand-ins for the inner activations of the blocks."""
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        for index in chosen:
            for before, after in self.activations[index]:
                at, = [i for i, node in enumerate(result.graph.node) if after in node.output]
                result.graph.node[at].output[0] = f"{after}/replaced"
                slope, offset, scaled = f"{after}/slope", f"{after}/offset", f"{after}/scaled"
                for name, value in zip((slope, offset), self.stand_ins[after]):
                    result.graph.initializer.append(numpy_helper.from_array(value.astype("float32"), name))
                result.graph.node.insert(at + 1, helper.make_node("Mul", [before, slope], [scaled]))
                result.graph.node.insert(at + 2, helper.make_node("Add", [scaled, offset], [after]))
        return result

    def dropped(self, chosen):
        """The network without the branches of the blocks; None where one has no shortcut."""
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        order = {value: i for i, node in enumerate(self.nodes) for value in node.output}
        for block in self.blocks:
            if block["index"] not in chosen:
                continue
            # The first sum of a transformer's layer belongs to the attention.
            name = f"/{module(block)}/" + ("Add_1" if self.name == "deit" else "Add")
            sums = [node for node in result.graph.node if node.name.endswith(name)]
            if block["kind"] == "chain" or not sums:
                return None
            # A projection comes after the branch in the file, the identity before it.
            projections = [value for value in sums[0].input if "/downsample/" in value]
            shortcut = projections[0] if projections else min(sums[0].input, key=lambda value: order[value])
            sums[0].CopyFrom(helper.make_node("Identity", [shortcut], list(sums[0].output), name=sums[0].name))
        return result


def module(block):
    """The module that holds the block and its sum, taken from the names of the nodes."""
    return block["name"].removesuffix(".conv").removesuffix(".block")


def call(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode not in (0, EXIT_NOTHING_TO_PRUNE):
        print(f"exit {result.returncode}: {' '.join(map(str, command))}\n{result.stdout}{result.stderr}",
              file=sys.stderr)
    return result.returncode


def measure(network, binary, folder, counts, statistics, images, labels):
    """Rows (k, {block: form}, {series: accuracy}), the first of the unpruned network, and the number of failures."""
    rows, failures = [], 0
    for count in [0, *(counts or range(1, len(network.blocks) + 1))]:
        kept = folder / f"row{count}.json"
        if kept.exists():
            row = json.loads(kept.read_text())
        elif count == 0:
            before = accuracy(network.path, images, labels)
            row = {"blocks": {}, "accuracy": {name: before for name, _ in SERIES}}
        else:
            row, failed = measure_count(network, binary, folder, count, rows[0][2]["fit"], statistics, images, labels)
            failures += failed
            if row is None:
                continue
        kept.write_text(json.dumps(row))
        rows.append((count, {int(index): form for index, form in row["blocks"].items()}, row["accuracy"]))
    return rows, failures


def measure_count(network, binary, folder, count, before, statistics, images, labels):
    """The row with this number of pruned blocks, or None if the tool wrote nothing; and the number of failures."""
    out, report = folder / f"fit{count}.onnx", folder / f"fit{count}.json"
    if not report.exists():
        code = call(binary, network.path, "-o", out, "--data", TRAIN, "--val", TEST, "--preprocess", "fashion-mnist",
                    "--prune", count, "--force", "--latency-table", folder / "latency.json", "--images", "2000",
                    "--work", folder / "work", "--probe-seconds", "0.05", "--report", report, "-q")
        if code != 0:
            return None, int(code != EXIT_NOTHING_TO_PRUNE)
    fit, failures = json.loads(report.read_text())["pruning"]["fit"], 0
    chosen = {block["index"]: block["chosen"] for block in fit["blocks"] if block["chosen"]}
    measured = {"fit": accuracy(out, images, labels)}
    for what, ours, theirs in (("before", before, fit["before"]), ("after", measured["fit"], fit["after"])):
        if abs(ours - theirs["accuracy"]) > 2.5e-4:
            failures += 1
            print(f"{network.name}, k = {count}: {what} the report says {theirs['accuracy']}, here {ours}",
                  file=sys.stderr)
    swapped = folder / f"swap{count}.onnx"
    code = call(binary, network.path, "-o", swapped, "--blocks", ",".join(map(str, sorted(chosen))),
                "--recover", "none", "--form", "conv", "--force", "--input-data", statistics, "-q")
    failures += code not in (0, EXIT_NOTHING_TO_PRUNE)
    measured["identity swap"] = accuracy(swapped, images, labels) if code == 0 else None
    measured["affine"] = accuracy(network.affine(chosen), images, labels)
    dropped = network.dropped(chosen)
    measured["drop"] = None if dropped is None else accuracy(dropped, images, labels)
    return {"blocks": chosen, "accuracy": measured}, failures


def print_table(name, rows):
    before = rows[0][2]["fit"]
    print(f"\n### {name}: {100 * before:.2f} % unpruned\n")
    heads = [series for series, _ in SERIES]
    print(f"| k | blocks | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
    for count, chosen, measured in rows[1:]:
        blocks = ", ".join(f"{index}" if form == "conv" else f"{index} {form}" for index, form in sorted(chosen.items()))
        cells = ["–" if measured[head] is None else f"{100 * measured[head]:.2f}" for head in heads]
        print(f"| {count} | {blocks} | {' | '.join(cells)} |", flush=True)


def draw(tables):
    """An SVG with one panel for each network, three in a row."""
    width, height, left, top, across, down = 230, 150, 44, 60, 290, 215
    lines = -(-len(tables) // 3)
    size = (left + across * min(3, len(tables)), top + down * lines)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" '
           f'viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="11" fill="#222">',
           f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>']
    for i, (name, color) in enumerate(SERIES):
        x = left + 120 * i
        svg.append(f'<path d="M{x} 20h24" stroke="{color}" stroke-width="2"/><text x="{x + 30}" y="24">{name}</text>')
    for i, (name, rows) in enumerate(tables):
        x0, y0, last = left + across * (i % 3), top + down * (i // 3), max(1, rows[-1][0])
        svg.append(f'<text x="{x0}" y="{y0 - 8}" font-weight="bold">{name}</text>')
        for percent in range(0, 101, 20):
            y = y0 + height * (1 - percent / 100)
            svg.append(f'<path d="M{x0} {y:.1f}h{width}" stroke="#ddd"/>'
                       f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>')
        for count in range(0, last + 1):
            svg.append(f'<text x="{x0 + width * count / last:.1f}" y="{y0 + height + 15}" text-anchor="middle">'
                       f'{count}</text>')
        svg.append(f'<text x="{x0 + width / 2}" y="{y0 + height + 30}" text-anchor="middle">pruned blocks; top 1, %'
                   '</text>')
        for series, color in reversed(SERIES):
            points = [(x0 + width * count / last, y0 + height * (1 - measured[series]))
                      for count, _, measured in rows if measured[series] is not None]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            svg.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>')
            svg += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{color}"/>' for x, y in points]
    return "\n".join([*svg, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "fit-table", metavar="DIR",
                        help="where models, reports and what was measured are kept")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "fit_fmnist.svg")
    parser.add_argument("--only", default=",".join(NETWORKS), help="networks")
    parser.add_argument("--counts", default="", help="numbers of blocks to prune; without it all there are")
    arguments = parser.parse_args()
    training = preprocessed(read_idx(TRAIN)[:STATISTICS_IMAGES])
    images, labels = preprocessed(read_idx(TEST)), read_idx(TEST_LABELS).astype("int64")
    arguments.work.mkdir(parents=True, exist_ok=True)
    statistics = arguments.work / "train.npz"
    numpy.savez(statistics, input=training)
    tables, failures = [], 0
    counts = [int(count) for count in arguments.counts.split(",") if count]
    for name in arguments.only.split(","):
        folder = arguments.work / name
        folder.mkdir(exist_ok=True)
        network = Network(name, arguments.binary.resolve(), training)
        rows, failed = measure(network, arguments.binary.resolve(), folder, counts, statistics, images, labels)
        failures += failed
        tables.append((name, rows))
        print_table(name, rows)
        arguments.plot.write_text(draw(tables))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
