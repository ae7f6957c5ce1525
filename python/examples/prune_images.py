"""Prunes the shipped ResNet to 0.8 of its multiply-adds, and runs the result with ONNX Runtime.

    python prune_images.py MODEL.onnx IMAGES.npz RESULT.onnx
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import updp_compile


def main(model: str, images: str, result: str) -> None:
    """Compiles, prunes and runs."""
    merged, report = updp_compile.compile(model)
    print(f"merged: {report.input.nodes} nodes become {report.output.nodes}, {len(merged)} bytes")

    written, report = updp_compile.prune(
        model, images, output=result, preprocess="fashion-mnist", images=400, macs=0.8
    )
    assert report.pruning is not None and report.pruning.fit is not None
    fit = report.pruning.fit
    assert fit.speed is not None
    print(f"pruned: {fit.speed.speedup:.2f} times as fast, accuracy {fit.after.accuracy}")

    session = onnxruntime.InferenceSession(str(written))
    pixels = np.load(images)["input"][:8]
    (logits,) = session.run(None, {session.get_inputs()[0].name: pixels})
    print("classes:", np.argmax(logits, axis=1).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
