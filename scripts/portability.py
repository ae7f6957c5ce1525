#!/usr/bin/env python3
"""Checks that the program and the Python module compile for Windows and macOS (`cargo check`; nothing is linked or run).

    scripts/portability.py

It needs the standard libraries of the targets (`rustup target add`) and the package `ziglang`, whose C compiler assembles tract's
kernels for other systems.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TARGETS = {"x86_64-pc-windows-gnu": "x86_64-windows-gnu", "aarch64-apple-darwin": "aarch64-macos"}

# Zig's own -target takes the place of clang's options for a target.
COMPILER = """#!{python}
import os, sys
words, given = [], iter(sys.argv[1:])
for word in given:
    if word in ("-arch", "-isysroot"):
        next(given)
    elif not word.startswith(("--target=", "-m64", "-mmacosx")):
        words.append(word)
os.execv({python!r}, [{python!r}, "-m", "ziglang", "cc", "-target", {target!r}, *words])
"""
ARCHIVER = '#!/bin/sh\nexec "{python}" -m ziglang ar "$@"\n'


def tool(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def main():
    subprocess.run(["rustup", "target", "add", *TARGETS], check=True)
    with tempfile.TemporaryDirectory() as folder:
        archiver = tool(Path(folder) / "ar", ARCHIVER.format(python=sys.executable))
        for target, zig in TARGETS.items():
            compiler = tool(Path(folder) / f"cc-{target}", COMPILER.format(python=sys.executable, target=zig))
            name = target.replace("-", "_")
            environment = dict(os.environ, SDKROOT="/", **{f"CC_{name}": compiler, f"AR_{name}": archiver})
            words = ["cargo", "check", "--locked", "--target", target, "-p", "updp-compile", "-p", "updp-python"]
            subprocess.run(words, env=environment, check=True)
            print(f"{target}: compiles")


if __name__ == "__main__":
    main()
