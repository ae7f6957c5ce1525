#!/usr/bin/env python3
"""Puts what the wheel holds beside the Python module: the program, without symbols, and the licences.

    scripts/wheel_files.py PROGRAM
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    program = Path(sys.argv[1])
    scripts = ROOT / "python" / "updp_compile.data" / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    target = scripts / program.name
    target.unlink(missing_ok=True)
    if shutil.which("strip"):
        subprocess.run(["strip", "-o", target, program], check=True)
    else:
        shutil.copy2(program, target)
    licences = ROOT / "python" / "licenses"
    licences.mkdir(exist_ok=True)
    for file in [*ROOT.glob("LICENSE*"), ROOT / "target" / "THIRD_PARTY_LICENSES.txt"]:
        if file.exists():
            shutil.copy2(file, licences / file.name)


if __name__ == "__main__":
    main()
