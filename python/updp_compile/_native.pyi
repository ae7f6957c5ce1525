"""The native half: commands of the command line."""

from collections.abc import Callable, Sequence
from os import PathLike

VERSION: str

def run(
    arguments: Sequence[str], listener: Callable[[str, str, int, int], None]
) -> tuple[str | None, tuple[str, str, str | None, int] | None]:
    """Runs one command and returns its JSON document and its failure: code, message, cure, exit code.

    The listener is called with each event: kind (``stage``, ``progress``, ``message`` or ``warning``), text, number of finished
    steps, number of steps (0 = unknown). What it raises ends the work and is raised here.
    """

def use_worker(program: str | PathLike[str]) -> None:
    """Lets commands run models in processes of this program."""

def prefer_library_folder(folder: str | PathLike[str]) -> None:
    """Names the folder of ONNX Runtime that belongs to this interpreter; it is looked at first."""
