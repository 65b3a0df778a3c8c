"""CSV files as text cells, every row as wide as the first line says."""

import csv
import re
from itertools import islice
from pathlib import Path
from textwrap import shorten

import pandas as pd

from hclmp.errors import UserError, join_some

# A CSV column without a name is the row number that some programs write.
UNNAMED = "(no name)"
QUOTED = re.compile('"[^"]*"')


def read_csv(path: Path) -> pd.DataFrame:
    """Text cells under the names of the first line.

    Raises:
        UserError: cells are not separated by commas, a line stands before the names of the columns,
            or a row is shorter than these.
        ValueError: the file cannot be read, or a row is longer than the first line.
    """
    _check_separator(path)
    # The header is read as a row like others: given it, pandas would take the cells that a longer
    # row has too many for an index and shift the rest, and would rename repeated columns.
    cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    _check_short_rows(path)
    names = [str(name).strip() or UNNAMED for name in cells.iloc[0]]
    rows: pd.DataFrame = cells.iloc[1:].apply(lambda column: column.str.strip())
    return rows.set_axis(names, axis="columns")


def _check_separator(path: Path) -> None:
    """Refuse a first line that has more semicolons or tabs than commas, or no names of columns.

    Commas may stand in a name: `formula;gap, eV;rate`.
    """
    with path.open(encoding="utf-8-sig") as text:
        lines = [QUOTED.sub("", line.strip()) for line in islice(filter(str.strip, text), 2)]
    first, second = [*lines, "", ""][:2]
    if first.lower().startswith("sep=") or (
        first.startswith("#") and first.count(",") != second.count(",")
    ):
        shown = shorten(first, 40, placeholder="...")
        raise UserError(
            f"{path}: its first line, `{shown}`, is no line of names of columns: remove it"
        )
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if first.count(separator) > first.count(","):
            raise UserError(
                f"{path}: separated by {name}; save it with commas between the cells, and with "
                "points, not commas, in the numbers"
            )


def _check_short_rows(path: Path) -> None:
    """Refuse rows that are too short (a truncated file?): pandas would fill them with blanks."""
    width, bad, row = 0, [], 0
    with path.open(encoding="utf-8-sig", newline="") as text:
        try:
            for cells in csv.reader(text, skipinitialspace=True):
                if not any(cells) and len(cells) < 2:  # an empty line, which is no row
                    continue
                if not width:  # a comma after the last name asks for no cell
                    width = max((i for i, name in enumerate(cells, 1) if name.strip()), default=1)
                    continue
                row += 1
                if len(cells) < width:
                    bad.append(f"row {row} ({len(cells)})")
        except csv.Error as error:
            raise ValueError(str(error)) from error
    if bad:
        raise UserError(
            f"{path}: the first line names {width} columns, but fewer cells are in "
            f"{join_some(bad)}. Is the file cut off? Complete or remove these rows; a blank cell "
            "keeps its comma."
        )
