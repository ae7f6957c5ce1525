"""Make `fixtures/fmnist_test_<N>.npz`, the part of the Fashion-MNIST test set that the tests and the demo use.

    apt-get install dataset-fashion-mnist
    python3 scripts/make_fmnist_fixture.py [--count 1000] [--out fixtures]

Reads the IDX files of the Debian package. The archive holds `input` (f32 [N, 1, 28, 28], preprocessed for the networks of
`fixtures/trained`: (pixel / 255 - 0.45) / 0.25) and `labels` (int64 [N]). The same input gives the same bytes.
Needs numpy.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

DATASET = Path("/usr/share/datasets/fashion-mnist")
MEAN = 0.45
STD = 0.25


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped IDX file of unsigned bytes (magic: 0, 0, type 8, rank; then the dims, big-endian u32)."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    rank = raw[3]
    dims = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(dims)


def main() -> None:
    """Write the archive and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="how many test images, from the first (default 1000)")
    parser.add_argument("--dataset", type=Path, default=DATASET, help=f"folder of the IDX files (default {DATASET})")
    parser.add_argument("--out", type=Path, default=Path("fixtures"), help="folder to write into (default fixtures)")
    arguments = parser.parse_args()

    images = read_idx(arguments.dataset / "t10k-images-idx3-ubyte.gz")[: arguments.count]
    labels = read_idx(arguments.dataset / "t10k-labels-idx1-ubyte.gz")[: arguments.count]
    pixels = images.astype(np.float32)[:, None]  # [N, 1, 28, 28]
    scaled = ((pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)
    path = arguments.out / f"fmnist_test_{len(images)}.npz"
    np.savez_compressed(path, input=scaled, labels=labels.astype(np.int64))
    print(f"{path}: {len(images)} images, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
