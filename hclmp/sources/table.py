"""Someone's own table: CSV or Parquet, with a formula column."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from hclmp.config import DosConfig, PropertyConfig, TargetsConfig
from hclmp.errors import UserError, listed
from hclmp.provenance import sha256
from hclmp.sources.raw import RawDos, RawTargets
from hclmp.tables import EnergyGrid, Property

# Columns with a meaning of their own, which are never taken for a property. A CSV column without a
# name is the row number that some programs write.
UNNAMED = "(no name)"
RESERVED = ("sample_id", "system", UNNAMED)

REMEDY = (
    "Correct or remove these rows, or leave the column out (`targets.properties` names the columns "
    "to use)."
)
DOS_REMEDY = "Correct or remove these rows; every column but formula and id is an energy."


def read_frame(path: str | Path, *, limit: int | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file; CSV cells stay text, or the formula ``NaN`` would be a blank.

    Raises:
        UserError: no such file, another kind of file, not readable, or without rows.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file (paths are relative to the working directory)")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix == ".csv":
            frame = _read_csv(path)
        else:
            raise UserError(f"{path}: not a .csv or .parquet file")
    except (ValueError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise UserError(
            f"{path}: cannot be read: {reason}. It must be Parquet, or CSV in UTF-8 with commas."
        ) from error
    if repeated := sorted({str(c) for c in frame.columns[frame.columns.duplicated()]}):
        raise UserError(f"{path}: columns named twice: {listed(repeated)}; rename or remove one")
    if frame.empty:
        raise UserError(f"{path}: the table is empty: it has no rows")
    return frame.head(limit).reset_index(drop=True) if limit else frame.reset_index(drop=True)


def _read_csv(path: Path) -> pd.DataFrame:
    """Text cells under the names of the first line; a row longer than that line is an error."""
    # The header is read as a row like others: given it, pandas would take the cells that a longer
    # row has too many for an index and shift the rest, and would rename repeated columns.
    cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    names = [str(name).strip() or UNNAMED for name in cells.iloc[0]]
    rows: pd.DataFrame = cells.iloc[1:].apply(lambda column: column.str.strip())
    return rows.set_axis(names, axis="columns")


def property_columns(frame: pd.DataFrame, formula_column: str) -> list[str]:
    """The properties when none are named: all columns but formula, id, system and ``*_std``."""
    columns = [str(c) for c in frame.columns]
    noise = {f"{c}_std" for c in columns}
    return [c for c in columns if c not in (formula_column, *RESERVED) and c not in noise]


def read_targets(config: TargetsConfig) -> RawTargets:
    """Read measured properties from a file.

    Raises:
        UserError: a missing column, or a cell that is not a finite number (row and column named).
    """
    path = str(config.path)
    frame = read_frame(path, limit=config.limit)
    _require(path, frame, [config.formula_column], "targets.formula_column")
    settings = config.properties or {
        c: PropertyConfig() for c in property_columns(frame, config.formula_column)
    }
    if not settings:
        raise UserError(f"{path}: no property column beside `{config.formula_column}`")
    taken = {"formula", config.formula_column, *RESERVED, "all", *(f"{c}_std" for c in settings)}
    if misnamed := sorted(taken & settings.keys()):
        raise UserError(
            f"{path}: a property cannot be called {listed(misnamed)}, which means something "
            "else in hclmp's tables. Rename the column, or leave it out (`targets.properties`)."
        )
    _require(path, frame, list(settings), "targets.properties")
    values = np.stack([numbers(path, frame, c) for c in settings], axis=1)
    blank = np.full(len(frame), np.nan)
    noise = [
        numbers(path, frame, f"{c}_std") if f"{c}_std" in frame.columns else blank for c in settings
    ]
    facts = {"file": path, "sha256": sha256(path), "rows": len(frame)}
    facts["ignored_columns"] = sorted(
        {str(c) for c in frame.columns}
        - {config.formula_column, "sample_id", *settings, *(f"{c}_std" for c in settings)}
    )
    return RawTargets(
        origin=path,
        sample_id=_ids(path, frame, "sample_id") if "sample_id" in frame.columns else None,
        formula=frame[config.formula_column].tolist(),
        properties=tuple(Property(name=c, **s.model_dump()) for c, s in settings.items()),
        values=values,
        noise=np.stack(noise, axis=1),
        simulated=False,
        facts=facts,
    )


def read_dos(config: DosConfig) -> RawDos:
    """Read densities of states from a file.

    Raises:
        UserError: a missing column, rows of different length or of another length than the energy
            grid, or a cell that is not a finite number.
    """
    path = str(config.path)
    frame = read_frame(path, limit=config.limit)
    _require(path, frame, [config.formula_column], "dos.formula_column")
    column = config.id_column or ("material_id" if "material_id" in frame.columns else None)
    if column:
        _require(path, frame, [column], "dos.id_column")
    if path.endswith(".csv"):
        bins = energy_columns(frame, config.formula_column, column)
        columns = [numbers(path, frame, c, DOS_REMEDY) for c in bins]
        dos = np.stack(columns, axis=1) if columns else None
    else:
        _require(path, frame, [config.dos_column], "dos.dos_column")
        dos = _lists(path, frame[config.dos_column], config.dos_column)
    found = 0 if dos is None else dos.shape[1]
    if dos is None or found != config.energies.n:
        raise UserError(
            f"{path}: {found} DOS values per row, but `dos.energies.n` is {config.energies.n}: "
            "set `dos.energies` to the table's grid"
        )
    return RawDos(
        origin=path,
        material_id=_ids(path, frame, column) if column else _row_names(len(frame)),
        formula=frame[config.formula_column].tolist(),
        dos=dos,
        grid=EnergyGrid(**config.energies.model_dump()),
        unit=config.unit,
        norm=config.unit.rsplit("/", 1)[-1] if "/" in config.unit else "as in the table",
        reference="as in the table",
        simulated=False,
        facts={"file": path, "sha256": sha256(path), "rows": len(frame)},
    )


def energy_columns(frame: pd.DataFrame, formula_column: str, id_column: str | None) -> list[str]:
    """The columns of a CSV file that hold one energy each: all but formula, id and reserved."""
    known = (formula_column, id_column, *RESERVED)
    return [str(c) for c in frame.columns if c not in known]


def numbers(
    path: str, frame: pd.DataFrame, column: str, remedy: str = REMEDY
) -> NDArray[np.float64]:
    """A column as finite floats: [n].

    Raises:
        UserError: names the rows (data rows from 1) and cells that are not finite numbers.
    """
    cells = frame[column]
    if cells.dtype.kind in "bmM":  # pandas would count dates in microseconds, and take True for 1
        values = np.full(len(cells), np.nan)
    else:
        values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        named = listed(f"row {i + 1} ({_shown(cells.iloc[i])})" for i in bad)
        raise UserError(f"{path}: column `{column}` is not a finite number in {named}. {remedy}")
    return values


def _shown(cell: object) -> str:
    return repr(cell) if isinstance(cell, str) else str(cell)


def _lists(path: str, cells: "pd.Series[Any]", column: str) -> NDArray[np.float64]:
    """A list column as one array: [n, D]."""
    lengths = [len(c) if isinstance(c, np.ndarray | list) else 0 for c in cells]
    usual = max(set(lengths), key=lengths.count)
    odd = [f"row {i + 1} ({n})" for i, n in enumerate(lengths) if n != usual]
    if odd or not usual:
        raise UserError(
            f"{path}: column `{column}` must hold lists of one length; most have {usual} values, "
            f"but {listed(odd) or 'none has any'}. Correct or remove these rows."
        )
    try:
        return np.stack([np.asarray(c, dtype=np.float64) for c in cells])
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: column `{column}` holds more than numbers: {error}") from error


def _require(path: str, frame: pd.DataFrame, columns: list[str], key: str) -> None:
    if missing := [c for c in columns if c not in frame.columns]:
        raise UserError(
            f"{path}: no column {listed(missing)} (`{key}`); "
            f"the table has {listed(frame.columns, most=20)}"
        )


def _ids(path: str, frame: pd.DataFrame, column: str) -> list[str]:
    blank = np.flatnonzero(frame[column].isna() | (frame[column] == ""))
    if len(blank):
        rows = listed(f"row {i + 1}" for i in blank)
        raise UserError(f"{path}: column `{column}` is empty in {rows}; fill it or leave it out")
    names = [str(name) for name in frame[column]]
    repeated = frame[column].duplicated()
    if repeated.any():
        raise UserError(
            f"{path}: column `{column}` must be unique; repeated are "
            f"{listed(frame[column][repeated].unique())}"
        )
    return names


def _row_names(n: int) -> list[str]:
    return [f"row-{i}" for i in range(1, n + 1)]
