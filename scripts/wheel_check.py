#!/usr/bin/env python3
"""Installs a wheel into an empty virtual environment, without compilers on the path, and tests it there.

    scripts/wheel_check.py FOLDER    FOLDER holds one wheel

First without ONNX Runtime: the command and the module work with the built-in runtime. Then with it: python/tests, the examples and
the snippets of README.md and docs/python.md run, and `mypy --strict` reads the examples.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
REPVGG = FIXTURES / "trained" / "fmnist_repvgg.bn.onnx"
RESNET = FIXTURES / "trained" / "fmnist_resnet.bn.onnx"
TABLE = FIXTURES / "fmnist_test_1000.npz"
REQUIREMENTS = ROOT / "scripts" / "requirements-wheel-check.txt"


class Environment:
    """A virtual environment of its own; nothing of the caller's is seen."""

    def __init__(self, folder):
        self.folder, self.bin = folder, folder / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.variables = {"PATH": str(self.bin), "HOME": str(folder), "TMPDIR": str(folder), "FIXTURES": str(FIXTURES)}

    def run(self, *words, **options):
        print("$", *[str(word) for word in words], flush=True)
        return subprocess.run([str(word) for word in words], env=self.variables, cwd=self.folder, check=True, **options)

    def pip(self, *words):
        self.run(self.bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *words)

    def program(self, *words, **options):
        return self.run(self.bin / "updp-compile", *words, **options)

    def python(self, *words, **options):
        return self.run(self.bin / "python", *words, **options)


def pinned(names):
    """The requirements of some packages, with their hashes."""
    text = REQUIREMENTS.read_text()
    blocks = re.findall(r"^[a-z][\w.-]*==(?:.*\\\n)(?:    --hash.*\n)+", text, re.MULTILINE)
    chosen = [block for block in blocks if block.split("==")[0] in names]
    assert {block.split("==")[0] for block in chosen} == set(names), names
    return "".join(chosen)


def without_runtime(environment, wheel):
    """What works with Python and the wheel only."""
    few = environment.folder / "few.txt"
    few.write_text(pinned(["numpy", "tqdm"]))
    environment.pip("--require-hashes", "-r", few)
    environment.pip("--no-deps", "--no-index", wheel)
    environment.python("-m", "pip", "check")
    environment.program("--version")
    told = environment.program(REPVGG, "-o", "out.onnx", capture_output=True, text=True)
    assert "tract" in told.stdout + told.stderr, told
    lines = f"import updp_compile\nmodel, report = updp_compile.compile({str(REPVGG)!r})\nassert 'tract' in report.verification.runtime"
    environment.python("-c", lines)


def with_runtime(environment):
    """Everything else."""
    environment.pip("--require-hashes", "-r", REQUIREMENTS)
    environment.python("-m", "pip", "check")
    environment.python("-m", "unittest", "discover", "-s", ROOT / "python" / "tests", "--failfast")
    examples = ROOT / "python" / "examples"
    environment.python(examples / "prune_images.py", RESNET, TABLE, "result.onnx")
    environment.python(examples / "data_loader.py", RESNET, TABLE)
    environment.python("-m", "mypy", "--strict", "--cache-dir", environment.folder / "mypy", *sorted(examples.glob("*.py")))
    environment.python("-m", "mypy", "--strict", "--cache-dir", environment.folder / "mypy", "-p", "updp_compile")
    snippets(environment)


def snippets(environment):
    """Runs the Python of the README and of docs/python.md, each in order as one session. `py` needs other packages."""
    shutil.copy(RESNET, environment.folder / "model.onnx")
    shutil.copy(TABLE, environment.folder / "images.npz")
    for name in ("README.md", "docs/python.md"):
        found = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
        assert found, f"{name} has no snippets"
        environment.python("-c", "\n".join(found))


def main():
    wheels = list(Path(sys.argv[1]).resolve().glob("*.whl"))
    assert len(wheels) == 1, f"one wheel is needed: {wheels}"
    subprocess.run([sys.executable, ROOT / "scripts" / "python_documents.py", "--check"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(Path(folder))
        for tool in ("cc", "cargo", "rustc"):
            assert shutil.which(tool, path=environment.variables["PATH"]) is None, tool
        without_runtime(environment, wheels[0])
        with_runtime(environment)
    print("the wheel works")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main()
