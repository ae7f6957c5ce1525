"""Compares two ONNX models output by output on a folder of images.

For each float output: cosine and relative RMS error ‖a − b‖ / ‖a‖ over all images, and the same for the values centred by their
mean over the images, where an output that is nearly constant shows what is lost.

    python scripts/compare_outputs.py a.onnx b.onnx IMAGES --scale 1,0 --count 40 [--shape 1,3,320,320] [--bgr]

An input value is pixel / 255 · s + o for `--scale s,o`, or s and o of each channel. Needs numpy, onnxruntime and Pillow.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image


def compared(a, b, files, scale, offset, shape=None, bgr=False):
    """Name, cosine, relative RMS, centred cosine and centred relative RMS of each float output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [ort.InferenceSession(str(path), options, ["CPUExecutionProvider"]) for path in (a, b)]
    given = sessions[0].get_inputs()[0]
    shape = [1, *(shape or given.shape)[1:]]
    channels_last = shape[-1] in (1, 3)
    height, width = shape[1:3] if channels_last else shape[2:4]
    channels = shape[-1] if channels_last else shape[1]

    def read(path):
        image = Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height), Image.BILINEAR)
        pixels = np.asarray(image, np.float32).reshape(height, width, channels) / 255
        if bgr:
            pixels = pixels[:, :, ::-1]
        pixels = (pixels * scale + offset).astype(np.float32)
        return (pixels if channels_last else pixels.transpose(2, 0, 1))[None]

    results = [[], []]
    for path in files:
        image = read(path)
        for session, found in zip(sessions, results):
            found.append(session.run(None, {given.name: image}))
    for at, output in enumerate(sessions[0].get_outputs()):
        if not output.type.startswith("tensor(float"):
            continue
        a, b = (np.stack([r[at] for r in found]).astype(np.float64) for found in results)
        row = [output.name]
        for x, y in ((a, b), (a - a.mean(0), b - b.mean(0))):
            cosine = (x * y).sum() / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30)
            row += [cosine, np.linalg.norm(x - y) / max(np.linalg.norm(x), 1e-30)]
        yield row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("images")
    parser.add_argument("--scale", default="1,0")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--shape")
    parser.add_argument("--bgr", action="store_true")
    arguments = parser.parse_args()
    numbers = [float(v) for v in arguments.scale.split(",")]
    scale, offset = np.array(numbers[: len(numbers) // 2]), np.array(numbers[len(numbers) // 2 :])
    shape = [int(d) for d in arguments.shape.split(",")] if arguments.shape else None
    files = sorted(p for p in Path(arguments.images).iterdir() if p.suffix == ".jpg")[: arguments.count]
    for name, *numbers in compared(arguments.a, arguments.b, files, scale, offset, shape, arguments.bgr):
        print(name, *(f"{number:.4f}" for number in numbers))


if __name__ == "__main__":
    main()
