"""``hclmp new``: a working directory for someone's own table."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hclmp.cli.systems import (
    check_folds,
    composition_columns,
    labelled_compositions,
    repeated_composition,
    sheet_text,
)
from hclmp.config import DEFAULT_VARIANTS, Config, PropertyConfig, TargetsConfig, resolve
from hclmp.data.composition import vocabulary_of
from hclmp.data.elements import TABULATED, check_elements
from hclmp.data.folds import group_systems
from hclmp.data.formula import parse_formulas
from hclmp.errors import UserError, join_some
from hclmp.files import write_text
from hclmp.pipeline.steps.prepare_targets import check_names, check_spread, check_values
from hclmp.sources.raw import RawDos, check_dos
from hclmp.sources.table import (
    RESERVED,
    energy_columns,
    property_columns,
    read_dos,
    read_frame,
    read_targets,
)

ENERGY_TOLERANCE = 0.02  # of a step: energies that name columns are rounded
TEXTS, CONSTANT = "columns without numbers", "columns with one value in every row"
AGAIN = "columns of the amounts that the formulas say"
NOISE = "standard deviations of columns that are not learned"
LONGEST_CELL = 30  # characters of a cell that are shown
# 2,01 and 2.1 % and 2.1 ± 0.2: numbers to a reader alone
NEARLY = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?\s*(%|(±|\+/?-)\s*\d+([.,]\d+)?\s*%?)?")
DECADES_FOR_LOG10 = 2.0  # a positive property that spans so many decades is better learned as log10


def new_directory(
    directory: Path,
    *,
    targets: Path,
    dos: Path | None,
    left_out: Sequence[str],
    log10: Sequence[str],
    formula_column: str,
    allow_missing: bool,
    folds: int | None,
    elements_per_system: int,
    min_samples: int,
) -> None:
    """Write ``config/config.yaml`` and ``config/systems.tsv`` into a new working directory.

    Raises:
        UserError: the directory has a configuration already, or the table cannot be used; nothing
            is written then.
    """
    config_file, sheet_file = (directory / "config" / n for n in ("config.yaml", "systems.tsv"))
    _check_place(directory, config_file, sheet_file)
    frame = read_frame(targets)
    composition = composition_columns(str(targets), frame, formula_column)
    columns, unused = _columns(targets, frame, composition, formula_column)
    raw = read_targets(
        TargetsConfig(
            source="table",
            path=str(targets),
            formula_column=formula_column,
            composition_columns=composition,
            properties={c: PropertyConfig() for c in columns},
            allow_missing=allow_missing,
        )
    )
    check_names(raw)
    check_values(raw)
    suggested = [c for c, v in zip(columns, raw.values.T, strict=True) if _spans_decades(v)]
    chosen = set(log10) - {"auto"} | (set(suggested) if "auto" in log10 else set())
    _check_log10(targets, chosen, columns, raw.values)
    fractions = parse_formulas(raw.formula, left_out=left_out, origin=str(targets))
    systems, values = labelled_compositions(raw.values, fractions)
    check_spread(str(targets), columns, values)
    sheet = group_systems(
        systems, elements_per_system=elements_per_system, min_samples=min_samples, folds=folds
    )
    check_folds(systems, sheet, values, columns)
    config = _config(targets, dos, formula_column, left_out, columns, chosen)
    if composition:
        config["targets"]["composition_columns"] = composition
    if allow_missing:
        config["targets"]["allow_missing"] = True
    checked = resolve(config, origin=f"the configuration for {targets}")
    check_elements(fractions, raw.formula, (*checked.embeddings, TABULATED), origin=str(targets))
    densities = _checked_dos(checked) if dos is not None else None
    write_text(sheet_file, sheet_text(sheet))
    write_text(config_file, _config_text(config))
    _describe(raw.values, columns, suggested, chosen, systems, sheet, vocabulary=_elements(systems))
    if composition:
        print(f"compositions from the columns {join_some(composition, most=20)}")
    _describe_rows(raw.values, len(systems))
    if densities is not None:
        print(_about_dos(densities))
    for why, names in unused.items():
        if names:
            print(f"{why}, not used: {join_some(names, most=10)}")
    if taken := [c for c in RESERVED if c in frame.columns]:
        print(f"columns that are never a property: {join_some(taken)}")
    print(f"\nRun it:  snakemake --cores all --directory {shlex.quote(str(directory))}")


def _describe_rows(values: "np.ndarray[Any, np.dtype[np.float64]]", samples: int) -> None:
    """Say which rows are no samples of their own."""
    unlabelled = int(np.isnan(values).all(axis=1).sum())
    if unlabelled:
        print(f"{unlabelled} rows without any property: they will be left out")
    if merged := len(values) - unlabelled - samples:
        print(f"{merged} rows share a composition with another: they will be merged (median)")


def _check_place(directory: Path, *files: Path) -> None:
    for file in files:
        if file.exists():
            raise UserError(f"{file}: there already; choose another directory or remove it")
    for folder in (directory, directory / "config"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file, not a directory; choose another name")


def _columns(
    targets: Path, frame: pd.DataFrame, composition: Sequence[str], formula_column: str
) -> tuple[list[str], dict[str, list[str]]]:
    """The columns to learn, and all others that say nothing of the composition, by reason.

    Raises:
        UserError: there is none to learn, or numbers of one cannot be read.
    """
    again = [] if composition else repeated_composition(str(targets), frame, formula_column)
    known = [*(composition or [formula_column]), *again]
    candidates = property_columns(frame, known)
    columns, unused = _usable_columns(targets, frame, candidates)
    unused[AGAIN] = again
    noise = set(map(str, frame.columns)) - {*candidates, *known, *RESERVED}
    unused[NOISE] = sorted(c for c in noise if c.removesuffix("_std") not in columns)
    for why in (CONSTANT, AGAIN):
        if unused[why] and not columns:
            raise UserError(
                f"{targets}: {why}: {join_some(unused[why])}. There is nothing to learn."
            )
    return columns, unused


def _usable_columns(
    targets: Path, frame: pd.DataFrame, columns: Sequence[str]
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
            named = f"{column} ({_shown(cells[0]) if cells else 'blank'})"
            (nearly if _nearly_numbers(cells) else unused[TEXTS]).append(named)
        elif values.nunique() == 1 and len(values) == len(cells):
            unused[CONSTANT].append(f"{column} ({float(values.iloc[0]):g})")
        else:
            usable.append(column)
    if nearly:
        raise UserError(
            f"{targets}: numbers with a decimal comma, `%` or `±` in {join_some(nearly)}. Write "
            "plain numbers with points (an uncertainty in a column of its own, `x_std` beside "
            "`x`), or take these columns out"
        )
    return usable, unused


def _nearly_numbers(cells: Sequence[object]) -> bool:
    return bool(cells) and all(isinstance(c, str) and NEARLY.fullmatch(c) for c in cells)


def _shown(cell: object) -> str:
    """A cell as a message shows it."""
    return (
        repr(shorten(cell, LONGEST_CELL, placeholder="...")) if isinstance(cell, str) else str(cell)
    )


def _check_log10(
    targets: Path,
    chosen: set[str],
    columns: Sequence[str],
    values: "np.ndarray[Any, np.dtype[np.float64]]",
) -> None:
    if strangers := sorted(chosen - set(columns)):
        raise UserError(
            f"{targets}: --log10 names {join_some(strangers)}; the properties are "
            f"{join_some(columns)}"
        )
    for column, v in zip(columns, values.T, strict=True):
        if column in chosen and (bad := np.flatnonzero(v <= 0)).size:
            named = join_some(f"row {j + 1} ({v[j]:g})" for j in bad)
            raise UserError(f"{targets}: --log10 {column}: not positive in {named}")


def _checked_dos(config: Config) -> RawDos:
    """The densities of states, after what ``pull-dos`` would refuse."""
    densities = read_dos(config.dos)
    check_dos(densities)
    parsed = parse_formulas(
        densities.formula, left_out=config.targets.left_out, origin=f"{densities.origin}, formulas"
    )
    check_elements(parsed, densities.formula, [config.model.embedding], origin=densities.origin)
    return densities


def _elements(systems: Sequence[str]) -> tuple[str, ...]:
    return vocabulary_of([dict.fromkeys(system.split("-"), 1.0) for system in systems])


def _spans_decades(values: "np.ndarray[Any, np.dtype[np.float64]]") -> bool:
    values = values[~np.isnan(values)]
    return bool((values > 0).all() and np.log10(values.max() / values.min()) >= DECADES_FOR_LOG10)


def _config(
    targets: Path,
    dos: Path | None,
    formula_column: str,
    left_out: Sequence[str],
    columns: Sequence[str],
    log10: set[str],
) -> dict[str, Any]:
    """The configuration for the table: what differs from the defaults."""
    properties = {
        c: {"unit": "", "transform": "log10" if c in log10 else "identity"} for c in columns
    }
    config: dict[str, Any] = {
        "targets": {
            "source": "table",
            "path": str(targets.resolve()),
            "formula_column": formula_column,
            "left_out": list(left_out),
            "properties": properties,
        },
        "dos": {"source": "none", "held_out": "keep"},  # written, for dvc.yaml names it
        "systems": "config/systems.tsv",
        "variants": [n for n, v in DEFAULT_VARIANTS.items() if dos or not v.get("transfer")],
    }
    if dos is not None:
        config["dos"] |= {"source": "table", "path": str(dos.resolve()), **_dos_columns(dos)}
    return config


def _dos_columns(dos: Path) -> dict[str, Any]:
    """The energy grid of a DOS table, as far as the file tells it."""
    frame = read_frame(dos)
    if "formula" not in frame.columns:
        raise UserError(
            f"{dos}: no column `formula`; it has {join_some(frame.columns, most=20)}. Give the "
            "column of formulas that name"
        )
    if dos.suffix.lower() == ".csv":
        bins = energy_columns(frame, "formula", "material_id")
        energies = pd.to_numeric(pd.Series(bins, dtype=str), errors="coerce").to_numpy(np.float64)
        n, known = len(bins), np.isfinite(energies)
        if known.any() and not known.all():
            others = [name for name, number in zip(bins, known, strict=True) if not number]
            raise UserError(
                f"{dos}: columns {join_some(others)} are named after no energy, as the others are. "
                "Take them out: every column but `formula` and `material_id` is an energy."
            )
        if n > 1 and known.all():
            steps = np.diff(energies)
            if (steps <= 0).any() or np.ptp(steps) > ENERGY_TOLERANCE * steps.mean():
                raise UserError(
                    f"{dos}: the energies that name its columns ({join_some(bins)}) are not "
                    "ascending in equal steps. Interpolate the table to such a grid."
                )
            grid = {"start": float(energies[0]), "stop": float(energies[-1])}
            return {"energies": {**grid, "n": n, "unit": "eV"}}
    else:
        if "dos" not in frame.columns:
            raise UserError(
                f"{dos}: no list column `dos`; it has {join_some(frame.columns, most=20)}"
            )
        first = frame["dos"].iloc[0]
        n = len(first) if isinstance(first, np.ndarray | list) else 0
    if n < 2:
        raise UserError(f"{dos}: {n} DOS values per row; at least 2 are needed")
    return {"energies": {"start": 0.0, "stop": float(n - 1), "n": n, "unit": "bin"}}


def _about_dos(densities: RawDos) -> str:
    """How many densities of states there are, on which grid, and what of it is a guess."""
    grid = densities.grid
    energies = f"{grid.n} energies from {grid.start:g} to {grid.stop:g} {grid.unit}"
    guess = "which the file does not tell" if grid.unit == "bin" else "a unit that is assumed"
    return (
        f"{len(densities.formula)} densities of states on {energies}, {guess}, in "
        f"{densities.unit}, assumed too: correct `dos.energies` and `dos.unit` in "
        "config/config.yaml"
    )


def _config_text(config: dict[str, Any]) -> str:
    head = (
        "# Made by `hclmp new`. Every key, with its default and unit: config/README.md of hclmp.\n"
        "# Fill in the units; `coordinate` places a property on a common axis (a photon energy).\n"
    )
    if config["dos"].get("energies", {}).get("unit") == "bin":
        head += "# dos.energies: the file does not tell them; correct start, stop and unit.\n"
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _describe(
    values: "np.ndarray[Any, np.dtype[np.float64]]",
    columns: Sequence[str],
    suggested: Sequence[str],
    chosen: set[str],
    systems: Sequence[str],
    sheet: dict[str, str],
    *,
    vocabulary: Sequence[str],
) -> None:
    """Print what was found."""
    found = f"{len(values)} rows, {len(vocabulary)} elements, {len(set(systems))} systems"
    table = Table(title=found)
    for name in ("property", "minimum", "median", "maximum", "learned as", "suggested"):
        table.add_column(name, justify="left" if name == "property" else "right")
    for column, v in zip(columns, values.T, strict=True):
        table.add_row(
            escape(column),
            *(f"{x:.4g}" for x in (np.nanmin(v), float(np.nanmedian(v)), np.nanmax(v))),
            "log10" if column in chosen else "identity",
            "log10" if column in suggested else "identity",
        )
    console = Console()
    console.print(table)
    console.print(f"elements: {' '.join(vocabulary)}")
    tested = sum(system in sheet for system in systems)
    console.print(
        f"held out: {len(sheet)} systems in {len(set(sheet.values()))} folds, {tested} compositions"
    )
