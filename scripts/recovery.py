#!/usr/bin/env python3
"""How much of the accuracy of pruned networks comes back, by method of training; prints the tables for docs/experiments/recovery.md.

    scripts/recovery.py target/release/updp-compile --fmnist DIR --cifar DIR --cifar-models DIR [--work DIR] [--device cuda]

--fmnist holds the IDX files of Fashion-MNIST, --cifar class folders under train/ and test/, --cifar-models
cifar10_resnet20.folded.onnx. Every network is pruned at two depths, a third and half of its blocks, the blocks that
`--prune N` chooses. For each seed, every arm sees the same images the same number of times:

    trained      the unpruned network, trained further
    fit          blocks solved for in closed form, no training
    direct       the paper's blocks with λ = 1 from the first step
    progressive  λ from 0 to 1
    blend        progressive, from the fit: what was fitted is faded in
    fit, trained the fit, trained in its merged form

The first table has top 1 on test images, ± the standard deviation over seeds, with operators and measured speed of the
fitted network. The second has the points lost against the better of the original and the trained original of the same
seed, with the 95 % interval of their mean (t distribution over the seeds). With --choices a third table compares the choices
of blocks: by the default, the genetic and the greedy search and, for each seed, the same number of random blocks. Each choice is fitted
and trained. Runs that are already in --work are not repeated.
"""

import argparse
import concurrent.futures
import gzip
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CIFAR = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Numbers of blocks to prune: a third and half. For ResNet-20, half is five of the seven blocks with stride 1.
NETS = {
    "resnet": (3, 5),
    "mobilenetv2": (2, 4),
    "vgg": (1, 2),
    "convnext": (2, 3),
    "repvgg": (1, 2),
    "deit": (2, 3),
    "resnet20": (3, 5),
}
# 97.5 % points of the t distribution by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
ARMS = {
    "trained": None,
    "fit": [],
    "direct": ["--method", "direct"],
    "progressive": ["--method", "progressive"],
    "blend": ["--method", "blend"],
    "fit, trained": ["--method", "fit"],
}
# The table needs these arms: the baseline of the comparison, and the start of the other arms.
ALWAYS = ["trained", "fit"]
PRUNED = [arm for arm in ARMS if arm != "trained"]
# Searches that are compared with --choices, and the arms that each is compared in.
SEARCHES = ["fit", "genetic", "greedy"]
TRAINED = ["fit", "fit, trained"]


def subset(source, folder, count):
    """The first `count` training images of an IDX folder, as IDX. Written only once, because a training resumes only with unchanged files."""
    folder = folder / str(count)
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "train-images-idx3-ubyte"
    if images.exists():
        return images
    for part, size in (("labels-idx1", 1), ("images-idx3", 28 * 28)):
        with gzip.open(source / f"train-{part}-ubyte.gz") as file:
            header = file.read(16 if size > 1 else 8)
            (folder / f"train-{part}-ubyte").write_bytes(
                header[:4] + struct.pack(">I", count) + header[8:] + file.read(count * size))
    return images


class Runs:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        (folder / "cifar.json").write_text(json.dumps(CIFAR))
        self.arms = [arm for arm in ARMS if arm in (arguments.arm or ARMS) or arm in ALWAYS]
        self.fmnist = subset(Path(arguments.fmnist), folder / "fmnist", arguments.images)

    def data(self, net):
        if net == "resnet20":
            cifar = Path(self.arguments.cifar)
            return [cifar / "train", "--val", cifar / "test", "--preprocess", self.folder / "cifar.json"]
        test = Path(self.arguments.fmnist) / "t10k-images-idx3-ubyte.gz"
        return [self.fmnist, "--val", test, "--preprocess", "fashion-mnist"]

    def model(self, net):
        if net == "resnet20":
            return Path(self.arguments.cifar_models) / "cifar10_resnet20.folded.onnx"
        return Path(__file__).parent.parent / f"fixtures/trained/fmnist_{net}.bn.onnx"

    def tool(self, folder, name, command):
        """The report of one run of the tool."""
        report, log = folder / f"{name}.json", folder / f"{name}.log"
        if not report.exists():
            written = folder / f"{name}.new.json"
            common = ["-o", folder / f"{name}.onnx", "--threads", self.arguments.threads, "--device", self.arguments.device,
                      "--report", written, "-q"]
            start = time.monotonic()
            with log.open("w") as file:
                line = [str(part) for part in [self.arguments.binary, *command, *common]]
                made = subprocess.run(line, stderr=file, stdout=file)
            if made.returncode:
                raise RuntimeError(f"{folder} {name}: exit code {made.returncode}: {log.read_text()[-400:]}")
            found = json.loads(written.read_text())
            found["seconds"] = time.monotonic() - start
            report.write_text(json.dumps(found))
        return json.loads(report.read_text())

    def pruning(self, net, folder, seed):
        """The command that prunes, without a goal."""
        return [self.model(net), "--data", *self.data(net), "--seed", seed, "--form", "conv", "--force", "--no-verify",
                "--probe-seconds", "0.02", "--latency-table", folder / "latency.json", "--work", folder / "work"]

    def choice(self, net, count, search="fit"):
        """The blocks in the report of a search; all seeds and arms use the blocks of the default search."""
        folder = self.folder / net / f"choose{count}"
        folder.mkdir(parents=True, exist_ok=True)
        name = "choose" if search == "fit" else search
        options = [] if search == "fit" else ["--search", search]
        return self.tool(folder, name, [*self.pruning(net, folder, 0), "--prune", count, *options])["pruning"]["fit"]["blocks"]

    def blocks(self, net, count, search="fit"):
        return named(block["index"] for block in self.choice(net, count, search) if block["chosen"])

    def drawn(self, net, count, seed):
        """The same number of prunable blocks, drawn at random."""
        prunable = [block["index"] for block in self.choice(net, count) if block["candidates"]]
        return named(random.Random(seed).sample(prunable, count))

    def run(self, net, blocks, arm, seed):
        """The tool's report on one run: accuracy before and after, operators, speed, seconds."""
        folder = self.folder / net / (blocks if ARMS[arm] is not None else "whole") / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        epochs = self.arguments.cifar_epochs if net == "resnet20" else self.arguments.epochs
        training = ["--epochs", epochs, "--batch-size", 128 if net == "resnet20" else 64, *self.arguments.option]
        if ARMS[arm] is None:
            command = ["train", self.model(net), "--data", *self.data(net), "--seed", seed, *training]
        else:
            command = [*self.pruning(net, folder, seed), "--blocks", blocks]
            command += [*training, *ARMS[arm]] if ARMS[arm] else []
        found = self.tool(folder, arm, command)
        if ARMS[arm] is None:
            return {"before": found["before"]["accuracy"], "after": found["after"]["accuracy"], "seconds": found["seconds"]}
        fit = found["pruning"]["fit"]
        # The trained network, even if the tool wrote the fitted network instead.
        after = (fit["training"] if ARMS[arm] else fit)["after"]
        nodes = found["output"]["nodes"]
        return {"before": fit["before"]["accuracy"], "after": after["accuracy"], "nodes": nodes, "speedup": fit["speed"]["speedup"],
                "seconds": found["seconds"]}


def named(blocks):
    return ",".join(map(str, sorted(blocks)))


def arms_of(runs, net, blocks, seed):
    """Every arm of one network and seed, the fit first, because the others use its result."""
    return {arm: runs.run(net, blocks, arm, seed) for arm in sorted(runs.arms, key=lambda arm: arm != "fit")}


def choices(runs, pool, net, count, seeds):
    """A row of the third table."""
    cells = []
    for search in [*SEARCHES, "random"]:
        of_seeds = [runs.drawn(net, count, seed) if search == "random" else runs.blocks(net, count, search) for seed in range(seeds)]
        of_seed = lambda seed: [100 * runs.run(net, of_seeds[seed], arm, seed)["after"] for arm in TRAINED]
        found = list(zip(*pool.map(of_seed, range(seeds))))
        numbers = " → ".join(f"{statistics.mean(values):.2f}{spread(values)}" for values in found)
        cells.append(numbers if search == "random" else f"{of_seeds[0]}: {numbers}")
    return f"| {net} | {' | '.join(cells)} |"


def spread(values):
    return f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""


def interval(values):
    """Half the width of the 95 % interval of the mean."""
    count = len(values)
    if count - 1 not in STUDENT:
        return ""
    return f" ± {STUDENT[count - 1] * statistics.stdev(values) / count ** 0.5:.2f}"


def rows(net, blocks, found):
    """A row of each table."""
    after = {arm: [100 * own[arm]["after"] for own in found] for arm in found[0]}
    original = 100 * found[0]["fit"]["before"]
    cells = " | ".join(f"{statistics.mean(after[arm]):.2f}{spread(after[arm])}" for arm in ARMS if arm in after)
    fit = [own["fit"] for own in found]
    speed = statistics.median(own["speedup"] for own in fit)
    accuracy = f"| {net} | {blocks} | {fit[0]['nodes']} | {speed:.2f} | {original:.2f} | {cells} |"
    best = [max(original, trained) for trained in after["trained"]]
    lost = {arm: [a - b for a, b in zip(best, after[arm])] for arm in PRUNED if arm in after}
    cells = " | ".join(f"{statistics.mean(own):.2f}{interval(own)}" for own in lost.values())
    return accuracy, f"| {net} | {blocks} | {statistics.mean(best):.2f} | {cells} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--fmnist", required=True)
    parser.add_argument("--cifar", required=True)
    parser.add_argument("--cifar-models", required=True)
    parser.add_argument("--work")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--depth", choices=["third", "half"], action="append")
    parser.add_argument("--arm", choices=ARMS, action="append", help="besides trained and fit; all of them without this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="of Fashion-MNIST")
    parser.add_argument("--images", type=int, default=12000, help="of Fashion-MNIST")
    parser.add_argument("--cifar-epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--choices", action="store_true", help="compare searches, too")
    parser.add_argument("--option", action="append", default=[], help="given to every training, such as --option=--lr=0.05")
    arguments = parser.parse_args()
    temporary = None if arguments.work else tempfile.TemporaryDirectory()
    folder = Path(arguments.work or temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(arguments, folder)
    depths = [depth == "half" for depth in arguments.depth or ["third", "half"]]
    start = time.monotonic()
    lost, chosen, failed = [], [], False
    print(f"| network | blocks | operators | speed-up | original | {' | '.join(runs.arms)} |\n|{'---|' * (len(runs.arms) + 5)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for net in arguments.net or NETS:
            for depth in depths:
                try:
                    blocks = runs.blocks(net, NETS[net][depth])
                    found = list(pool.map(lambda seed: arms_of(runs, net, blocks, seed), range(arguments.seeds)))
                    if arguments.choices:
                        chosen.append(choices(runs, pool, net, NETS[net][depth], arguments.seeds))
                except (RuntimeError, json.JSONDecodeError, KeyError) as error:
                    failed = True
                    print(f"{net}: {error}", file=sys.stderr)
                    continue
                accuracy, points = rows(net, blocks, found)
                print(accuracy, flush=True)
                lost.append(points)
    losing = [arm for arm in PRUNED if arm in runs.arms]
    print(f"\n| network | blocks | baseline | {' | '.join(losing)} |\n|{'---|' * (len(losing) + 3)}")
    print("\n".join(lost))
    if chosen:
        print(f"\n| network | {' | '.join(SEARCHES)} | random |\n|{'---|' * (len(SEARCHES) + 2)}")
        print("\n".join(chosen))
    print(f"\n{(time.monotonic() - start) / 60:.0f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
