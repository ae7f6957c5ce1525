"""A recipe, run by hand: trains a timm network with PyTorch, exports it, prunes it with the DataLoader, and runs it.

    pip install torch timm onnx onnxscript 'updp-compile[ort]'
    python recipe_timm.py FOLDER    FOLDER holds Fashion-MNIST as IDX files
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
import updp_compile
from torch.utils.data import DataLoader, TensorDataset


def loader(folder: Path, name: str, count: int, is_shuffled: bool) -> DataLoader:
    """Normalized images with labels."""
    pixels = np.frombuffer(gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28)[:count].astype(np.float32) / 255)
    dataset = TensorDataset((images - 0.45) / 0.25, torch.from_numpy(labels[:count].astype(np.int64)))
    return DataLoader(dataset, batch_size=64, shuffle=is_shuffled)


def train(model: torch.nn.Module, images: DataLoader, epochs: int) -> None:
    """A plain training."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for batch, labels in images:
            loss = torch.nn.functional.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")


def main(folder: str) -> None:
    """Trains, exports, prunes and compares."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", in_chans=1, num_classes=10)
    training = loader(Path(folder), "train", 12_000, is_shuffled=True)
    train(model.train(), training, 2)

    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model.eval(), (torch.zeros(2, 1, 28, 28),), dynamo=True, input_names=["input"], output_names=["logits"],
        dynamic_shapes=({0: batch},),
    )
    original = program.model_proto

    # The loader without shuffling gives the same images in each run.
    calibration = loader(Path(folder), "train", 12_000, is_shuffled=False)
    pruned, report = updp_compile.prune(original, calibration, images=500, speedup=1.3, threads=1)
    fit = report.pruning.fit
    print(f"said: {fit.speed.speedup:.2f} times as fast; {[f'{row.index}: {row.form}' for row in report.pruning.blocks]}")

    test = loader(Path(folder), "t10k", 10_000, is_shuffled=False)
    scores = updp_compile.evaluate(original, test, pruned)
    speed = updp_compile.benchmark(original, pruned, threads=1)
    before, after = (100 * (each.top1 or 0) for each in scores.models)
    print(f"10,000 test images: {before:.2f} -> {after:.2f} %; again by the clock: {speed.models[1].speedup:.2f}")
    session = onnxruntime.InferenceSession(pruned.SerializeToString())
    images, labels = next(iter(test))
    (logits,) = session.run(None, {"input": images.numpy()})
    print("ONNX Runtime:", (logits.argmax(1) == labels.numpy()).mean())


if __name__ == "__main__":
    main(*sys.argv[1:])
