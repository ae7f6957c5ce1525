"""Images as paths, arrays or iterables: all become files that a command can read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np

Data = Union[str, "os.PathLike[str]", Iterable[Any]]
"""Images, perhaps with labels:

- the path of a folder, ``.npz``, ``.npy``, IDX file or ``.tar``;
- an array of images, of shape N×C×H×W or N×H×W×C, or a pair of such an array (or a list of images) and N labels;
- an iterable of images, of batches, or of pairs of images and labels, such as a PyTorch ``DataLoader``.

Arrays of floats count as preprocessed; ``uint8`` arrays are pixels, and ``preprocess`` says how they become inputs.
"""

# Names of images and labels in dictionaries, as Hugging Face's datasets have them.
_IMAGES = ("images", "pixel_values", "image", "x", "input", "inputs", "data")
_LABELS = ("labels", "label", "y", "target", "targets")

# An iterable may never end, so it is cut here, in bytes.
_MOST_BYTES = 16 << 30

_HEADER = 192

# Images are copied in pieces of about so many bytes, so that an array on disk need not fit into memory.
_PIECE = 16 << 20


def is_path(data: Any) -> bool:
    """Whether these are the path of images."""
    return isinstance(data, (str, os.PathLike))


def written(data: Any, folder: Path, name: str, most: int | None = None) -> tuple[str, bool]:
    """Writes images into the folder unless they are a path.

    Returns the path, and whether the images are floats, which count as preprocessed. Of an iterable at most ``most`` images are
    taken.
    """
    if is_path(data):
        return os.fspath(data), False
    images = folder / f"{name}.npy"
    labels: list[int] = []
    with images.open("wb") as file:
        rows = _Rows(file)
        for batch, of_batch in _batches(data):
            for piece in _pieces(batch):
                rows.add(piece)
            labels.extend(of_batch)
            if most is not None and rows.count >= most and not _is_array(data):
                break
        rows.finish()
    if not labels:
        return str(images), rows.is_float
    if len(labels) != rows.count:
        raise ValueError(f"there are {rows.count} images and {len(labels)} labels: one label for each image is needed")
    table = folder / f"{name}.npz"
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    with zipfile.ZipFile(table, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.write(images, "images.npy")
        archive.write(folder / "labels.npy", "labels.npy")
    images.unlink()
    return str(table), rows.is_float


class _Rows:
    """A ``.npy`` file that grows by batches. Its header has room for any number of images."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.uint8)
        self.count = 0
        file.write(b" " * _HEADER)

    @property
    def is_float(self) -> bool:
        return self._dtype.kind == "f"

    def add(self, batch: np.ndarray[Any, Any]) -> None:
        if self._shape is None:
            self._shape, self._dtype = batch.shape[1:], batch.dtype
        if batch.shape[1:] != self._shape:
            raise ValueError(
                f"images of one size are needed, here are {self._shape} and {batch.shape[1:]}: "
                "give the folder of the images, which may have any size"
            )
        if batch.dtype != self._dtype:
            raise TypeError(f"images of one type are needed, here are {self._dtype} and {batch.dtype}")
        batch = np.ascontiguousarray(batch)
        self.count += len(batch)
        if self._file.tell() + batch.nbytes > _MOST_BYTES:
            raise ValueError("the images take more than 16 GiB: images=N takes N images of an iterable")
        self._file.write(batch.reshape(-1).data)

    def finish(self) -> None:
        if self._shape is None or self.count == 0:
            raise ValueError("there are no images")
        shape = (self.count, *self._shape)
        text = f"{{'descr': {self._dtype.str!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
        room = _HEADER - 10
        header = b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"
        self._file.seek(0)
        self._file.write(header)


def _is_array(data: Any) -> bool:
    return hasattr(data, "__array__") or isinstance(data, np.ndarray)


def _array(value: Any) -> np.ndarray[Any, Any]:
    """An array of anything that has one, of a type that images have."""
    if hasattr(value, "detach"):  # A PyTorch tensor, perhaps on a device or with a gradient.
        value = value.detach().cpu()
        if str(getattr(value, "dtype", "")).endswith("bfloat16"):  # NumPy has no such type.
            value = value.float()
    if isinstance(value, (str, os.PathLike)):
        raise TypeError(f"images are arrays, not paths such as {value!r}: give the folder of the images")
    if isinstance(value, bytes):
        raise TypeError("images are arrays, and here are bytes: decode them, or give the path of a file or folder")
    array: np.ndarray[Any, Any] = np.asarray(value)
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if not is_float and array.dtype != np.uint8:
        hint = ": astype(np.uint8) makes pixels of numbers from 0 to 255" if array.dtype.kind in "iu" else ""
        raise TypeError(f"images are arrays of uint8 or floats, not of {array.dtype}{hint}")
    if array.ndim < 2:
        raise ValueError(f"an image has two axes or more, and here is an array of shape {array.shape}")
    return array


def _pieces(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Parts of a batch, of a type that files of images have: uint8 or float32."""
    kind = np.dtype(np.uint8 if array.dtype == np.uint8 else np.float32)
    rows = max(1, _PIECE // max(1, array[:1].size * kind.itemsize))
    for at in range(0, max(1, len(array)), rows):
        yield array[at : at + rows].astype(kind, copy=False)


def _batches(data: Any) -> Iterator[tuple[np.ndarray[Any, Any], list[int]]]:
    """Batches of images, each with its labels."""
    if _is_pair(data):
        images, labels = _array(data[0]), _labels(data[1])
        if data[1] is not None and np.ndim(data[1]) == 0:
            images = images[None]
        if data[1] is not None and len(images) != len(labels):
            raise ValueError(f"there are {len(images)} images and {len(labels)} labels: one label for each image is needed")
        yield images, labels
    elif _is_listed_pair(data):
        for image in data[0]:
            yield _array(image)[None], []
        yield _array(data[0][0])[None][:0], _labels(data[1])
    elif _is_array(data):
        yield _array(data), []
    elif isinstance(data, Mapping):
        yield _of_mapping(data)
    elif isinstance(data, Iterable) and not isinstance(data, (bytes, bytearray)):
        for item in data:
            yield _of_item(item)
    else:
        raise TypeError(f"data are a path, an array or an iterable of arrays, not {type(data).__qualname__}")


def _is_pair(data: Any) -> bool:
    """Whether these are images and their labels."""
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and _is_array(data[0])):
        return False
    if data[1] is None:
        return isinstance(data, tuple)
    first, second = np.ndim(data[0]), np.ndim(data[1])
    # A table beside four axes is labels of another form, which gets its own message.
    return second == 1 and first >= 3 or second == 0 and first >= 2 or second == 2 and first >= 4


def _is_listed_pair(data: Any) -> bool:
    """Whether these are a list of images and their labels."""
    if not (isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (list, tuple)) and len(data[0]) > 0):
        return False
    return _is_array(data[0][0]) and np.ndim(data[0][0]) >= 2 and _is_flat(data[1])


def _is_flat(value: Any) -> bool:
    """Whether this is a row of numbers, such as labels."""
    return np.ndim(value) == 1 if _is_array(value) else isinstance(value, (list, tuple)) and all(np.ndim(each) == 0 for each in value)


def _of_item(item: Any) -> tuple[np.ndarray[Any, Any], list[int]]:
    """One item of an iterable: an image or a batch, perhaps with labels."""
    if isinstance(item, Mapping):
        return _of_mapping(item)
    if isinstance(item, (tuple, list)) and len(item) > 0:
        labels = _labels(item[1]) if len(item) > 1 else []
        return _batch(_array(item[0])), labels
    return _batch(_array(item)), []


def _of_mapping(item: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], list[int]]:
    images = next((item[name] for name in _IMAGES if name in item), None)
    if images is None:
        raise ValueError(f"no images among {sorted(item, key=str)}: their name is one of {', '.join(_IMAGES)}")
    labels = next((item[name] for name in _LABELS if name in item), None)
    return _batch(_array(images)), _labels(labels)


def _batch(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A batch; two or three axes are one image."""
    return array[None] if array.ndim in (2, 3) else array


def _labels(value: Any) -> list[int]:
    """Class numbers; no labels may be ``None``."""
    if value is None:
        return []
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    labels = np.atleast_1d(np.asarray(value))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        hint = ": argmax(axis=1) makes class numbers of scores" if labels.ndim == 2 and labels.shape[1] > 1 else ""
        raise ValueError(f"labels are class numbers, one for each image, not {labels.dtype} of shape {labels.shape}{hint}")
    return [int(label) for label in labels]
