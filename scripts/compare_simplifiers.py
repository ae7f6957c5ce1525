"""Compares the number of nodes after exact compilation with onnxslim and onnxsim.

    python scripts/compare_simplifiers.py FOLDER_OR_MODEL... [--binary PATH] [--json PATH] [--timeout SECONDS]

Needs onnx (scripts/requirements-check.txt); `pip install onnxslim onnxsim` for the others (one that is missing has the
word "exit 1" in its column). Each tool runs in a process of its own, so a crash is a word in the table. Constant nodes do not count, bodies do: an initializer
and a Constant node are the same thing. Where we are above the better of the two, the last column gives the operators
of which we keep more, and the reasons that the program gave (`--why-not`).
Exit code 1 if a model is above without any reason.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import onnx

PEERS = {
    "onnxslim": "import sys, onnx, onnxslim; onnx.save(onnxslim.slim(onnx.load(sys.argv[1])), sys.argv[2])",
    "onnxsim": "import sys, onnx, onnxsim; onnx.save(onnxsim.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])",
}


def operators(graph):
    """Nodes by operator, with those of bodies, without Constant."""
    counts = collections.Counter()
    for node in graph.node:
        if node.op_type != "Constant":
            counts[node.op_type] += 1
        for attribute in node.attribute:
            for body in [attribute.g, *attribute.graphs]:
                counts += operators(body)
    return counts


def run(command, timeout):
    """The outcome of a process: None if it went well, otherwise a word."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return "time-out"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    return f"exit {done.returncode}"


def after(command, path, timeout):
    """Operators of the model that a command writes, or the word for its failure."""
    failed = run(command, timeout)
    return failed or operators(onnx.load(path, load_external_data=False).graph)


def measure(model, binary, timeout):
    """One row: nodes before and after each tool, and the refusals of ours."""
    row = {"model": os.path.basename(model)}
    row["before"] = operators(onnx.load(model, load_external_data=False).graph)
    with tempfile.TemporaryDirectory() as folder:
        out, report = os.path.join(folder, "out.onnx"), os.path.join(folder, "report.json")
        command = [binary, "compile", model, "-o", out, "--report", report]
        row["ours"] = after(command, out, timeout)
        row["refusals"] = []
        if os.path.exists(report):
            with open(report) as file:
                row["refusals"] = json.load(file)["refusals"]
        for peer, code in PEERS.items():
            path = os.path.join(folder, f"{peer}.onnx")
            row[peer] = after([sys.executable, "-c", code, model, path], path, timeout)
    return row


def count(result):
    """Number of nodes."""
    return sum(result.values())


def reason(row):
    """Why we keep more nodes than the better peer; None if we do not."""
    if isinstance(row["ours"], str):
        return row["ours"]
    done = [row[peer] for peer in PEERS if not isinstance(row[peer], str)]
    if not done:
        return None
    best = min(done, key=count)
    if count(row["ours"]) <= count(best):
        return None
    more = row["ours"] - best
    words = ", ".join(f"{op} {number:+d}" for op, number in more.most_common(4))
    declined = collections.Counter(f"{it['rule']}: {it['reason']}" for it in row["refusals"])
    told = ", ".join(f"{name} ({number})" for name, number in declined.most_common(3))
    return f"{words}; {told}" if told else words


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--binary", default="target/release/updp-compile")
    parser.add_argument("--json")
    parser.add_argument("--timeout", type=float, default=300)
    arguments = parser.parse_args()
    models = []
    for path in arguments.models:
        if os.path.isdir(path):
            found = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]
            models.extend(sorted(name for name in found if name.endswith(".onnx")))
        else:
            models.append(path)
    print("| model | before | ours | onnxslim | onnxsim | why above |")
    print("|---|---|---|---|---|---|")
    rows, silent = [], []
    for model in models:
        row = measure(model, arguments.binary, arguments.timeout)
        why = reason(row)
        if why is not None and ";" not in why and not isinstance(row["ours"], str):
            silent.append(row["model"])
        cells = [row["before"], row["ours"], *(row[peer] for peer in PEERS)]
        cells = [cell if isinstance(cell, str) else str(count(cell)) for cell in cells]
        print("| " + " | ".join([row["model"], *cells, why or ""]) + " |", flush=True)
        rows.append({key: row[key] for key in ["model", "before", "ours", *PEERS]} | {"why": why})
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    if silent:
        print(f"above without a reason: {', '.join(silent)}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
