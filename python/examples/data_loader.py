"""Prunes with the batches of any iterable, such as a PyTorch DataLoader, and follows the work.

    python data_loader.py MODEL.onnx IMAGES.npz
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import updp_compile

Array = npt.NDArray[Any]


def batches(images: Array, labels: Array, size: int) -> Iterator[tuple[Array, Array]]:
    """What a DataLoader gives: images that are preprocessed, and their labels."""
    for start in range(0, len(images), size):
        yield images[start : start + size], labels[start : start + size]


def told(event: updp_compile.Event) -> None:
    """Prints the stages of the work."""
    if event.kind == "stage":
        print(f"{event.done} of {event.total}: {event.text}")


def main(model: str, images: str) -> None:
    """Prunes two blocks."""
    table = np.load(images)
    loader = batches(table["input"], table["labels"], 64)
    try:
        pruned, report = updp_compile.prune(model, loader, progress=told, images=256, blocks=[1, 2])
    except updp_compile.UpdpError as error:
        raise SystemExit(f"{error.code}: {error.message}; {error.cure}") from error
    print(f"{len(pruned)} bytes; {report.output.macs / report.input.macs:.2f} of the multiply-adds are left")


if __name__ == "__main__":
    main(*sys.argv[1:])
