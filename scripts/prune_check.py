#!/usr/bin/env python3
"""Prunes the blocks of models, all together and each alone, and verifies every result.

    scripts/prune_check.py [--alone] [--forms conv,auto] MODEL.onnx ...

Every run is verified by execution (the merged network against the pruned one) with the usual limits. Prints a line for
each model and ends with 1 if any run failed without a refusal.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

BINARY = Path(__file__).resolve().parent.parent / "target" / "release" / "updp-compile"
# Done, or refused with a reason.
GOOD = {0: "ok", 6: "refused"}


def prune(model, blocks, form, out):
    report = out.with_suffix(".json")
    command = [BINARY, model, "-o", out, "--blocks", blocks, "--form", form, "--recover", "none", "--check",
               "2", "-q", "--probe-seconds", "0.05", "--report", report]
    if form == "conv":
        command += ["--merge", "all"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    worst = 0.0
    if result.returncode == 0:
        outputs = json.loads(report.read_text())["verification"]["outputs"]
        worst = max((output["relative"] for output in outputs), default=0.0)
    return result.returncode, worst, result.stderr.strip().splitlines()[:1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--alone", action="store_true", help="each block by itself too")
    parser.add_argument("--forms", default="conv,auto")
    arguments = parser.parse_args()
    failures = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.onnx"
        for model in arguments.models:
            shown = subprocess.run([BINARY, "inspect", model, "--json"], capture_output=True, text=True)
            if shown.returncode != 0:
                print(f"{model.name}: inspect ends with {shown.returncode}: {shown.stderr.strip()[:120]}")
                failures += shown.returncode not in (3, 4)
                continue
            blocks = json.loads(shown.stdout)["blocks"]
            if not blocks:
                print(f"{model.name}: no blocks", flush=True)
                continue
            lists = ["all"]
            if arguments.alone:
                lists += [str(block["index"]) for block in blocks if block["prunable"]]
            counts, worst, notes = {}, 0.0, []
            for form in arguments.forms.split(","):
                for choice in lists:
                    code, error, detail = prune(model, choice, form, out)
                    runs += 1
                    worst = max(worst, error)
                    name = GOOD.get(code, f"EXIT {code}")
                    counts[name] = counts.get(name, 0) + 1
                    if code not in GOOD:
                        failures += 1
                        notes.append(f"{form} {choice}: {' '.join(detail)[:200]}")
            shown = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            print(f"{model.name}: {len(blocks)} blocks, {shown}, worst {worst:.1e}"
                  + "".join(f"\n    {note}" for note in notes), flush=True)
    print(f"{runs} runs, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
