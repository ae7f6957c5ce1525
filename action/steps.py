#!/usr/bin/env python3
"""The steps of the GitHub Action: `steps.py install` and `steps.py run`. They need nothing but Python.

Inputs come as environment variables (UPDP_MODEL, UPDP_ARGS, ...; action.yml lists them). Outputs are appended to the file
that GITHUB_OUTPUT names, the summary to the file that GITHUB_STEP_SUMMARY names. Without them both are printed, so the
steps run on any machine. docs/ci.md explains the action.
"""
import glob
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile

EXIT_CODES = {
    1: ("a bug of updp-compile", "Please report it, with the log of this step."),
    2: ("wrong usage, or a file that cannot be read or written", "Check the inputs of the action and the options in args."),
    3: ("the model cannot be read", "Check the path and the file; a checkout without Git LFS leaves pointers."),
    4: ("the model has something that is not supported", "See the findings below, or the log of this step."),
    5: ("the result is not the same function, so nothing was written", "Please report it, with the model if possible."),
    6: ("there is nothing to prune, or less than was asked for", "updp-compile inspect MODEL lists the blocks."),
    7: ("a gate was missed", "The model was written all the same. Relax the gate, or keep the model as it was."),
    8: ("no runtime could verify the result", "Install onnxruntime in a step before this one."),
    130: ("interrupted", "Run the step again."),
}


class Failure(Exception):
    """Stops a step: the message for the user, and the exit code."""

    def __init__(self, message, code=2):
        super().__init__(message)
        self.code = code


def setting(name, default=""):
    return os.environ.get(f"UPDP_{name}", "").strip() or default


def append(variable, text):
    """Appends to the file that a variable of GitHub names; prints where there is none."""
    path = os.environ.get(variable)
    if not path:
        print(text, end="")
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def set_outputs(values):
    # A random delimiter: a value can neither end its text early nor set another output.
    mark = f"end-{secrets.token_hex(8)}"
    lines = (f"{name}<<{mark}\n{'' if value is None else value}\n{mark}\n" for name, value in values.items())
    append("GITHUB_OUTPUT", "".join(lines))


def annotate(level, title, message):
    """A message at the top of the page of the run; elsewhere a line of the log."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        print(f"{level}: {title}: {message}", file=sys.stderr, flush=True)
        return
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{level} title=updp-compile%3A {title.replace('%', '%25').replace(':', '%3A').replace(',', '%2C')}::{escaped}", flush=True)


def version_of(program):
    try:
        ran = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(f"{program} does not run: {error}") from error
    return ran.stdout.split()[-1]


def the_file(pattern):
    """The one file that a path or a pattern names; `None` if it names no file."""
    found = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if len(found) > 1:
        raise Failure(f"install: {pattern} names {len(found)} files: {', '.join(found)}")
    return os.path.abspath(found[0]) if found else None


def pip_install(requirement):
    """Installs into an environment of its own: the Python of a runner may be closed to pip, and stays as it is."""
    home = tempfile.mkdtemp(prefix="updp-compile-", dir=os.environ.get("RUNNER_TEMP"))
    folder = os.path.join(home, "Scripts" if os.name == "nt" else "bin")
    python = os.path.join(folder, "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--only-binary", ":all:", requirement]
    for words in ([sys.executable, "-m", "venv", home], pip):
        if subprocess.run(words, check=False).returncode != 0:
            raise Failure(f"{requirement} cannot be installed: {shlex.join(words)} failed")
    program = shutil.which("updp-compile", path=folder)
    if not program:
        raise Failure(f"{requirement} brings no program updp-compile")
    return program


def environment(program):
    """The variables for a program: in an environment of Python it looks for ONNX Runtime there."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(program)))
    if not os.path.isfile(os.path.join(home, "pyvenv.cfg")):
        return None
    return {**os.environ, "VIRTUAL_ENV": home}


def install():
    """Installs the program, checks its version and sets the outputs program and version."""
    wanted, version = setting("INSTALL"), setting("VERSION").removeprefix("v")
    bare, bracket, extras = wanted.partition("[")
    if not wanted:
        program = pip_install("updp-compile[ort]" + (f"=={version}" if version else ""))
    elif bare.endswith(".whl"):
        wheel = the_file(bare)
        if not wheel:
            raise Failure(f"install: there is no wheel {bare}")
        program = pip_install(wheel + (bracket + extras if bracket else "[ort]"))
    elif path := the_file(wanted):
        program = path
    elif "/" in wanted and "@" not in wanted:
        raise Failure(f"install: there is no file {wanted}")
    else:
        program = pip_install(wanted)
    found = version_of(program)
    if version and found != version:
        raise Failure(f"version {version} is asked for, and {program} has {found}")
    print(f"updp-compile {found}: {program}", flush=True)
    set_outputs({"program": program, "version": found})


def command_line(program):
    """The arguments of the run, and the paths of the report and of the page (`None` without)."""
    model, output, data = setting("MODEL"), setting("OUTPUT", "compiled.onnx"), setting("DATA")
    if not model:
        raise Failure("the input model is missing")
    command = setting("COMMAND", "prune" if data else "compile")
    if command not in ("compile", "prune"):
        raise Failure(f"command is compile or prune, not {command}")
    if data and command == "compile":
        raise Failure("data is for command prune; inputs to verify with go into args: --input-data FILE")
    report = setting("REPORT", "updp-report.json")
    if not report.endswith(".json"):
        raise Failure(f"report ends in .json, not {report}")
    page = report.removesuffix(".json") + ".html" if data else None
    try:
        more = shlex.split(setting("ARGS"))
    except ValueError as error:
        raise Failure(f"args: {error}") from error
    for option in ("--report", "--output", "-o"):
        if any(word == option or word.startswith(f"{option}=") for word in more):
            raise Failure(f"{option} in args: use the inputs report and output of the action")
    words = [program, command, model, "-o", output, "--report", report]
    words += (["--report", page] if page else []) + (["--data", data] if data else [])
    return words + more, output, report, page


def run_program(words):
    """Runs it and lets its lines through. Returns the exit code and the lines of its errors."""
    print("$ " + shlex.join(words), flush=True)
    # Nothing that the program prints may act as a command of the runner.
    token = secrets.token_hex(16) if os.environ.get("GITHUB_ACTIONS") == "true" else None
    if token:
        print(f"::stop-commands::{token}", flush=True)
    complaints, is_error = [], False
    try:
        ran = subprocess.Popen(words, env=environment(words[0]), stderr=subprocess.PIPE, text=True, encoding="utf-8",
                               errors="replace")
        for line in ran.stderr:
            print(line, end="", flush=True)
            is_error = line.startswith("error[") or (is_error and line.startswith("help: "))
            if is_error:
                complaints.append(line.rstrip())
        code = ran.wait()
        # As a shell tells that a signal ended the program.
        code = code if code >= 0 else 128 - code
    except OSError as error:
        raise Failure(f"{words[0]} does not start: {error}") from error
    finally:
        if token:
            print(f"::{token}::", flush=True)
    return code, complaints


def cell(text):
    """Text that is safe in a table: nothing in it is Markdown or HTML."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", text).replace("&", "&amp;")


def size(number):
    for unit, bytes_of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= bytes_of:
            return f"{number / bytes_of:.2f} {unit}"
    return f"{number} bytes"


def change(before, after):
    return f"{(after - before) / before:+.1%}".replace("-", "−") if before else ""


def points(before, after):
    return f"{100 * (after - before):+.2f} points".replace("-", "−")


def rows(report):
    """The rows of the table: name, before, after, change."""
    before, after = report["input"], report["output"]
    for name, field in (("Nodes", "nodes"), ("Parameters", "parameters"), ("Multiply-adds", "macs")):
        yield name, f"{before[field]:,}", f"{after[field]:,}", change(before[field], after[field])
    yield "File size", size(before["bytes"]), size(after["bytes"]), change(before["bytes"], after["bytes"])
    fit = report.get("pruning", {}).get("fit") or {}
    if speed := fit.get("speed"):
        threads = speed["threads"]
        how = f"{threads} thread{'' if threads == 1 else 's'}, batch {speed['batch']}, against the exactly compiled model"
        times = f"{speed['speedup']:.2f} times as fast ({speed['low']:.2f} to {speed['high']:.2f}; {how})"
        yield "Latency", f"{speed['before_ms']:.3f} ms", f"{speed['after_ms']:.3f} ms", times
    if fit:
        scores = (fit["before"], fit["after"])
        for name, field in (("Accuracy", "accuracy"), ("Top-5", "top5"), ("Agreement", "agreement"), ("Overlap", "overlap")):
            a, b = (score[field] for score in scores)
            # Agreement and overlap are with the input model: they say little beside an accuracy.
            if a is not None and b is not None and not (field == "overlap" and scores[1]["agreement"] is not None):
                yield f"{name} ({scores[1]['images']} images)", f"{a:.2%}", f"{b:.2%}", points(a, b)
    gates = report.get("gates") or {}
    if gates.get("speedup") is not None:
        yield "Speed against the input file", "1", f"{gates['speedup']:.3f}", f"at least {gates['min_speedup']} asked for"
    if score := gates.get("score"):
        yield "Score of the command", f"{score['before']:g}", f"{score['after']:g}", f"{score['after'] - score['before']:+g}"


def verification(report):
    """The verification as a sentence."""
    found = report["verification"]
    worst = max((output["relative"] for output in found["outputs"]), default=0.0)
    limit = max((output["limit"] for output in found["outputs"]), default=0.0)
    numbers = f"{found['runs']} runs in {found['runtime']}, largest difference {worst:.1e} (limit {limit:g})"
    pruned = " The merged model is compared with the pruned one." if "pruning" in report else ""
    return {
        "passed": f"passed: {numbers}.{pruned}",
        "local": f"passed part by part: {numbers}.{pruned}",
        "unchanged": "nothing was rewritten, so there was nothing to compare.",
        "skipped": "skipped (--no-verify).",
    }[found["status"]]


def missed(report):
    """The missed goals and gates of a report, in words."""
    fit = report.get("pruning", {}).get("fit") or {}
    return fit.get("missed", []) + (report.get("gates") or {}).get("missed", [])


def reasons(complaints, report):
    """Why a run failed: what the report names as missed, else what the program said."""
    return [f"missed: {line}" for line in (missed(report) if report else [])] or complaints


def failure_lines(code, complaints, report):
    meaning, cure = EXIT_CODES.get(code, (f"exit code {code}", "See the log of this step."))
    yield f"**Failed: {cell(meaning)}** (exit code {code}). {cure}"
    for line in reasons(complaints, report):
        yield f"- {cell(line)}"


def summary(words, code, complaints, report):
    """The page of the job, in Markdown."""
    out = [f"### updp-compile: {cell(words[2])}", ""]
    if code:
        out += [*failure_lines(code, complaints, report), ""]
    if report:
        out += ["| | before | after | change |", "|---|---:|---:|---|"]
        out += [f"| {' | '.join(cell(text) for text in row)} |" for row in rows(report)]
        out += ["", f"**Verification** {cell(verification(report))}"]
        blocks = report.get("pruning", {}).get("blocks", [])
        if blocks:
            names = ", ".join(f"{block['index']} ({block['name']}: {block['form']})" for block in blocks)
            out += ["", f"**Pruned blocks** {cell(names)}"]
        for finding in (report.get("deploy") or {}).get("findings", []):
            if finding["severity"] != "note":
                out.append(f"- {finding['severity']}: {cell(finding['what'])}. {cell(finding['cure'])}")
        warnings = report["warnings"]
        if warnings:
            out += ["", f"<details><summary>{len(warnings)} warnings</summary>", ""]
            out += [f"- {cell(text)}" for text in warnings] + ["", "</details>"]
        rewrites = report["rewrites_by_rule"]
        if rewrites:
            out += ["", f"<details><summary>{sum(rewrites.values())} rewrites</summary>", "", "| rule | times |", "|---|---:|"]
            out += [f"| {cell(rule)} | {count} |" for rule, count in rewrites.items()] + ["", "</details>"]
        tool = report["tool"]
        out += ["", f"{tool['name']} {cell(tool['version'])}"]
    return "\n".join(out) + "\n"


def read_report(path):
    """The report, `None` if the run wrote none."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    if report.get("schema") != "updp-report/2":
        raise Failure(f"{path} has the schema {report.get('schema')}; this action reads updp-report/2")
    return report


def outputs(code, report, output, path, page):
    fit = (report or {}).get("pruning", {}).get("fit") or {}
    gates = (report or {}).get("gates") or {}
    speed = (fit.get("speed") or {}).get("speedup", gates.get("speedup"))
    after = (report or {}).get("output", {})
    return {
        "model": output if report else None,
        "report": path if report else None,
        "page": page if report and page and os.path.isfile(page) else None,
        "exit-code": code,
        "verification": report["verification"]["status"] if report else None,
        "nodes": after.get("nodes"),
        "bytes": after.get("bytes"),
        "macs": after.get("macs"),
        "speedup": speed,
        "accuracy": (fit.get("after") or {}).get("accuracy"),
    }


def run():
    """Runs the program, writes outputs and summary, and returns the program's exit code."""
    program = setting("PROGRAM", shutil.which("updp-compile"))
    if not program:
        raise Failure("updp-compile is not installed: run the step install first")
    words, output, path, page = command_line(program)
    # What an earlier run left must not pass as the report of this one.
    for old in filter(None, (path, page)):
        if os.path.isfile(old):
            os.remove(old)
    code, complaints = run_program(words)
    report = read_report(path)
    set_outputs(outputs(code, report, output, path, page))
    append("GITHUB_STEP_SUMMARY", summary(words, code, complaints, report))
    if code:
        meaning, cure = EXIT_CODES.get(code, (f"exit code {code}", "See the log of this step."))
        annotate("error", f"{meaning} (exit code {code})", "\n".join([*reasons(complaints, report), cure]))
    return code


def main():
    steps = {"install": install, "run": run}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return steps[sys.argv[1]]() or 0
    except Failure as failure:
        annotate("error", f"the step {sys.argv[1]} failed", str(failure))
        append("GITHUB_STEP_SUMMARY", f"### updp-compile\n\n**Failed** {cell(failure)}\n")
        return failure.code


if __name__ == "__main__":
    sys.exit(main())
