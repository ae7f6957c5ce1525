#!/usr/bin/env python3
"""Memory of training steps: this project's steps in ONNX Runtime, and PyTorch; prints the table for docs/experiments/training-speed.md.

    scripts/step_memory.py STEP_MEMORY [--net NAME]... [--batch 64]

Needs what step_speed.py needs; run by hand. STEP_MEMORY is the built example of that name. Every step runs in its own process, because the
peak of a process never falls. The result is the peak resident set (VmHWM) after four steps minus the peak before the session was opened. For
PyTorch, the subtracted peak is the one before the first step, when network, images and optimizer exist.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from step_speed import NETS, Theirs, export

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
STEPS = 4


def peak():
    """Largest resident set so far, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def of_torch(name, layout, batch):
    """Prints the memory that PyTorch's steps add to the peak."""
    torch.manual_seed(0)
    images = np.random.default_rng(7).standard_normal((batch, 3, 32, 32)).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[np.arange(batch) % 10]
    runner = Theirs(NETS[name](), images, targets, LAYOUTS[layout], 0.01)
    before = peak()
    for _ in range(STEPS):
        runner.step()
    print(peak() - before)


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--net", choices=NETS, action="append")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--torch", choices=LAYOUTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return of_torch(args.net[0], args.torch, args.batch)
    forms = {"ours": [], "with --recompute": ["--recompute"], "standard operators": ["--plain"]}
    print(f"| network | {' | '.join([*forms, *(f'torch {layout}' for layout in LAYOUTS)])} | ours / torch |\n|{'---|' * 7}")
    for name in args.net or NETS:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            export(NETS[name](), torch.zeros(args.batch, 3, 32, 32), path)
            for options in forms.values():
                last = run(args.binary, path, args.batch, *options).splitlines()[-1]
                after, before = re.match(r"peak (\d+) MiB, (\d+) MiB before", last).groups()
                found.append(int(after) - int(before))
        for layout in LAYOUTS:
            found.append(float(run(sys.executable, __file__, "-", "--net", name, "--batch", args.batch, "--torch", layout)))
        ratio = found[0] / min(found[len(forms):])
        print(f"| {name} | {' | '.join(f'{value:.0f}' for value in found)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
