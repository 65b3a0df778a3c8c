"""Which columns of a table hold compositions, properties and energies."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from hclmp.data.formula import parse_formula, parse_formulas
from hclmp.errors import UserError, join_some
from hclmp.sources.csv_file import UNNAMED

# Columns with a meaning of their own, which are never taken for a property.
RESERVED = ("sample_id", "system", UNNAMED)
# Why a column is not learned.
TEXTS, CONSTANT = "columns without numbers", "columns with one value in every row"
AMOUNTS = "columns of the amounts that the formulas say"
NOISE = "standard deviations of columns that are not learned"

# To find out whether a column without the right name holds formulas:
SAMPLED_CELLS = 50  # different cells that are parsed
LEAST_DIFFERENT = 0.5  # of the rows: words that happen to be formulas (`FCC`) are repeated
# To find out whether a column repeats the amounts of an element:
LEAST_AGREEING = 0.95  # of the rows: amounts may be rounded to 0, and tables have mistakes
ENERGY_TOLERANCE = 0.02  # of a step: energies that name columns are rounded
LONGEST_CELL = 30  # characters of a cell that are shown
# 2,01 and 2.1 % and 2.1 ± 0.2: numbers to a reader alone
NEARLY = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?\s*(%|(±|\+/?-)\s*\d+([.,]\d+)?\s*%?)?")


def property_columns(frame: pd.DataFrame, composition: Sequence[str]) -> list[str]:
    """The properties when none are named: all columns but composition, id, system and ``*_std``."""
    columns = [str(c) for c in frame.columns]
    noise = {f"{c}_std" for c in columns}
    return [c for c in columns if c not in (*composition, *RESERVED) and c not in noise]


def element_columns(frame: pd.DataFrame) -> list[str]:
    """The columns named after a chemical element."""
    from pymatgen.core.periodic_table import Element

    return [str(c) for c in frame.columns if Element.is_valid_symbol(str(c))]


def energy_columns(frame: pd.DataFrame, formula_column: str, id_column: str | None) -> list[str]:
    """The columns of a CSV file that hold one energy each: all but formula, id and reserved."""
    known = (formula_column, id_column, *RESERVED)
    return [str(c) for c in frame.columns if c not in known]


def composition_columns(path: str, frame: pd.DataFrame, formula_column: str) -> list[str]:
    """The columns named after elements, where no column holds a formula.

    Raises:
        UserError: there is neither, or a column of another name holds formulas.
    """
    if formula_column in frame.columns:
        return []
    for column in frame.columns:
        if _reads_as_formulas(frame[column]):
            raise UserError(
                f"{path}: no column `{formula_column}`; column `{column}` looks like one: give "
                f"--formula-column {column} (or take it out, if columns named after elements hold "
                "the composition)"
            )
    if not (elements := element_columns(frame)):
        raise UserError(
            f"{path}: no column `{formula_column}`; it has {join_some(frame.columns, most=20)}. "
            "Name the column of formulas with --formula-column, or call columns of amounts by the "
            "elements' symbols alone: `Cu`, `Fe`"
        )
    return elements


def _repeated_amounts(path: str, frame: pd.DataFrame, formula_column: str) -> list[str]:
    """The columns of amounts that say again what the formula says; at least two, or none.

    Named after an element, and positive where the formula has it alone. A modulus `K` is not.

    Raises:
        UserError: names the rows whose formula cannot be used.
    """
    columns = [c for c in element_columns(frame) if c != formula_column]
    if len(columns) < 2:
        return []
    parsed = parse_formulas(frame[formula_column].tolist(), origin=path)
    repeated = []
    for column in columns:
        has = np.array([column in fractions for fractions in parsed])
        amounts = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=0.0)
        if has.any() and ((amounts > 0) == has).mean() >= LEAST_AGREEING:
            repeated.append(column)
    return repeated if len(repeated) > 1 else []


def _reads_as_formulas(cells: "pd.Series[Any]") -> bool:
    """Whether cells are formulas of more than one element, with amounts or most of them different.

    Names of phases (`FCC`, `B2`) read as formulas too.
    """
    different = cells.drop_duplicates() if cells.dtype.kind not in "iufbmM" else cells.head(0)
    formulas = different.head(SAMPLED_CELLS).tolist()
    try:
        several = [text for text in formulas if len(parse_formula(text)) > 1]
    except ValueError:
        return False
    amounts = any(c.isdigit() for text in several for c in text)
    return bool(several) and (amounts or len(different) >= LEAST_DIFFERENT * len(cells))


def columns_to_learn(
    path: str, frame: pd.DataFrame, composition: Sequence[str], formula_column: str
) -> tuple[list[str], dict[str, list[str]]]:
    """The properties among the columns, and why the others are none: reason -> columns.

    Args:
        path, frame: of the table.
        composition: the columns that hold amounts of elements, if any do.
        formula_column: the column of formulas, if there is one.

    Raises:
        UserError: there is none to learn, or numbers of one cannot be read.
    """
    repeated = [] if composition else _repeated_amounts(path, frame, formula_column)
    taken = [*(composition or [formula_column]), *repeated]
    candidates = property_columns(frame, taken)
    columns, unused = _usable_columns(path, frame, candidates)
    unused[AMOUNTS] = repeated
    noise = set(map(str, frame.columns)) - {*candidates, *taken, *RESERVED}
    unused[NOISE] = sorted(c for c in noise if c.removesuffix("_std") not in columns)
    for why in (CONSTANT, AMOUNTS):
        if unused[why] and not columns:
            raise UserError(f"{path}: {why}: {join_some(unused[why])}. There is nothing to learn.")
    return columns, unused


def _usable_columns(
    path: str, frame: pd.DataFrame, columns: Sequence[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """The columns that can be learned, and why others cannot: reason -> columns, each with a cell.

    A column of words (remarks, sources, labels) is no mistake; one of numbers with a comma is.

    Raises:
        UserError: cells of a column are numbers but for a comma, a percent sign or an uncertainty.
    """
    usable: list[str] = []
    unused: dict[str, list[str]] = {TEXTS: [], CONSTANT: []}
    nearly: list[str] = []
    for column in columns:
        cells = [c for c in frame[column].dropna() if not isinstance(c, str) or c]
        values = pd.to_numeric(frame[column], errors="coerce").dropna()
        if not len(values):
            numeric = cells and all(isinstance(c, str) and NEARLY.fullmatch(c) for c in cells)
            named = f"{column} ({_shown(cells[0]) if cells else 'blank'})"
            (nearly if numeric else unused[TEXTS]).append(named)
        elif values.nunique() == 1 and len(values) == len(cells):
            unused[CONSTANT].append(f"{column} ({float(values.iloc[0]):g})")
        else:
            usable.append(column)
    if nearly:
        raise UserError(
            f"{path}: numbers with a decimal comma, `%` or `±` in {join_some(nearly)}. Write "
            "plain numbers with points (an uncertainty in a column of its own, `x_std` beside "
            "`x`), or take these columns out"
        )
    return usable, unused


def _shown(cell: object) -> str:
    """A cell as a message shows it."""
    if isinstance(cell, str):
        return repr(shorten(cell, LONGEST_CELL, placeholder="..."))
    return str(cell)


def energies_of(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    """The energy grid of a DOS table as ``dos.energies``; its unit is ``bin`` where it is unknown.

    Raises:
        UserError: no formulas, no densities, or columns that are not on one grid.
    """
    if "formula" not in frame.columns:
        raise UserError(
            f"{path}: no column `formula`; it has {join_some(frame.columns, most=20)}. Give the "
            "column of formulas that name"
        )
    if path.suffix.lower() == ".csv":
        bins = energy_columns(frame, "formula", "material_id")
        energies = pd.to_numeric(pd.Series(bins, dtype=str), errors="coerce").to_numpy(np.float64)
        n, known = len(bins), np.isfinite(energies)
        if known.any() and not known.all():
            others = [name for name, number in zip(bins, known, strict=True) if not number]
            raise UserError(
                f"{path}: columns {join_some(others)} are not named after an energy, as the others "
                "are. Take them out: every column but `formula` and `material_id` is an energy."
            )
        if n > 1 and known.all():
            steps = np.diff(energies)
            if (steps <= 0).any() or np.ptp(steps) > ENERGY_TOLERANCE * steps.mean():
                raise UserError(
                    f"{path}: the energies that name its columns ({join_some(bins)}) are not "
                    "ascending in equal steps. Interpolate the table to such a grid."
                )
            ends = {"start": float(energies[0]), "stop": float(energies[-1])}
            return ends | {"n": n, "unit": "eV"}
    else:
        if "dos" not in frame.columns:
            has = join_some(frame.columns, most=20)
            raise UserError(f"{path}: no list column `dos`; it has {has}")
        first = frame["dos"].iloc[0]
        n = len(first) if isinstance(first, np.ndarray | list) else 0
    if n < 2:
        raise UserError(f"{path}: {n} DOS values per row; at least 2 are needed")
    return {"start": 0.0, "stop": float(n - 1), "n": n, "unit": "bin"}
