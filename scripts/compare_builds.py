#!/usr/bin/env python3
"""Compares the files that two builds write: exact compilation of every model below some folders, and pruning with a latency table.

    scripts/compare_builds.py OLD NEW MODELS... [--prune MODEL DATA PREPROCESS OPTIONS]...

OLD and NEW are two updp-compile programs. Both compile each model without verification. The files are compared byte
by byte, and so are the exit codes. With --prune, OLD first measures a latency table; then both prune with a copy of that table, the same
threads and the same seed, and the written files are compared. Ends with 1 when anything differs.
"""

import argparse
import filecmp
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def same_files(first, second):
    names = files_of(first)
    if names != files_of(second):
        return f"other files: {names} and {files_of(second)}"
    for name in names:
        if not filecmp.cmp(first / name, second / name, shallow=False):
            return f"{name} differs"
    return None


def compare(programs, folder, arguments):
    """Runs both programs with `-o FOLDER/<program>/out.onnx`; returns their difference, or None."""
    folders, codes, texts = [], [], []
    for at, program in enumerate(programs):
        own = folder / str(at)
        own.mkdir()
        result = run([program, *arguments(own), "-o", str(own / "out.onnx")])
        folders.append(own)
        codes.append(result.returncode)
        texts.append(result.stderr.strip().splitlines()[-1:])
    if codes[0] != codes[1]:
        return codes, f"exit codes {codes}: {texts}"
    for own in folders:
        for extra in own.glob("table.json"):
            extra.unlink()
    return codes, same_files(*folders)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    parser.add_argument("--prune", nargs=4, action="append", default=[], metavar=("MODEL", "DATA", "PREPROCESS", "OPTIONS"))
    options = parser.parse_args()
    programs = [options.old, options.new]
    models = sorted(path for folder in options.models for path in ([folder] if folder.is_file() else folder.rglob("*.onnx")))
    compared, written, differing = 0, 0, 0

    def report(name, codes, difference):
        nonlocal compared, written, differing
        compared += 1
        written += codes[0] == 0
        if difference:
            differing += 1
            print(f"DIFFERS {name}: {difference}", flush=True)

    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            codes, difference = compare(programs, pathlib.Path(folder), lambda _: [str(model), "--no-verify", "-q"])
            report(model, codes, difference)
    for model, data, preprocess, more in options.prune:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            table = folder / "table.json"
            common = [model, "--data", data, "--preprocess", preprocess, "--threads", "1", "--no-verify", "-q", *shlex.split(more)]
            measured = run([options.old, *common, "--latency-table", str(table), "-o", str(folder / "first.onnx")])

            def arguments(own):
                shutil.copy(table, own / "table.json")
                return [*common, "--latency-table", str(own / "table.json")]

            if not table.exists():
                report(model, [measured.returncode], f"no latency table: {measured.stderr.strip()}")
                continue
            codes, difference = compare(programs, folder, arguments)
            report(f"{model} {more}", codes, difference)
    print(f"{compared} runs compared, {written} of them wrote a file, {differing} differ")
    return 1 if differing or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
