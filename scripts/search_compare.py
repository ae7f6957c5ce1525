#!/usr/bin/env python3
"""Compares searches at an equal number of evaluations, with and without a supernet; prints a table.

    scripts/search_compare.py target/release/updp-compile --fmnist DIR [--net resnet] [--prune 4] [--evaluations 40] [--work DIR]

--fmnist holds the IDX files of Fashion-MNIST. Every search of a seed shares the work folder: blocks are fitted and the supernet is
trained once. Numbers are top 1 on the 10,000 test images after the search and, with --epochs, after training; `lost` are the points
that the chosen set as a whole loses on the held-out images, as measured by the search (a supernet gives different numbers).
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from recovery import subset

SEARCHES = ["fit", "genetic", "random", "greedy"]


def run(arguments, images, folder, seed, search, supernet):
    """The result of one run."""
    where = folder / f"{arguments.net}-{seed}"
    where.mkdir(parents=True, exist_ok=True)
    report = where / f"{search}-{supernet}.json"
    model = Path(__file__).parent.parent / f"fixtures/trained/fmnist_{arguments.net}.bn.onnx"
    test = Path(arguments.fmnist) / "t10k-images-idx3-ubyte.gz"
    command = [arguments.binary, model, "-o", where / "out.onnx", "--data", images, "--val", test,
               "--preprocess", "fashion-mnist", "--prune", arguments.prune, "--force", "--no-verify", "--seed", seed, "--threads",
               arguments.threads, "--probe-seconds", "0.02", "--latency-table", where / "latency.json", "--work", where / "work",
               "--search", search, "--evaluations", arguments.evaluations, "--supernet-epochs", supernet, "--report", report, "-q"]
    command += ["--epochs", arguments.epochs] if arguments.epochs else []
    command += arguments.option
    made = subprocess.run([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise RuntimeError(f"seed {seed} {search} {supernet}: exit code {made.returncode}: {made.stderr[-400:]}")
    return json.loads(report.read_text())["pruning"]["fit"]


def mean(values):
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--fmnist", required=True)
    parser.add_argument("--net", default="resnet")
    parser.add_argument("--images", type=int, default=6000, help="training images used")
    parser.add_argument("--prune", default="4")
    parser.add_argument("--evaluations", default="40")
    parser.add_argument("--supernet-epochs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--option", action="append", default=[], help="another option of every run")
    parser.add_argument("--work")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.work or temporary)
        images = subset(Path(arguments.fmnist), folder / "fmnist", arguments.images)
        print("| supernet epochs | search | sets | lost | top 1 before training | top 1 |\n|---|---|---|---|---|---|")
        for supernet in sorted({0, arguments.supernet_epochs}):
            for search in SEARCHES:
                runs = [run(arguments, images, folder, seed, search, supernet) for seed in range(arguments.seeds)]
                sets = {len(found["tried"]) for found in runs}
                lost = [min(it["joint_degradation"] for it in found["tried"] if len(it["blocks"]) == int(arguments.prune)) for found in runs]
                first = [100 * (found["training"]["before"] if found["training"] else found["after"])["accuracy"] for found in runs]
                last = [100 * found["after"]["accuracy"] for found in runs]
                print(f"| {supernet} | {search} | {'/'.join(map(str, sorted(sets)))} | {mean(lost)} | {mean(first)} | {mean(last)} |",
                      flush=True)


if __name__ == "__main__":
    main()
