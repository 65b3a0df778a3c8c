"""Files that are written whole or not at all, and the files of a trained model."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it once the block has ended without an error.

    A reader therefore finds the whole file or none, whenever the writer is killed. Its mode is what
    the umask gives, whatever the writer did: safetensors makes files that no one else can read.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # The system applies the umask to a new file. It cannot be read without being set, for all
        # threads at once.
        with open(temporary, "wb") as file:
            mode = os.fstat(file.fileno()).st_mode
        yield temporary
        if temporary.stat().st_mode != mode:
            temporary.chmod(stat.S_IMODE(mode))
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def write_csv(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a CSV file without an index, whole or not at all."""
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False)


def write_json(path: str | Path, value: object) -> None:
    """Write JSON with sorted keys, whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


class ModelFiles:
    """The files of a trained model for use: a folder that can be taken elsewhere.

    ``generator`` is there with transfer alone; ``training`` is the targets table that the model was
    trained on, byte for byte.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = folder / "model.json"
        self.weights = folder / "model.safetensors"
        self.elements = folder / "elements.safetensors"
        self.generator = folder / "generator.safetensors"
        self.training = folder / "training.parquet"
        self.history = folder / "history.csv"
