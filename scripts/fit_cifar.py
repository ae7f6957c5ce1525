"""Accuracy of a CIFAR-10 ResNet-20 with fitted blocks; prints the tables for docs/experiments/fit.md.

    scripts/fit_cifar.py target/release/updp-compile --models DIR --data DIR [--work DIR]

--models holds cifar10_resnet20.{folded,bn,dynamo}.onnx, --data class folders under train/ and test/. Each row is one run
of the tool with `--blocks LIST`: solved with images of train/, reported on test/, no training and no labels in the fit. Rows of one
dialect share a work folder, so a block that occurs in several rows is fitted alone only once.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# The blocks, in the numbering of `inspect`: layer1.0, 1.1, 1.2, 2.0 (strided), 2.1, 2.2, 3.0 (strided), 3.1, 3.2.
NAMES = ["layer1.0", "layer1.1", "layer1.2", "layer2.0, strided", "layer2.1", "layer2.2", "layer3.0, strided", "layer3.1",
         "layer3.2"]
SINGLE = [[block] for block in range(len(NAMES))]
TOGETHER = [[1, 4], [1, 4, 7], [1, 2, 4, 5, 7], [0, 1, 2, 4, 5, 7, 8]]
DIALECTS = {"folded": SINGLE + TOGETHER, "bn": [[1], [1, 4, 7]], "dynamo": [[1], [1, 4, 7]]}
PREPROCESS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def percent(value):
    return "–" if value is None else f"{100 * value:.2f}"


def run(arguments, dialect, blocks, folder):
    """One run of the tool; its report."""
    model = Path(arguments.models) / f"cifar10_resnet20.{dialect}.onnx"
    preprocess = folder / "preprocess.json"
    preprocess.write_text(json.dumps(PREPROCESS))
    report = folder / "report.json"
    command = [arguments.binary, model, "-o", folder / "pruned.onnx", "--data", Path(arguments.data) / "train", "--val",
               Path(arguments.data) / "test", "--preprocess", preprocess, "--blocks", ",".join(map(str, blocks)), "--force",
               "--probe-seconds", "0.02", "--latency-table", folder / f"{dialect}.latency.json", "--work", folder / dialect,
               "--threads", arguments.threads, "--device", arguments.device, "--report", report, "-q"]
    code = subprocess.run([str(part) for part in command], check=False).returncode
    if code != 0:
        sys.exit(f"exit code {code}: {' '.join(map(str, command))}")
    return json.loads(report.read_text())


def forms(fit):
    chosen = [block["chosen"] for block in fit["blocks"] if block["chosen"]]
    return ", ".join(chosen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--models", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", help="keeps what is fitted there")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    temporary = None if arguments.work else tempfile.TemporaryDirectory()
    folder = Path(arguments.work or temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    print("| file | blocks | forms | top-1, % | points lost | agreement, % | speed-up at batch 1 |")
    print("|---|---|---|---|---|---|---|")
    for dialect, rows in DIALECTS.items():
        for blocks in rows:
            fit = run(arguments, dialect, blocks, folder)["pruning"]["fit"]
            before, after = fit["before"], fit["after"]
            lost = 100 * (before["accuracy"] - after["accuracy"])
            names = "; ".join(NAMES[block] for block in blocks)
            print(f"| {dialect} | {names} | {forms(fit)} | {percent(after['accuracy'])} | {lost:.2f} | "
                  f"{percent(after['agreement'])} | {fit['speed']['speedup']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
