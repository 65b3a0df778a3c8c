"""Safetensors files with a header of JSON: tensors, and what must be known of them, in one file.

Nothing here imports torch: a step without a network does not wait for it.
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hclmp.errors import UserError
from hclmp.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
KEY = "hclmp"  # of the header, in the metadata of the file


def write_tensors(
    path: str | Path,
    tensors: "Mapping[str, NDArray[Any] | Tensor]",
    header: Mapping[str, Any],
    *,
    sort_keys: bool = True,
) -> None:
    """Write arrays or torch tensors, of any device, and a header of JSON; whole or not at all.

    The keys of the header are sorted, so that equal headers give equal bytes, unless their order
    matters.
    """
    numpy = {
        k: t if isinstance(t, np.ndarray) else t.detach().cpu().numpy() for k, t in tensors.items()
    }
    arrays = {name: np.asarray(array, order="C") for name, array in numpy.items()}
    metadata = {KEY: json.dumps(header, sort_keys=sort_keys)}
    with atomic_write(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:  # such as "... (os error 28)" of a full disk
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error), str(path)) from error


@contextmanager
def read_tensors(
    path: str | Path, *, what: str, remedy: str, framework: Literal["numpy", "pt"] = "numpy"
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Header and tensors of a file, in a block that builds something of them.

    The message of an error says that the file is not ``what`` ("a generator"), and the ``remedy``
    ("`hclmp pretrain-gan` makes it"). The framework ``pt`` gives torch tensors.

    Raises:
        UserError: the file is missing, or it cannot be read, or the block cannot build from it.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; {remedy}")
    try:
        with safe_open(path, framework=framework) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = _header(file)
        yield header, tensors
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not {what}; {remedy} ({error})") from error


def read_header(path: str | Path) -> Any:
    """The header alone.

    Raises:
        ValueError: the file is no safetensors file, or one without a header.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return _header(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def pack(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """Put a prefix before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unpack(prefix: str, tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors with this prefix, without it."""
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _header(file: Any) -> Any:
    metadata = file.metadata() or {}
    if KEY not in metadata:
        raise ValueError("no header")
    return json.loads(metadata[KEY])
