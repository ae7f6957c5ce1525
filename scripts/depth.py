#!/usr/bin/env python3
"""Speed of full-size networks with pruned blocks against the same networks exactly compiled.

    scripts/depth.py [--batches 1,8] [--seconds 6] [--threads N] [--only NAME]

Weights are seeded, not trained: only the structure counts. Inserted BatchNorms get the statistics of noise, so that
they do not fold away like a neutral BatchNorm. Both networks run in turns in ONNX Runtime with all its
optimizations on. Prints one Markdown table; docs/experiments/depth-speed.md keeps it with its date.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
BINARY = TARGET / "release" / "updp-compile"
ZOO = TARGET / "release" / "updp-zoo"
MODELS = TARGET / "depth-models"

# DepthShrinker's configurations of MobileNetV2-1.4, inverted residuals counted from 0.
A, B, C = "1,2,5,7,9,12", "0,1,2,5,6,7,8,9,12", "1,2,4,5,6,7,8,9,12"
CASES = [
    # network, configuration, blocks, forms, published or aimed speed-up
    ("tv_resnet34", "6 of 16", "1,2,5,9,11,14", ["conv", "auto"], 1.25),
    ("tv_resnet34", "10 of 16", "1,2,4,5,6,8,9,11,12,14", ["conv", "auto"], 1.43),
    ("timm_mobilenetv2_140", "DS-A", A, ["conv", "auto", "pw"], 1.80),
    ("timm_mobilenetv2_140", "DS-B", B, ["conv", "auto", "pw"], 2.25),
    ("timm_mobilenetv2_140", "DS-C", C, ["conv", "auto", "pw"], 2.16),
    ("timm_convnext_tiny", "9 of 18", "1,2,4,5,7,9,11,13,16", ["conv", "dwpw", "norm"], 1.6),
    ("timm_deit_tiny", "6 of 12", "1,3,5,7,9,11", ["conv", "norm"], 1.26),
]


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--batches", default="1,8")
    arguments.add_argument("--seconds", default="6")
    arguments.add_argument("--threads")
    arguments.add_argument("--only", default="")
    arguments = arguments.parse_args()
    threads = ["--threads", arguments.threads] if arguments.threads else []
    batches = arguments.batches.split(",")
    MODELS.mkdir(parents=True, exist_ok=True)
    noise = MODELS / "noise.npz"
    images = numpy.random.default_rng(0).standard_normal((4, 3, 224, 224)).astype("float32")
    numpy.savez(noise, input=images)
    heads = "".join(f" batch {b} |" for b in batches)
    print(f"| network | blocks | form | goal | MACs |{heads}")
    print("|---|---|---|---|---|" + "---|" * len(batches))
    for network, name, blocks, forms, goal in CASES:
        if arguments.only not in network:
            continue
        source = MODELS / f"{network}.legacy17-eval-dyn.onnx"
        if not source.exists():
            run(ZOO, "--out", MODELS, "--dialect", "legacy17-eval", "--dynamic", network)
        exact = MODELS / f"{network}.exact.onnx"
        run(BINARY, source, "-o", exact, "--no-verify", "-q")
        for form in forms:
            pruned = MODELS / f"{network}.{name.replace(' ', '')}.{form}.onnx"
            report = MODELS / "report.json"
            run(BINARY, source, "-o", pruned, "--blocks", blocks, "--form", form, "--recover", "none",
                "--force", "--input-data", noise, "--report", report, "-q", *threads)
            facts = json.loads(report.read_text())
            macs = facts["output"]["macs"] / facts["input"]["macs"]
            chosen = {block["form"] for block in facts["pruning"]["blocks"]}
            label = form if form != "auto" else f"auto ({', '.join(sorted(chosen))})"
            cells = []
            for batch in batches:
                out = json.loads(run(BINARY, "bench", exact, pruned, "--batch", batch, "--seconds",
                                     arguments.seconds, "--json", *threads))
                first, second = out["models"]
                cells.append(f"{second['speedup']:.2f}x ({first['median_ms']:.1f} -> "
                             f"{second['median_ms']:.1f} ms)")
            print(f"| {network} | {name} | {label} | {goal:.2f}x | {macs:.2f} | "
                  + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
