"""Read pickles from other people without running anything from them.

A pickle is a program: its ``GLOBAL`` instructions name any callable of any installed module, and
``pickle.load`` calls it. Here only NumPy arrays, tensors (as arrays) and plain containers come out,
built by the functions below; any other name is refused before anything is called. Arrays are
assembled from plain bytes, not by NumPy's own ``__setstate__``, which trusts what it is given.

A small file can also ask for more memory and time than there is, by naming one thing many times:
each thing is made once, and all that comes out is counted as if nothing were shared (`_Budget`).

``torch.load(weights_only=True)`` with NumPy's names admitted reads twelve of the hostile files of
``tests/test_safe_pickle.py`` and hangs on three. It refuses good files of the protocols 4 and 5, as
``numpy.save`` writes them.
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hclmp.errors import UserError

KINDS = "biufcSUO"  # of arrays: numbers, text, objects; no records, no dates
GROWTH = 100  # items that may come of each byte of a file; shared lists of names stay far below
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
    """The pickle asks for what is not admitted, which the message names."""


class _Budget:
    """How many items (of containers, characters of text) may still come of a file."""

    def __init__(self, data: bytes) -> None:
        self.left = GROWTH * (len(data) + GROWTH)
        self.copies = len(data) + GROWTH

    def spend(self, items: int) -> None:
        """Count items that may be shared: whoever reads the result meets them once more."""
        self.left -= items
        if self.left < 0:
            raise ValueError(f"it would grow to more than {GROWTH} items for each of its bytes")

    def copy(self, items: int) -> None:
        """Count items that take new memory: each must have at least a byte in the file."""
        self.copies -= items
        if self.copies < 0:
            raise ValueError("it would grow to more items than it has bytes")


class _Unchangeable:
    """What no pickle can change."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a changed function or tensor")


class _Maker(_Unchangeable):
    """Stands for an admitted callable: it can be called."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


class _Dtype:
    """A NumPy dtype, rebuilt from its name and byte order."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else _text(name)
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

    __slots__ = ("_parts",)

    def __init__(self, *parts: Any) -> None:
        self._parts = parts  # shape, dtype, order, items, order of the axes

    def __setstate__(self, state: Any) -> None:
        _, shape, described, fortran, raw = state
        self._parts = shape, described, "F" if fortran else "C", raw, None

    def value(self, assembly: "_Assembly") -> NDArray[Any]:
        shape, described, order, raw, axes = self._parts
        dtype: np.dtype[Any] = described.dtype
        layout: Literal["C", "F"] = "F" if order == "F" else "C"
        if isinstance(raw, str) and dtype.kind != "O":  # bytes of Python 2 have become text
            assembly.budget.copy(len(raw))
            raw = raw.encode("latin1")
        items = assembly.objects(raw) if dtype.kind == "O" else np.frombuffer(raw, dtype)
        array: NDArray[Any] = items.reshape(shape, order=layout)
        return array.transpose(axes) if order == "K" and axes is not None else array


class _Storage(_Unchangeable):
    """The numbers of a tensor: raw bytes, which a legacy file holds after the pickle."""

    __slots__ = ("data", "dtype")

    def __init__(self, dtype: str, data: bytes) -> None:
        self.dtype, self.data = np.dtype(dtype), data


class _Tensor(_Unchangeable):
    """A view into a storage, which ``value`` gives as an array; it copies nothing."""

    __slots__ = ("_parts",)

    def __init__(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> None:
        # of an endless shape only so much that NumPy refuses it: it has at most 64 axes
        self._parts = storage, offset, tuple(size[:65]), tuple(stride[:65])

    def value(self) -> NDArray[Any]:
        storage, offset, size, stride = self._parts
        flat = np.frombuffer(storage.data, storage.dtype)
        # steps of 0 (`expand`) would make any number of one
        if math.prod(size) > len(flat):
            raise ValueError(f"a tensor of {math.prod(size)} numbers, {len(flat)} of them there")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min((offset, *size, *stride)) < 0 or (math.prod(size) and last >= len(flat)):
            raise ValueError("a tensor beyond its numbers")
        return np.lib.stride_tricks.as_strided(
            flat[offset:], size, [step * flat.itemsize for step in stride]
        )


def _text(value: Any) -> str:
    """A name, which must be text: ``str`` of nested lists could take forever."""
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a name belongs")
    return value


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    """An array as NumPy writes it since protocol 5 of pickles."""
    return _Array(shape, dtype, order, raw, axes)


def _scalar(described: _Dtype, raw: Any = b"") -> Any:
    if described.dtype.kind == "O":
        raise _Refused("a scalar object")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, described.dtype, count=1)[0]


def _admitted(budget: _Budget) -> dict[str, Any]:
    """Name -> what stands for it; made anew for every pickle."""

    def encoded(text: str, encoding: Any = "latin1") -> bytes:
        if encoding != "latin1":
            raise _Refused(f"text in {_text(encoding)}")
        budget.copy(len(text))
        return text.encode("latin1")

    def made(kind: type[Any], items: Any = ()) -> Any:
        budget.copy(len(items))
        return kind(items)

    names: dict[str, Any] = {
        "_codecs.encode": _Maker(encoded),
        "collections.OrderedDict": _Maker(partial(made, dict)),
        "numpy.dtype": _Maker(_Dtype),
        "numpy.ndarray": None,  # an argument of `_reconstruct`, never called
        "torch._utils._rebuild_tensor_v2": _Maker(_Tensor),
    }
    for core in ("numpy.core", "numpy._core"):  # before and after NumPy 2
        names[f"{core}.multiarray._reconstruct"] = _Maker(lambda *_: _Array())
        names[f"{core}.multiarray.scalar"] = _Maker(_scalar)
        names[f"{core}.numeric._frombuffer"] = _Maker(_from_buffer)
    for builtins in ("builtins", "__builtin__"):
        names[f"{builtins}.set"] = _Maker(partial(made, set))
    return names | {f"torch.{name}": dtype for name, dtype in STORAGES.items()}


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds the admitted names alone."""

    def __init__(
        self, file: io.BytesIO, budget: _Budget, stored: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(file, encoding="latin1")
        self._names = _admitted(budget)
        self._stored = stored
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (full := f"{module}.{name}") not in self._names:
            raise _Refused(f"`{full}`")
        return self._names[full]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key = _text(pid[0]), pid[1], _text(pid[2])
        if kind != "storage" or dtype not in STORAGES.values() or (len(pid) > 5 and pid[5]):
            raise _Refused(f"a stored {kind}")
        if key not in self.storages:
            data = b"" if self._stored is None else self._stored[key]
            self.storages[key] = _Storage(dtype, data)
        return self.storages[key]


def load_torch(data: bytes, *, origin: str) -> Any:
    """What ``torch.save`` wrote, in its present or its old format, or a bare pickle.

    Args:
        data: the bytes of the file.
        origin: its name, for messages.

    Returns:
        Plain containers, numbers and NumPy arrays, which tensors have become too.

    Raises:
        UserError: the file asks for anything else, which is named, or cannot be read.
    """
    with _told(origin):
        budget = _Budget(data)
        if data[:2] == b"PK":
            name, stored = _parts(data)
            value = _Unpickler(io.BytesIO(stored.pop(name)), budget, stored).load()
            return _Assembly(budget)(value)
        file = io.BytesIO(data)
        value = _Unpickler(file, budget).load()
        return _Assembly(budget)(_legacy(file, budget) if value == LEGACY_MAGIC else value)


def load_npy(data: bytes, *, origin: str) -> NDArray[Any]:
    """An array that ``numpy.save`` wrote; one of objects comes through the same unpickler.

    Raises:
        UserError: the file asks for anything but arrays and plain containers, or cannot be read.
    """
    with _told(origin):
        array = _npy(data)
    if not isinstance(array, np.ndarray):
        raise UserError(f"{origin}: holds no array")
    return array


@contextmanager
def _told(origin: str) -> Iterator[None]:
    """Any error from a bad file becomes one message."""
    try:
        yield
    except _Refused as error:
        raise UserError(
            f"{origin}: asks for {error}, and is not read: only arrays and plain containers are. A "
            "pickle can run any program; take the file from its publisher."
        ) from None
    # whatever a damaged or hostile pickle provokes in the parser or in NumPy
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{origin}: cannot be read: {reason}. Take the file from its publisher again"
        ) from error


def _legacy(file: io.BytesIO, budget: _Budget) -> Any:
    """What ``torch.save`` wrote before PyTorch 1.6, from behind its first object on."""
    for _ in range(2):  # version of the protocol, and of the machine
        _Unpickler(file, budget).load()
    value = (reader := _Unpickler(file, budget)).load()
    for key in _Unpickler(file, budget).load():
        storage = reader.storages[_text(key)]
        count = int.from_bytes(file.read(8), "little")
        storage.data = file.read(count * storage.dtype.itemsize)
    return value


def _parts(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Of a zip that ``torch.save`` wrote: the pickle's name; it and the storages by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if name is None:
            raise ValueError("no `data.pkl` in it: not written by torch.save")
        folder = name.removesuffix("data.pkl") + "data/"
        members = [m for m in archive.infolist() if m.filename.startswith((name, folder))]
        # `torch.save` does not compress, so parts larger than their file are meant to fill memory
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("its parts are larger than the file: not written by torch.save")
        return name, {m.filename.removeprefix(folder): archive.read(m) for m in members}


def _npy(data: bytes) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the .npy format")
    if dtype.hasobject:
        budget = _Budget(data)
        return _Assembly(budget)(_Unpickler(file, budget).load())
    # NumPy allocates all that the header announces before it reads
    size, there = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if min(shape, default=0) < 0 or size > there:
        raise ValueError(f"an array of {size} bytes, {there} of them there")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


class _Assembly:
    """Puts every array and tensor in a value together: each is made once, and counted every time.

    Whoever reads the result may visit every place that holds it.
    """

    def __init__(self, budget: _Budget) -> None:
        self.budget = budget
        self._made: dict[int, tuple[Any, int] | None] = {}  # by id: with its items; None: begun

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, _COMPOUND):
            return value
        if id(value) in self._made:
            if (known := self._made[id(value)]) is None:
                raise ValueError("it holds itself")
            self.budget.spend(known[1])
            return known[0]
        self._made[id(value)] = None
        before = self.budget.left
        made = self._put_together(value)
        self._made[id(value)] = made, before - self.budget.left
        return made

    def objects(self, items: Sequence[Any]) -> NDArray[Any]:
        """Items of any type: [n] of dtype object."""
        self.budget.copy(len(items))
        self.budget.spend(len(items))
        flat = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            flat[i] = self(item)
        return flat

    def _put_together(self, value: Any) -> Any:
        if isinstance(value, _Maker | _Dtype | _Storage):
            raise _Refused("a function or type instead of data")
        if isinstance(value, _Array):
            return value.value(self)
        if isinstance(value, _Tensor):
            return value.value()
        self.budget.spend(1 + len(value))
        if isinstance(value, dict):
            return {self(k): self(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self(v) for v in value]
        return type(value)(self(v) for v in value)


_COMPOUND = (dict, list, tuple, set, _Array, _Tensor, _Maker, _Dtype, _Storage)
