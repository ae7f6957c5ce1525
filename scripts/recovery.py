#!/usr/bin/env python3
"""How much of the accuracy of pruned networks comes back, by method of training; prints the table for docs/results.md.

    scripts/recovery.py target/release/updp-compile --fmnist DIR --cifar DIR --cifar-models DIR [--work DIR] [--device cuda]

--fmnist holds the IDX files of Fashion-MNIST, --cifar class folders under train/ and test/, --cifar-models
cifar10_resnet20.folded.onnx. Every arm of a network sees the same images as often, seed by seed:

    trained      the unpruned network, trained on
    fit          blocks solved for in closed form, no training
    direct       the paper's blocks with λ = 1 from the first step
    progressive  λ from 0 to 1
    blend        progressive, from the fit: what was fitted is faded in
    fit, trained the fit, trained in its merged form

Numbers are top 1 on test images; ± is the standard deviation over seeds. Runs that --work holds are not made again.
"""

import argparse
import concurrent.futures
import gzip
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CIFAR = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Half of the blocks, those that `--prune` chooses; of ResNet-20 five of the seven with stride 1.
NETS = {
    "resnet": "0,1,4,7,10",
    "mobilenetv2": "0,4,5,7",
    "vgg": "0,1",
    "convnext": "0,1,4",
    "repvgg": "0,2",
    "deit": "1,2,4",
    "resnet20": "1,2,4,5,7",
}
ARMS = {
    "trained": None,
    "fit": [],
    "direct": ["--method", "direct"],
    "progressive": ["--method", "progressive"],
    "blend": ["--method", "blend"],
    "fit, trained": ["--method", "fit"],
}


def subset(source, folder, count):
    """The first `count` training images of an IDX folder, as IDX."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, size in (("images-idx3", 28 * 28), ("labels-idx1", 1)):
        with gzip.open(source / f"train-{part}-ubyte.gz") as file:
            header = file.read(16 if size > 1 else 8)
            (folder / f"train-{part}-ubyte").write_bytes(
                header[:4] + struct.pack(">I", count) + header[8:] + file.read(count * size))
    return folder / "train-images-idx3-ubyte"


class Runs:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        (folder / "cifar.json").write_text(json.dumps(CIFAR))
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

    def run(self, net, arm, seed):
        """Accuracy of one run, and of the network it started from."""
        folder = self.folder / net / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        report, log = folder / f"{arm}.json", folder / f"{arm}.log"
        if not report.exists():
            epochs = self.arguments.cifar_epochs if net == "resnet20" else self.arguments.epochs
            training = ["--epochs", epochs, "--batch-size", 128 if net == "resnet20" else 64, *self.arguments.option]
            written = folder / f"{arm}.new.json"
            common = ["-o", folder / f"{arm}.onnx", "--data", *self.data(net), "--seed", seed, "--threads", self.arguments.threads,
                      "--device", self.arguments.device, "--report", written, "-q"]
            if ARMS[arm] is None:
                command = ["train", self.model(net), *common, *training]
            else:
                command = [self.model(net), *common, "--blocks", NETS[net], "--form", "conv", "--force", "--no-verify",
                           "--probe-seconds", "0.02", "--latency-table", folder / "latency.json", "--work", folder / "work"]
                command += [*training, *ARMS[arm]] if ARMS[arm] else []
            start = time.monotonic()
            with log.open("w") as file:
                made = subprocess.run([str(part) for part in [self.arguments.binary, *command]], stderr=file, stdout=file)
            if made.returncode:
                raise RuntimeError(f"{net} {arm} {seed}: exit code {made.returncode}: {log.read_text()[-400:]}")
            found = json.loads(written.read_text())
            found["seconds"] = time.monotonic() - start
            report.write_text(json.dumps(found))
        found = json.loads(report.read_text())
        own = found if ARMS[arm] is None else found["pruning"]["fit"]
        # What was trained, also where the tool wrote the fitted network instead.
        after = (own["training"] if ARMS[arm] else own)["after"]
        return own["before"]["accuracy"], after["accuracy"], found["seconds"]


def arms_of(runs, net, seed):
    """Every arm of one network and seed, the fit first: what it fitted is used by the others."""
    return {arm: runs.run(net, arm, seed) for arm in sorted(ARMS, key=lambda arm: arm != "fit")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--fmnist", required=True)
    parser.add_argument("--cifar", required=True)
    parser.add_argument("--cifar-models", required=True)
    parser.add_argument("--work")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10, help="of Fashion-MNIST")
    parser.add_argument("--images", type=int, default=12000, help="of Fashion-MNIST")
    parser.add_argument("--cifar-epochs", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="networks at once")
    parser.add_argument("--option", action="append", default=[], help="given to every training, such as --option=--lr=0.05")
    arguments = parser.parse_args()
    temporary = None if arguments.work else tempfile.TemporaryDirectory()
    folder = Path(arguments.work or temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(arguments, folder)
    jobs = [(net, seed) for net in arguments.net or NETS for seed in range(arguments.seeds)]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {job: pool.submit(arms_of, runs, *job) for job in jobs}
        print(f"| network | blocks | original | {' | '.join(ARMS)} | seconds |\n|{'---|' * (len(ARMS) + 4)}", flush=True)
        failed = False
        for net in arguments.net or NETS:
            try:
                found = [futures[net, seed].result() for seed in range(arguments.seeds)]
            except (RuntimeError, json.JSONDecodeError, KeyError) as error:
                failed = True
                print(f"{net}: {error}", file=sys.stderr)
                continue
            cells = []
            for arm in ARMS:
                after = [100 * own[arm][1] for own in found]
                spread = f" ± {statistics.stdev(after):.2f}" if len(after) > 1 else ""
                cells.append(f"{statistics.mean(after):.2f}{spread}")
            seconds = sum(own[arm][2] for own in found for arm in ARMS)
            print(f"| {net} | {NETS[net]} | {100 * found[0]['fit'][0]:.2f} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
