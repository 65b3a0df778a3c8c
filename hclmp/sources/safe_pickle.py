"""Reading pickles of others without running anything from them.

A pickle is a program: its ``GLOBAL`` instructions name any callable of any installed module, and
``pickle.load`` calls it. Here only NumPy arrays, tensors (as arrays) and plain containers come out,
built by the functions below; any other name is refused before anything is called. Arrays are
assembled from plain bytes, not by NumPy's own ``__setstate__``, which trusts what it is given.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hclmp.errors import UserError

KINDS = "biufcSUO"  # of arrays: numbers, text, objects; no records, no dates
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of torch.save before PyTorch 1.6
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


class _Refused(Exception):
    """What the pickle asks for is not admitted; the message names it."""


class _Maker:
    """Stands for an admitted callable: it can be called, and nothing of it can be changed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a changed function")


class _Dtype:
    """A NumPy dtype, rebuilt from its name and byte order."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else str(name)
        self.dtype = np.dtype(text)
        if self.dtype.kind not in KINDS or self.dtype.fields or self.dtype.subdtype:
            raise _Refused(f"an array of {text}")

    def __setstate__(self, state: Any) -> None:
        _, order, subdtype, names, fields, *_ = state
        if subdtype is not None or names is not None or fields is not None:
            raise _Refused("an array of records")
        self.dtype = self.dtype.newbyteorder(">" if order in (">", b">") else "<")


class _Array:
    """A NumPy array in the making: ``value`` gives it once its parts have been read."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self._state = tuple(state)

    def value(self) -> NDArray[Any]:
        _, shape, described, fortran, raw = self._state
        dtype: np.dtype[Any] = described.dtype
        order: Literal["C", "F"] = "F" if fortran else "C"
        if dtype.kind != "O":
            raw = raw.encode("latin1") if isinstance(raw, str) else raw
            array: NDArray[Any] = np.frombuffer(raw, dtype).reshape(shape, order=order)
            return array
        flat = np.empty(len(raw), dtype=object)
        for i, item in enumerate(raw):
            flat[i] = _plain(item)
        objects: NDArray[Any] = flat.reshape(shape, order=order)
        return objects


class _Storage:
    """The numbers of a tensor: raw bytes, which a legacy file holds after the pickle."""

    __slots__ = ("data", "dtype")

    def __init__(self, dtype: str) -> None:
        self.dtype, self.data = np.dtype(dtype), b""

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a changed tensor")


class _Tensor:
    """A view into a storage: ``value`` copies it into an array."""

    __slots__ = ("_parts",)

    def __init__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> None:
        self._parts = storage, offset, tuple(size), tuple(stride)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a changed tensor")

    def value(self) -> NDArray[Any]:
        storage, offset, size, stride = self._parts
        flat = np.frombuffer(storage.data, storage.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min((offset, *size, *stride)) < 0 or (math.prod(size) and last >= len(flat)):
            raise _Refused("a tensor beyond its numbers")
        view = np.lib.stride_tricks.as_strided(
            flat[offset:], size, [step * flat.itemsize for step in stride]
        )
        return view.copy()


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"text in {encoding}")
    return text.encode(encoding)


def _scalar(described: _Dtype, raw: Any = b"") -> Any:
    if described.dtype.kind == "O":
        raise _Refused("a scalar object")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, described.dtype, count=1)[0]


def _admitted() -> dict[str, Any]:
    """Name -> what stands for it; made anew for every pickle."""
    names: dict[str, Any] = {
        "_codecs.encode": _Maker(_encoded),
        "collections.OrderedDict": _Maker(lambda items=(): dict(items)),
        "numpy.dtype": _Maker(_Dtype),
        "numpy.ndarray": None,  # an argument of `_reconstruct`, never called
        "torch._utils._rebuild_tensor_v2": _Maker(_Tensor),
    }
    for core in ("numpy.core", "numpy._core"):  # before and after NumPy 2
        names[f"{core}.multiarray._reconstruct"] = _Maker(lambda *_: _Array())
        names[f"{core}.multiarray.scalar"] = _Maker(_scalar)
    for builtins in ("builtins", "__builtin__"):
        names[f"{builtins}.set"] = _Maker(lambda items=(): set(items))
    return names | {f"torch.{name}": dtype for name, dtype in STORAGES.items()}


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds the admitted names alone."""

    def __init__(self, file: io.BytesIO, stored: Mapping[str, bytes] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._names = _admitted()
        self._stored = stored
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self._names:
            raise _Refused(f"`{module}.{name}`")
        return self._names[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key = pid[0], pid[1], str(pid[2])
        if kind != "storage" or dtype not in STORAGES.values() or (len(pid) > 5 and pid[5]):
            raise _Refused(f"a stored {kind}")
        if key not in self.storages:
            self.storages[key] = _Storage(dtype)
            if self._stored is not None:
                self.storages[key].data = self._stored[key]
        return self.storages[key]


def load_torch(data: bytes, *, origin: str) -> Any:
    """What ``torch.save`` wrote, in its present or its old format, or a bare pickle.

    Args:
        data: the bytes of the file.
        origin: its name, for messages.

    Returns:
        Plain containers, numbers and NumPy arrays; tensors have become arrays.

    Raises:
        UserError: the file asks for anything else, which is named, or cannot be read.
    """
    return _guarded(lambda: _torch(data), origin)


def load_npy(data: bytes, *, origin: str) -> NDArray[Any]:
    """An array that ``numpy.save`` wrote; one of objects comes through the same unpickler.

    Args:
        data: the bytes of the file.
        origin: its name, for messages.

    Raises:
        UserError: the file asks for anything but arrays and plain containers, or cannot be read.
    """
    array = _guarded(lambda: _npy(data), origin)
    if not isinstance(array, np.ndarray):
        raise UserError(f"{origin}: holds no array")
    return array


def _torch(data: bytes) -> Any:
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if name is None:
                raise ValueError("no `data.pkl` in it: not written by torch.save")
            folder = name.removesuffix("data.pkl") + "data/"
            stored = {
                n.removeprefix(folder): archive.read(n)
                for n in archive.namelist()
                if n.startswith(folder)
            }
            return _plain(_Unpickler(io.BytesIO(archive.read(name)), stored).load())
    file = io.BytesIO(data)
    first = _Unpickler(file).load()
    if first != LEGACY_MAGIC:
        return _plain(first)
    for _ in range(2):  # version of the protocol, and of the machine
        _Unpickler(file).load()
    reader = _Unpickler(file)
    value = reader.load()
    for key in _Unpickler(file).load():
        storage = reader.storages[str(key)]
        count = int.from_bytes(file.read(8), "little")
        storage.data = file.read(count * storage.dtype.itemsize)
    return _plain(value)


def _npy(data: bytes) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers: dict[tuple[int, int], Callable[[io.BytesIO], Any]] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    _, _, dtype = readers[version](file)
    if dtype.hasobject:
        return _plain(_Unpickler(file).load())
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _plain(value: Any) -> Any:
    """The value with every array and tensor in it put together."""
    if isinstance(value, _Array | _Tensor):
        return value.value()
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, tuple | set):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, _Maker | _Dtype | _Storage):
        raise _Refused("a function or type instead of data")
    return value


def _guarded(read: Callable[[], Any], origin: str) -> Any:
    """Run a reader; whatever a bad file makes of it is one message."""
    try:
        return read()
    except _Refused as error:
        raise UserError(
            f"{origin}: asks for {error}, and is not read: only arrays and plain containers are. A "
            "pickle can run any program; take the file from its publisher."
        ) from None
    # whatever a damaged or hostile pickle provokes in the parser or in NumPy
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{origin}: cannot be read: {reason}") from error
