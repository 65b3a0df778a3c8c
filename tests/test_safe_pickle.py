"""Pickles of others: what comes out of them, what is not run, and what does not fill the memory."""

import io
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hclmp.errors import UserError
from hclmp.sources.reference.safe_pickle import load_npy, load_torch
from tests.made_up.archive import npy


@pytest.fixture(autouse=True)
def _inside(workdir: Path) -> None:
    """Each test in a working directory of its own."""


def saved(value: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class _Calls:
    """A pickle of this calls something with arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


@pytest.mark.parametrize(
    "hostile",
    [
        _Calls(eval, "open('pwned', 'w')"),
        _Calls(getattr, "", "upper"),
        _Calls(np.load, "pwned"),
        _Calls(np.ndarray, (3,), "O"),
        _Calls(torch.load, "pwned"),
        _Calls(np.dtype, "O", state=(3, "|", None, None, None, -1, -1, 0)),
        np.dtype([("a", "f8")]),
        np.zeros(2, dtype=[("a", "f8")]),
    ],
)
def test_only_arrays_and_plain_containers_are_admitted(hostile: object) -> None:
    for data in (pickle.dumps(hostile, 2), pickle.dumps({"a": [hostile]}, 4)):
        with pytest.raises(UserError, match=r"x\.pkl: (asks for|cannot be read)"):
            load_torch(data, origin="x.pkl")
    assert not Path("pwned").exists()


def test_arrays_and_tensors_of_every_kind() -> None:
    big = np.arange(6, dtype=">i4").reshape(2, 3)
    value = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": big,
        "turned": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
        "bool": np.array([True, False]),
        "text": np.array(["Ag", "Zr"]),
        "scalar": np.float32(1.5),
        "objects": np.array([1, "two", np.arange(3)], dtype=object),
        "nested": ({1, 2}, [None, b"x", (2.5,)]),
    }
    for data in (*(pickle.dumps(value, p) for p in (2, 4, 5)), saved(value)):
        got = load_torch(data, origin="x")
        for key in ("fortran", "big", "turned", "bool", "text", "scalar"):
            np.testing.assert_array_equal(got[key], value[key])
        assert got["objects"][1] == "two"
        np.testing.assert_array_equal(got["objects"][2], np.arange(3))
        assert got["nested"] == value["nested"]
    old = pickle.dumps(value, 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(load_torch(old, origin="x")["big"], big)
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"view": base[1:, ::2], "turned": base.T, "whole": torch.tensor([1, 2])}
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(tensors, buffer, _use_new_zipfile_serialization=zipped)
        got = load_torch(buffer.getvalue(), origin="x")
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(got[key], tensor.numpy())


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04", b"\x80\x02", saved({})[:200]])
def test_damaged_files_are_one_message(data: bytes) -> None:
    for load in (load_torch, load_npy):
        with pytest.raises(UserError, match=r"x: cannot be read: .* from its publisher again"):
            load(data, origin="x")


# --- small files that ask for much ----------------------------------------------------------------


def refused(load: Callable[..., Any], data: bytes, words: str) -> None:
    """One message, soon and in little memory."""
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"x: cannot be read: .*{words}"):
        load(data, origin="x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - began < 5
    assert peak < 50e6 + 10 * len(data)


def nested(depth: int, make: Callable[[Any], Any]) -> Any:
    value: Any = [1.0]
    for _ in range(depth):
        value = make(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda x: [x, x],
        lambda x: (x, x),
        lambda x: {"a": x, "b": x},
        lambda x: _objects([x, x]),
    ],
)
@pytest.mark.parametrize("depth", [24, 60])
def test_doubled_and_doubled_again(make: Callable[[Any], Any], depth: int) -> None:
    value = nested(depth, make)
    for data in (pickle.dumps(value, 2), pickle.dumps(value, 5)):
        refused(load_torch, data, "it would grow to more than 100 items for each of its bytes")


def _objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


def test_one_thing_asked_for_many_times() -> None:
    """Text turned into bytes, and a list into sets, over and over."""
    call = b"h\x00h\x01R"  # the callable, its arguments, the call: what it makes stays on the stack
    text = b"X" + (10**5).to_bytes(4, "little") + b"a" * 10**5
    items = b"](" + b"".join(b"J" + i.to_bytes(4, "little") for i in range(10**4)) + b"e"
    for name, argument in ((b"_codecs\nencode\n", text), (b"builtins\nset\n", items)):
        once = b"\x80\x02c" + name + b"q\x00" + argument + b"\x85q\x01"
        # "](": a list of all that follows
        refused(
            load_torch,
            once + b"](" + call * 10**5 + b"e.",
            "it would grow to more items than it has",
        )


def test_names_are_texts() -> None:
    huge = pickle.dumps(nested(60, lambda x: [x, x]), 2)[2:-1]
    storage = b"X\x07\x00\x00\x00storage"
    for body in (
        b"cnumpy\ndtype\n" + huge + b"\x85R",
        b"c_codecs\nencode\nX\x01\x00\x00\x00a" + huge + b"\x86R",
        storage + b"N" + huge + b"\x87Q",
    ):
        refused(load_torch, b"\x80\x02" + body + b".", "a list where a name belongs")


def test_what_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    refused(load_torch, pickle.dumps(value), "it holds itself")


def test_what_is_shared_is_made_once() -> None:
    names = ["Ag", "Zr"]
    array = np.arange(3.0)
    got = load_torch(pickle.dumps([{"names": names, "x": array} for _ in range(1000)]), origin="x")
    assert len(got) == 1000
    assert got[0]["names"] == names
    assert got[0]["x"] is got[999]["x"]


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_more_numbers_than_are_stored(zipped: bool) -> None:
    expanded = torch.zeros(1).expand(10**9)
    data = saved({"a": expanded}, zipped=zipped)
    refused(load_torch, data, "a tensor of 1000000000 numbers, 1 of them there")
    overlapping = torch.arange(10.0).as_strided((8, 3), (1, 1))
    refused(load_torch, saved(overlapping, zipped=zipped), "a tensor of 24 numbers, 10 of them")


def test_arrays_of_more_numbers_than_are_there() -> None:
    for count in (10**5, 10**12):
        said = b"(%d,), }" % count
        data = npy(np.zeros(2)).replace(b"(2,), }" + b" " * (len(said) - 7), said)
        refused(load_npy, data, f"an array of {8 * count} bytes, 16 of them there")
    assert load_npy(npy(np.zeros((0, 3))), origin="x").shape == (0, 3)
    turned = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(load_npy(npy(turned), origin="x"), turned)


def test_a_torch_file_that_unpacks_to_more_than_its_bytes() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps([1, 2], 2))
        archive.writestr("x/data/0", bytes(10**8))
    refused(load_torch, packed.getvalue(), "its parts are larger than the file")


@pytest.mark.parametrize("core", [b"numpy._core.numeric", b"numpy.core.numeric"])
def test_arrays_of_protocol_5_before_and_after_numpy_2(core: bytes) -> None:
    def data(name: bytes, kind: bytes) -> bytes:
        numbers = b"C\x10" + np.array([1.5, 2.5]).tobytes()
        dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00" + kind + b"\x85R"
        return (
            b"\x80\x05c" + core + b"\n" + name + b"\n(" + numbers + dtype + b"K\x02\x85"
            b"X\x01\x00\x00\x00CtR."
        )

    np.testing.assert_array_equal(load_torch(data(b"_frombuffer", b"f8"), origin="x"), [1.5, 2.5])
    refused(load_torch, data(b"_frombuffer", b"f3"), "")
    refused(load_torch, data(b"_frombuffer", b"O8"), "")
    with pytest.raises(UserError, match=r"asks for `numpy.*\._other`"):
        load_torch(data(b"_other", b"f8"), origin="x")
