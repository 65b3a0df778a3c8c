"""``hclmp new``: a working directory for someone's own table."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hclmp.cli.suggestions import suggest_limits, suggest_log10, visible_rows
from hclmp.cli.terminal import listed
from hclmp.config import DEFAULT_VARIANTS, PropertyConfig, TargetsConfig, resolve
from hclmp.data.composition import vocabulary_of
from hclmp.data.elements import TABULATED, check_elements
from hclmp.data.folds import group_systems, sheet_text
from hclmp.data.formula import parse_formulas, system_of
from hclmp.data.split_checks import check_sheet
from hclmp.data.tables import Floats, Targets
from hclmp.errors import UserError, join_some
from hclmp.files import write_text
from hclmp.pipeline.steps.pull_dos import checked_dos
from hclmp.sources.checks import check_names, check_spread, check_values
from hclmp.sources.columns import RESERVED, columns_to_learn, composition_columns, energies_of
from hclmp.sources.raw import RawDos
from hclmp.sources.samples import labelled_rows, merge_rows
from hclmp.sources.table import read_frame, read_targets

# A line of the configuration that gives a property a limit.
LIMIT = re.compile(r"^( +)((?:minimum|maximum): \d+)$", re.MULTILINE)
Limits = Mapping[str, Mapping[str, int]]  # property -> `minimum` and `maximum`


def new(
    directory: Path,
    targets: Path,
    dos: Path | None,
    left_out: str,
    log10: str,
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
    path, frame = str(targets), read_frame(targets)
    composition = composition_columns(path, frame, formula_column)
    columns, unused = columns_to_learn(path, frame, composition, formula_column)
    raw = read_targets(
        TargetsConfig(
            source="table",
            path=path,
            formula_column=formula_column,
            composition_columns=composition,
            properties={c: PropertyConfig() for c in columns},
            allow_missing=allow_missing,
        )
    )
    check_names(raw)
    check_values(raw)
    dropped, logged = listed(left_out), set(listed(log10))
    _check_log10(path, logged - {"auto"}, columns, raw.values)
    parsed = parse_formulas(raw.formula, left_out=dropped, origin=path)
    labelled, fractions, unlabelled = labelled_rows(raw, parsed)
    samples = merge_rows(labelled, fractions, {})
    check_spread(path, columns, samples.values)
    sheet = group_systems(
        samples.system,
        elements_per_system=elements_per_system,
        min_samples=min_samples,
        folds=folds,
    )
    check_sheet(samples.system, sheet, samples.values, columns)
    rows = visible_rows([system_of(f) for f in parsed], sheet, frame)
    suggested, disputed = suggest_log10(columns, raw.values, rows)
    chosen = logged - {"auto"} | (suggested if "auto" in logged else set())
    limits = suggest_limits(raw.properties, raw.values, chosen)
    config = _config(targets, dos, formula_column, dropped, columns, chosen)
    if composition:
        config["targets"]["composition_columns"] = composition
    if allow_missing:
        config["targets"]["allow_missing"] = True
    checked = resolve(config, origin=f"the configuration for {targets}")
    check_elements(parsed, raw.formula, (*checked.embeddings, TABULATED), origin=path)
    densities = checked_dos(checked)[0] if dos is not None else None
    write_text(sheet_file, sheet_text(sheet))
    write_text(config_file, _config_text(config, limits))
    _show(raw.values, columns, suggested, chosen, samples, sheet)
    for column in (c for c in disputed if c not in chosen):
        print(f"log10 is not suggested for {column}: {disputed[column]}")
    if limits:
        print(f"limits that the values suggest, comments in {config_file}: {_named(limits)}")
    if composition:
        print(f"compositions from the columns {join_some(composition, most=20)}")
    if unlabelled:
        print(f"{unlabelled} rows without any property: they will be left out")
    if merged := len(fractions) - len(samples):
        print(f"{merged} rows share a composition with another: they will be merged (median)")
    if densities is not None:
        print(_about_dos(densities))
    for why, names in unused.items():
        if names:
            print(f"{why}, not used: {join_some(names, most=10)}")
    if reserved := [c for c in RESERVED if c in frame.columns]:
        print(f"columns that are never a property: {join_some(reserved)}")
    print(f"\nRun it:  snakemake --cores all --directory {shlex.quote(str(directory))}")


def _check_place(directory: Path, *files: Path) -> None:
    for file in files:
        if file.exists():
            raise UserError(f"{file}: there already; choose another directory or remove it")
    for folder in (directory, directory / "config"):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file, not a directory; choose another name")


def _check_log10(path: str, chosen: set[str], columns: Sequence[str], values: Floats) -> None:
    if unknown := sorted(chosen - set(columns)):
        raise UserError(
            f"{path}: --log10 names {join_some(unknown)}; the properties are {join_some(columns)}"
        )
    for column, v in zip(columns, values.T, strict=True):
        if column in chosen and (bad := np.flatnonzero(v <= 0)).size:
            named = join_some(f"row {j + 1} ({v[j]:g})" for j in bad)
            raise UserError(f"{path}: --log10 {column}: not positive in {named}")


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
        energies = energies_of(dos, read_frame(dos))
        config["dos"] |= {"source": "table", "path": str(dos.resolve()), "energies": energies}
    return config


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


def _named(limits: Limits) -> str:
    each = (f"{c} ({', '.join(f'{k} {v}' for k, v in ends.items())})" for c, ends in limits.items())
    return join_some(each, most=10)


def _config_text(config: dict[str, Any], limits: Limits) -> str:
    """The configuration as it is written; suggested limits are comments under their property."""
    head = (
        "# Made by `hclmp new`. Every key, with its default and unit: config/README.md of hclmp.\n"
        "# Fill in the units; `coordinate` places a property on a common axis (a photon energy).\n"
    )
    if config["dos"].get("energies", {}).get("unit") == "bin":
        head += "# dos.energies: the file does not tell them; correct start, stop and unit.\n"
    if limits:
        head += (
            "# A limit in a comment fits all values of the table. Remove its `# ` if no material\n"
            "# can be beyond it: predictions and their intervals then stay within.\n"
        )
    targets = config["targets"]
    properties = {c: p | limits.get(c, {}) for c, p in targets["properties"].items()}
    config = config | {"targets": targets | {"properties": properties}}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return head + LIMIT.sub(r"\1# \2", text)


def _show(
    values: Floats,
    columns: Sequence[str],
    suggested: set[str],
    chosen: set[str],
    samples: Targets,
    sheet: dict[str, str],
) -> None:
    elements = vocabulary_of([dict.fromkeys(s.split("-"), 1.0) for s in samples.system])
    systems = len(set(samples.system))
    table = Table(title=f"{len(values)} rows, {len(elements)} elements, {systems} systems")
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
    console.print(f"elements: {' '.join(elements)}")
    folds, tested = len(set(sheet.values())), sum(s in sheet for s in samples.system)
    console.print(f"held out: {len(sheet)} systems in {folds} folds, {tested} compositions")
