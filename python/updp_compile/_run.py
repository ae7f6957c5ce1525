"""Runs a job: keyword arguments become options, and the document becomes a report."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from . import _native
from ._data import is_path, written
from ._errors import UpdpError, UpdpWarning, error_of
from ._options import REPEATED
from ._progress import Listener, Progress, caller_level

_is_prepared = False
_PREPARING = threading.RLock()

# Options for which an empty list says nothing.
_MAY_BE_EMPTY = ("skip", "freeze", "freeze_weights")


def prepare() -> None:
    """Finds what belongs to this interpreter, once: its ONNX Runtime, and the program that was installed with this module."""
    global _is_prepared
    with _PREPARING:
        if not _is_prepared:
            _is_prepared = True
            _prefer_own_runtime()
            _use_worker()


def _prefer_own_runtime() -> None:
    """Names the ONNX Runtime of this interpreter, without importing it."""
    try:
        package = importlib.util.find_spec("onnxruntime")
    except (ImportError, ValueError):  # A module without a specification, such as a stand-in in tests.
        return
    for folder in (package.submodule_search_locations or []) if package else []:
        library = Path(folder) / "capi"
        if library.is_dir():
            _native.prefer_library_folder(library)
            return


def _use_worker() -> None:
    """Finds the program of this module: it runs models, so that a crash of a runtime does not end Python."""
    try:
        files = metadata.files("updp-compile") or []
    except metadata.PackageNotFoundError:
        files = []
    names = ("updp-compile", "updp-compile.exe")
    programs = [Path(str(file.locate())) for file in files if file.name in names]
    # `pip install --target FOLDER` puts programs into FOLDER/bin, and its list of files says otherwise.
    programs += [Path(__file__).parent.parent / "bin" / name for name in names]
    for program in programs:
        if os.access(program, os.X_OK):
            _native.use_worker(program.resolve())
            return
    warnings.warn(
        "the program updp-compile was not installed with this module, so models run in this process, and a crash of a "
        "runtime ends it; install the wheel",
        UpdpWarning,
        stacklevel=caller_level(),
    )


class Scratch:
    """A folder for the files of one job."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="updp-")
        self.path = Path(self._folder.name)
        self._count = 0
        self.shown: dict[str, str] = {}
        """Files here, and how messages name them."""

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def array(self, name: str, value: Any) -> str:
        """An array as a file."""
        self._count += 1
        path = self.path / f"array{self._count}.npy"
        np.save(path, _native_array(name, value))
        self.shown[str(path)] = f"<{name}>"
        return str(path)

    def images(self, name: str, value: Any, most: int | None = None) -> tuple[str, bool]:
        """Images as a file: the path, and whether they are floats."""
        path, is_float = written(value, self.folder(name), name, most)
        if not is_path(value):
            self.shown[path] = f"<{name}>"
        return path, is_float

    def folder(self, name: str) -> Path:
        """A folder inside."""
        path = self.path / name
        path.mkdir()
        return path


def arguments(options: Mapping[str, Any], known: Iterable[str], scratch: Scratch) -> list[str]:
    """Options as a command takes them. ``None`` and ``False`` leave an option out."""
    names = set(known)
    words: list[str] = []
    for name, value in options.items():
        if name not in names:
            raise TypeError(f"there is no option {name!r}{_similar(name, names)}")
        if isinstance(value, np.generic) or isinstance(value, np.ndarray) and value.ndim == 0 and name != "val":
            value = value.item()
        if value is None or value is False:
            continue
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        else:
            words.extend(f"{option}={text}" for text in _texts(name, value, scratch))
    return words


def _similar(name: str, names: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; the options are {', '.join(sorted(names))}"


def _texts(name: str, value: Any, scratch: Scratch) -> list[str]:
    """The values of an option."""
    if name == "val":
        return [scratch.images(name, value)[0]]
    if isinstance(value, Mapping):
        return _of_mapping(name, value, scratch)
    if isinstance(value, (str, os.PathLike)):
        return [os.fspath(value)]
    if isinstance(value, (bytes, bytearray, memoryview)) or callable(value):
        raise TypeError(f"{name} is no {type(value).__qualname__}")
    if isinstance(value, Iterable):
        each_of = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        if name.startswith("input") and not all(isinstance(each, (str, os.PathLike)) for each in each_of):
            raise TypeError(f"{name} is a dictionary by the names of inputs")
        if not each_of and name in _MAY_BE_EMPTY:
            return []
        texts = [os.fspath(each) if isinstance(each, os.PathLike) else str(each) for each in each_of]
        return texts if name in REPEATED else [",".join(texts)]
    return [str(value)]


def _native_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A contiguous array of numbers in the byte order of this machine."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} is an array of numbers, not of {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _of_mapping(name: str, value: Mapping[str, Any], scratch: Scratch) -> list[str]:
    """Values by the name of an input or an output."""
    if name == "input_shape":
        return [f"{key}:{dims if isinstance(dims, str) else ','.join(str(dim) for dim in dims)}" for key, dims in value.items()]
    if name == "input_data":
        path = scratch.path / "input_data.npz"
        _save_all(path, {key: _native_array(f"input_data of {key!r}", each) for key, each in value.items()})
        scratch.shown[str(path)] = "<input_data>"
        return [str(path)]
    if name == "input":
        return [f"{key}={each if isinstance(each, (str, os.PathLike)) else scratch.array(key, each)}" for key, each in value.items()]
    if name == "outputs":
        return [",".join(f"{key}={weight}" for key, weight in value.items())]
    raise TypeError(f"{name} is no dictionary")


def _save_all(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Writes an ``.npz`` whose arrays may have any names; ``np.savez`` keeps ``file`` for itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def run(words: Sequence[str], progress: Progress, shown: Mapping[str, str]) -> tuple[dict[str, Any] | None, UpdpError | None]:
    """Runs a command. Paths of temporary files are replaced in what it tells, as ``shown`` says.

    Raises an :class:`UpdpError` if there is no document.
    """
    prepare()
    listener = Listener(progress, shown)
    try:
        text, failure = _native.run(list(words), listener)
    finally:
        listener.close()
    if failure is not None:
        code, message, cure, exit_code = failure
        for path, name in shown.items():
            message = message.replace(path, name)
        failure = (code, message, cure, exit_code)
    error = None if failure is None else error_of(failure)
    if text is None:
        if error is not None:
            raise error
        return None, None
    for path, name in shown.items():
        text = text.replace(json.dumps(path)[1:-1], json.dumps(name)[1:-1])
    return json.loads(text), error
