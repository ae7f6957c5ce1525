"""Compile every model of a folder laid out like ../shared/models and compare the outputs with an independent reference.

    .venv/bin/python scripts/models_check.py target/release/updp-compile ../shared/models [--flags "--merge all"]

`exported/`: the compiled model must give the output of the exporter's own framework (`manifest.json`) for the recorded
input. A model without such an output (training form) must come back equal in every field, or be refused with an `error[...]` line.
`trained/`: the compiled model must give the output of the original in ONNX Runtime, on 3 random inputs.
Limit: 1e-5 of the largest reference value. ONNX Runtime runs with its graph optimizer off. Exit status 1 on any failure.
Needs scripts/requirements-check.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from corpus import Session, compile_model, difference, misbehaviour, signature_change

LIMIT = 1e-5
TIMEOUT = 120.0
BATCHES = (1, 2, 3)


@dataclasses.dataclass
class Row:
    """One line of the table."""

    name: str
    outcome: str
    nodes_before: int
    nodes_after: int | None = None
    error: float | None = None
    top1_agreement: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return self.outcome in ("equal", "unchanged", "refused")


def recorded_case(folder: Path, entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Input and framework output of a manifest entry; `input_32.f32` holds f32 images [2, 3, 32, 32]."""
    side = int(entry["input"].removesuffix(".f32").split("_")[1])
    images = np.fromfile(folder / entry["input"], np.float32).reshape(-1, 3, side, side)
    return images, np.array(entry["output"], np.float32).reshape(len(images), -1)


def drawn_cases(model: onnx.ModelProto, session: Session) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random images with the original's outputs; the batch sizes vary if the batch of the model is open."""
    rng = np.random.default_rng(0)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    cases = []
    for batch in BATCHES:
        images = rng.standard_normal([d.dim_value or batch for d in dims]).astype(np.float32)
        cases.append((images, session.run({model.graph.input[0].name: images})[0]))
    return cases


def check(command: list[str], path: Path, entry: dict[str, Any] | None, scratch: Path) -> Row:
    """Compile and compare one model; `entry` is its part of the manifest, None for a trained model."""
    before = onnx.load(path)
    row = Row(f"{path.parent.name}/{path.name}", "equal", len(before.graph.node))
    run = compile_model(command, path, scratch / path.stem, TIMEOUT)
    has_truth = entry is None or entry.get("ort_max_abs_err") is not None
    if verdict := misbehaviour(run):
        refused_rightly = verdict.label == "refused" and not has_truth
        row.outcome = "refused" if refused_rightly else f"{verdict.label}: {verdict.detail}"
        return row
    output = scratch / path.stem / "out.onnx"
    after = onnx.load(output)
    row.nodes_after = len(after.graph.node)
    if change := signature_change(before, after):
        row.outcome = f"signature: {change}"
        return row
    if not has_truth:
        row.outcome = "unchanged" if before == after else "changed, though it has no truth to compare with"
        return row
    cases = drawn_cases(before, Session(path)) if entry is None else [recorded_case(path.parent, entry)]
    session = Session(output)
    agreements = []
    for images, reference in cases:
        result = session.run({before.graph.input[0].name: images})[0]
        error, why = difference(reference, result, LIMIT)
        row.error = max(row.error or 0.0, error)
        if why:
            row.outcome = why
            return row
        agreements.append(np.mean(result.argmax(-1) == reference.argmax(-1)))
    row.top1_agreement = float(np.mean(agreements))
    return row


def print_table(rows: list[Row]) -> None:
    """Print all rows, then the number of failures."""
    width = max(len(r.name) for r in rows)
    print(f"{'model':{width}}  nodes before  after     error  top-1 agrees  outcome")
    for row in rows:
        after = "–" if row.nodes_after is None else str(row.nodes_after)
        error = "–" if row.error is None else f"{row.error:.1e}"
        agrees = "–" if row.top1_agreement is None else f"{row.top1_agreement:.0%}"
        print(f"{row.name:{width}}  {row.nodes_before:12}  {after:>5}  {error:>8}  {agrees:>12}  {row.outcome}")
    failures = sum(not r.is_good for r in rows)
    print(f"\n{len(rows)} models, {failures} failures, limit {LIMIT:.0e} of the largest value")


def main() -> int:
    """Check both folders; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path, help="the compiler")
    parser.add_argument("models", type=Path, help="folder with exported/ and trained/")
    parser.add_argument("--flags", default="", help="more flags for the compiler, as one string")
    arguments = parser.parse_args()
    binary = shutil.which(arguments.binary.absolute())
    if binary is None:
        sys.exit(f"{arguments.binary}: not an executable file")
    command = [binary, *shlex.split(arguments.flags)]

    manifest = json.loads((arguments.models / "exported" / "manifest.json").read_text())
    exported = sorted((arguments.models / "exported").glob("*.onnx"))
    trained = sorted((arguments.models / "trained").glob("*.onnx"))
    unlisted = [p.name for p in exported if p.name not in manifest]
    if unlisted or not exported or not trained:
        sys.exit(f"{arguments.models}: no models, or not in manifest.json: {unlisted}")
    with tempfile.TemporaryDirectory(prefix="models-check-") as scratch:
        rows = [check(command, path, manifest[path.name], Path(scratch)) for path in exported]
        rows += [check(command, path, None, Path(scratch)) for path in trained]
    print_table(rows)
    return int(any(not r.is_good for r in rows))


if __name__ == "__main__":
    sys.exit(main())
