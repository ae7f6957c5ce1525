"""Models as paths, bytes or ``onnx.ModelProto``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from onnx import ModelProto

    AnyModel = Union[str, os.PathLike[str], bytes, ModelProto]
else:
    AnyModel = Any


class Model:
    """A model that was given, as a file that a command can read."""

    def __init__(self, model: Any, folder: Path, name: str = "model.onnx") -> None:
        self.kind = type(model)
        self.is_path = isinstance(model, (str, os.PathLike))
        if self.is_path:
            self.path = os.fspath(model)
            if self.path == "-":  # Commands read their input there, and this is a file.
                self.path = os.path.join(".", "-")
            return
        self.path = str(folder / name)
        if isinstance(model, (bytes, bytearray, memoryview)):
            content = bytes(model)
        elif hasattr(model, "SerializeToString"):
            content = model.SerializeToString()
        else:
            raise TypeError(
                f"a model is a path, bytes or an onnx.ModelProto, not {self.kind.__module__}.{self.kind.__qualname__}"
            )
        Path(self.path).write_bytes(content)

    def shown(self) -> str:
        """The path as reports show it."""
        return self.path if self.is_path else f"<{self.kind.__name__}>"

    def result(self, written: Path, output: Any) -> Any:
        """The written model, of the kind of this one. A path gives bytes, unless the model has a path to be written to."""
        if output is not None:
            return Path(os.fspath(output))
        content = written.read_bytes()
        if hasattr(self.kind, "FromString"):
            return self.kind.FromString(content)
        return content
