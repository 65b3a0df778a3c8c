"""Rows of plates: read from CSV in blocks, checked, and sorted into buckets on disk."""

import csv
import errno
import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from hclmp.data.formula import DECIMALS
from hclmp.errors import UserError, join_some

SIGNALS = tuple(f"signal_{i}" for i in range(9))
IDENTIFIERS = ("ExpID", "row", "col", "plate", "line", "line_experiment_id", "replica")
PARTS = 10**DECIMALS
"""Fractions are counted in parts of so many."""
BLOCK = 1 << 22
"""Bytes of a CSV file that are parsed at a time."""
BUCKET = 1 << 24
"""Bytes of CSV whose patches share a bucket on disk, which is then in memory as a whole."""
MOST_BITS = 8
BLANKS = ["", "NA", "NaN", "nan", "null"]
PatchRows = NDArray[np.void]


@dataclass(frozen=True)
class Header:
    """The first line of a plate's CSV file."""

    file: Path
    names: list[str]  # all its columns
    metals: list[str]  # those named after elements, alphabetical
    unknown: list[str]  # those that are neither elements nor in the record's description


@dataclass(frozen=True)
class Patches:
    """Usable patches of a block, of a plate with m metals."""

    parts: NDArray[np.int32]  # [n, m] amounts in millionths; they sum to a million but for rounding
    signals: NDArray[np.float64]  # [n, 9] transmissions, finite
    counts: Counter[str]  # what became of all patches of the block


def read_header(file: Path) -> Header:
    """Read and check the first line of a plate.

    Raises:
        UserError: the file is empty, has no rows, names a column twice, or lacks a signal or all
            metals.
    """
    from pymatgen.core.periodic_table import Element

    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            names = [name.strip() for name in next(csv.reader(text), [])]
            if not any(names) or not any(line.strip() for line in text):
                what = "no rows below the first line" if any(names) else "empty"
                raise UserError(f"{file}: {what}. Fetch this file of the record again.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file in UTF-8: {error}") from error
    if repeated := sorted(name for name, n in Counter(names).items() if n > 1):
        raise UserError(f"{file}: columns named twice: {join_some(repeated)}; rename or remove one")
    if missing := [name for name in SIGNALS if name not in names]:
        raise UserError(
            f"{file}: no column {join_some(missing, most=9)} (optical transmission); "
            f"the file has {join_some(names, most=20)}"
        )
    if not (metals := sorted(name for name in names if Element.is_valid_symbol(name))):
        shown = join_some(names, most=20)
        raise UserError(f"{file}: no metal column: none of {shown} is the symbol of an element")
    known = {*SIGNALS, *IDENTIFIERS, *metals, ""}
    return Header(file, names, metals, sorted(set(names) - known))


def patches_of(header: Header, *, positive: bool) -> Iterator[Patches]:
    """The usable patches of a plate, block by block.

    Args:
        header: the plate's first line.
        positive: whether a transmission that is not positive is impossible.

    Raises:
        UserError: a cell is not a number, or an amount is negative or infinite; names the rows
            (data rows from 1).
    """
    done = 0
    for batch in _batches(header, pa.float64()):
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        amounts, signals = np.split(np.stack(columns, axis=1), [len(header.metals)], axis=1)
        _check_amounts(header, amounts, done)
        done += len(batch)
        yield _usable(amounts, signals, positive=positive)


def _usable(
    amounts: NDArray[np.float64], signals: NDArray[np.float64], *, positive: bool
) -> Patches:
    """Fractions of the metals, and which patches can be used; every patch is counted once."""
    amounts, blank_amounts = np.nan_to_num(amounts), int(np.isnan(amounts).sum())
    total = amounts.sum(axis=1)
    metal, finite = total > 0, np.isfinite(signals).all(axis=1)
    possible = (signals > 0).all(axis=1) | (not positive)
    good = metal & finite & possible
    counts = Counter(
        patches=len(amounts),
        blank=int((~metal).sum()),
        not_finite=int((metal & ~finite).sum()),
        impossible=int((metal & finite & ~possible).sum()),
        above_one=int((signals[good] > 1).any(axis=1).sum()),
        blank_amounts=blank_amounts,
    )
    # Rounded twice: to 9 decimals first, or 1/128 = 0.0078125 would fall to either side by the
    # error of the sum.
    fractions = np.rint(amounts[good] / total[good, None] * PARTS * 1000) / 1000
    return Patches(np.rint(fractions).astype(np.int32), signals[good], counts)


def _batches(header: Header, kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    """Metals, then signals, as numbers or as text; blanks are null."""
    wanted = [*header.metals, *SIGNALS]
    try:
        yield from pacsv.open_csv(
            header.file,
            # Names are given, so the first line is skipped; blocks bound the memory. With threads,
            # errors do not always tell their row.
            pacsv.ReadOptions(
                column_names=header.names, skip_rows=1, block_size=BLOCK, use_threads=False
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(wanted, kind),
                include_columns=wanted,
                null_values=BLANKS,
            ),
        )
    except pa.ArrowInvalid as error:
        if kind != pa.string():
            _raise_for_cells(header)
        raise UserError(
            f"{header.file}: cannot be read: {_reason(error)}. Fetch this file of the record again."
        ) from error


def _reason(error: pa.ArrowInvalid) -> str:
    """Of a row of another length, in short: Arrow counts from the header and shows it whole."""
    found = re.search(r"Row #(\d+): Expected (\d+ columns, got \d+)", str(error))
    return f"row {int(found[1]) - 1}: expected {found[2]}" if found else str(error)


def _raise_for_cells(header: Header) -> None:
    """Name the cells that are no numbers, in a second reading, of text."""
    done, bad = 0, dict[str, list[str]]()
    for batch in _batches(header, pa.string()):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            cells = column.to_pandas()
            wrong = pd.to_numeric(cells, errors="coerce").isna() & ~cells.str.strip().isin(BLANKS)
            for i in np.flatnonzero(wrong & cells.notna()):
                bad.setdefault(name, []).append(f"row {done + i + 1} ({cells.iloc[i]!r})")
        done += len(batch)
    if bad:
        named = "; ".join(f"column `{name}`: {join_some(rows)}" for name, rows in bad.items())
        raise UserError(f"{header.file}: not a number in {named}. Correct or remove these rows.")


def _check_amounts(header: Header, amounts: NDArray[np.float64], done: int) -> None:
    wrong = (amounts < 0) | np.isinf(amounts)
    for metal, column, values in zip(header.metals, wrong.T, amounts.T, strict=True):
        if rows := [f"row {done + i + 1} ({values[i]:g})" for i in np.flatnonzero(column)]:
            raise UserError(
                f"{header.file}: column `{metal}` is an amount, but negative or infinite in "
                f"{join_some(rows)}. Correct or remove these rows."
            )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the buckets in ``.hclmp/`` of the working directory, removed at the end.

    Not in ``/tmp``, which may lie in memory.
    """
    base = Path(".hclmp")
    try:
        base.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="plates-", dir=base) as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"{base.resolve()}: the disk is full. Plates need about 130 bytes a patch here while "
            "they are read (1 GB for the whole record)."
        ) from error


class Buckets(ExitStack):
    """Patches on disk, by a hash of their composition.

    The hash depends on the composition alone and its first bits choose the bucket, so buckets one
    after another give one order of the compositions, however many buckets there are. Their files
    are open for `add` until the end of the ``with`` block.

    Args:
        folder: where the files go.
        metals: the V element symbols, alphabetical.
        size: bytes of CSV to come, from which the number of buckets follows.
    """

    def __init__(self, folder: Path, metals: Sequence[str], size: int) -> None:
        super().__init__()
        self.metals = list(metals)
        self.bits = min(max((size // BUCKET).bit_length(), 1), MOST_BITS)
        self.kind = np.dtype(
            [("hash", "u8"), ("parts", "i4", (len(metals),)), ("signals", "f8", (len(SIGNALS),))]
        )
        self._paths = [folder / str(i) for i in range(2**self.bits)]
        # an odd number of 64 bits for each element
        hashes = [hashlib.sha256(metal.encode()).digest()[:8] for metal in metals]
        self._keys = np.array([int.from_bytes(h, "little") | 1 for h in hashes], dtype=np.uint64)
        self._files = [self.enter_context(path.open("wb")) for path in self._paths]

    def add(self, metals: Sequence[str], patches: Patches) -> None:
        """Append patches of a plate with these metals."""
        rows = np.zeros(len(patches.parts), dtype=self.kind)
        rows["parts"][:, [self.metals.index(metal) for metal in metals]] = patches.parts
        rows["signals"] = patches.signals
        rows["hash"] = _mixed((rows["parts"].astype(np.uint64) * self._keys).sum(axis=1))
        bucket = (rows["hash"] >> np.uint64(64 - self.bits)).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(np.bincount(bucket, minlength=len(self._files)))
        for file, some in zip(self._files, np.split(rows[order], ends[:-1]), strict=True):
            file.write(some.tobytes())

    def __iter__(self) -> Iterator[PatchRows]:
        """The rows of each bucket, sorted by hash, composition and signals.

        The whole row decides, so that the order in which rows came leaves no trace.
        """
        for path in self._paths:
            rows = np.fromfile(path, dtype=self.kind)
            path.unlink()
            if len(rows):
                keys = (*rows["signals"].T[::-1], *rows["parts"].T[::-1], rows["hash"])
                yield rows[np.lexsort(keys)]


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The bits of each number mixed (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
