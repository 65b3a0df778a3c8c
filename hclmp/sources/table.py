"""Someone's own table: CSV or Parquet, with a formula column."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hclmp.config import DosConfig, PropertyConfig, TargetsConfig
from hclmp.data.formula import formula_text
from hclmp.data.tables import EnergyGrid, Floats, Property
from hclmp.data.units import same_unit
from hclmp.errors import UserError, join_some
from hclmp.provenance import sha256
from hclmp.sources.columns import RESERVED, element_columns, energy_columns, property_columns
from hclmp.sources.csv_file import read_csv
from hclmp.sources.raw import RawDos, RawTargets, row_names

SPLIT_WORDS = ("train", "val", "test", "")

REMEDY = (
    "Correct or remove these rows, or leave the column out (`targets.properties` names the columns "
    "to use); `targets.allow_missing: true` (`hclmp new --allow-missing`) accepts blank cells."
)
AMOUNT_REMEDY = "Amounts of elements are numbers from 0 on, blank for 0; correct these rows."
DOS_REMEDY = "Correct or remove these rows; every column but formula and id is an energy."


def read_frame(path: str | Path, *, limit: int | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file; CSV cells stay text, or the formula ``NaN`` would be a blank.

    Raises:
        UserError: no such file, a folder, another kind of file, not readable, or without rows.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a file; name the .csv or .parquet file itself")
    if not path.is_file():
        raise UserError(f"{path}: no such file (paths are relative to the working directory)")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        elif path.suffix.lower() == ".csv":
            frame = read_csv(path)
        else:
            raise UserError(f"{path}: not a .csv or .parquet file; save it as CSV, with commas")
    except (ValueError, pa.ArrowException, OSError) as error:  # OSError: a damaged footer
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise UserError(
            f"{path}: cannot be read: {reason}. It must be Parquet, or CSV in UTF-8 with commas."
        ) from error
    if repeated := sorted({str(c) for c in frame.columns[frame.columns.duplicated()]}):
        raise UserError(f"{path}: columns named twice: {join_some(repeated)}; rename or remove one")
    if frame.empty:
        raise UserError(f"{path}: the table is empty: it has no rows")
    return frame.head(limit).reset_index(drop=True) if limit else frame.reset_index(drop=True)


def count_rows(section: TargetsConfig | DosConfig) -> int | None:
    """Rows of the file; None where it is missing, 0 where it is damaged."""
    path = Path(str(section.path))
    if not path.is_file():
        return None
    if path.suffix.lower() == ".parquet":
        try:
            return int(pq.read_metadata(path).num_rows)
        except (pa.ArrowException, OSError):
            return 0
    with path.open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)


def read_targets(config: TargetsConfig) -> RawTargets:
    """Read measured properties from a file.

    Raises:
        UserError: a missing column, or a cell that is not a finite number (row and column named).
    """
    path = str(config.path)
    frame = read_frame(path, limit=config.limit)
    composition = _composition_columns(path, frame, config)
    settings = _properties(path, frame, config, composition)
    unknown = np.full(len(frame), np.nan)

    def values(column: str) -> Floats:
        where = ~_blank(frame[column]) if config.allow_missing else None
        return numbers(path, frame, column, where=where)

    stds = [f"{c}_std" for c in settings]
    used = {*composition, "sample_id", *settings, *stds, config.split_column}
    return RawTargets(
        origin=path,
        sample_id=_ids(path, frame, "sample_id") if "sample_id" in frame.columns else None,
        formula=formulas(path, frame, config.formula_column, config.composition_columns),
        properties=tuple(Property(name=c, **s.model_dump()) for c, s in settings.items()),
        values=np.stack([values(c) for c in settings], axis=1),
        noise=np.stack([values(c) if c in frame.columns else unknown for c in stds], axis=1),
        simulated=False,
        facts=_facts(path, frame)
        | {"ignored_columns": sorted(c for c in map(str, frame.columns) if c not in used)},
        split=_split_words(path, frame, config.split_column) if config.split_column else None,
    )


def _facts(path: str, frame: pd.DataFrame) -> dict[str, Any]:
    return {"file": path, "sha256": sha256(path), "rows": len(frame)}


def _composition_columns(path: str, frame: pd.DataFrame, config: TargetsConfig) -> list[str]:
    """The columns that hold the composition: that of the formula, or those of the elements."""
    if config.composition_columns:
        _require(path, frame, config.composition_columns, "targets.composition_columns")
        _check_elements(path, frame, config)
        return config.composition_columns
    if config.formula_column not in frame.columns and (found := element_columns(frame)):
        raise UserError(
            f"{path}: no column `{config.formula_column}` (`targets.formula_column`), but columns "
            f"named after elements: {join_some(found, most=20)}. If they hold the composition, "
            "name them in `targets.composition_columns`."
        )
    _require(path, frame, [config.formula_column], "targets.formula_column")
    return [config.formula_column]


def _check_elements(path: str, frame: pd.DataFrame, config: TargetsConfig) -> None:
    """No element is named twice, and none is forgotten and then learned as a property."""
    named = config.composition_columns
    elements = element_columns(frame)
    if unknown := [c for c in named if c not in elements]:
        raise UserError(
            f"{path}: `targets.composition_columns` names {join_some(unknown)}, no element symbol"
        )
    if repeated := sorted({c for c in named if named.count(c) > 1}):
        raise UserError(
            f"{path}: `targets.composition_columns` names {join_some(repeated)} more than once"
        )
    unlisted = [c for c in elements if c not in (*named, config.split_column)]
    if unlisted and not config.properties:
        raise UserError(
            f"{path}: columns named after elements, but not in `targets.composition_columns`: "
            f"{join_some(unlisted)}. Add them there, or name the properties in "
            "`targets.properties`."
        )


def formulas(
    path: str, frame: pd.DataFrame, formula_column: str, composition_columns: Sequence[str]
) -> list[object]:
    """The formula of each row, written from the columns of the elements where these are given.

    Raises:
        UserError: an amount is no number or negative, or all of a row are 0.
    """
    if not composition_columns:
        return list(frame[formula_column])
    columns = [
        numbers(path, frame, c, AMOUNT_REMEDY, where=~_blank(frame[c])) for c in composition_columns
    ]
    amounts = np.nan_to_num(np.stack(columns, axis=1))
    for wrong, word in (((amounts < 0).any(axis=1), "negative"), (~amounts.any(axis=1), "all 0")):
        if rows := [f"row {i + 1}" for i in np.flatnonzero(wrong)]:
            raise UserError(
                f"{path}: amounts of the elements are {word} in {join_some(rows)}. {AMOUNT_REMEDY}"
            )
    # as fractions: amounts of any unit may be smaller than what a formula shows
    shares = amounts / amounts.max(axis=1, keepdims=True)
    shares /= shares.sum(axis=1, keepdims=True)
    return [formula_text(composition_columns, row) for row in shares]


def _properties(
    path: str, frame: pd.DataFrame, config: TargetsConfig, composition: Sequence[str]
) -> dict[str, PropertyConfig]:
    """The properties and what is said of them, in the configuration or in the file itself."""
    units = _units_in_file(path)
    columns = list(config.properties) or [
        c for c in property_columns(frame, composition) if c != config.split_column
    ]
    if not columns:
        raise UserError(f"{path}: no property column beside {join_some(composition)}")
    taken = {"formula", "split", *composition, *RESERVED, "all", *(f"{c}_std" for c in columns)}
    if misnamed := sorted(taken & set(columns)):
        raise UserError(
            f"{path}: a property cannot be called {join_some(misnamed)}, which means something "
            "else in hclmp's tables. Rename the column, or leave it out (`targets.properties`)."
        )
    _require(path, frame, columns, "targets.properties")
    settings = {}
    for column in columns:
        given = config.properties.get(column, PropertyConfig())
        stored = units.get(column, given.unit)
        if given.unit and not same_unit(stored, given.unit):
            raise UserError(
                f"{path}: column `{column}` is in {stored!r} by the file's own metadata, but in "
                f"{given.unit!r} by `targets.properties`. Correct one of the two."
            )
        settings[column] = given.model_copy(update={"unit": given.unit or stored})
    return settings


def _units_in_file(path: str) -> dict[str, str]:
    """Column -> unit, as the fields of a Parquet file may say."""
    if not path.lower().endswith(".parquet"):
        return {}
    stored = {field.name: (field.metadata or {}).get(b"unit") for field in pq.read_schema(path)}
    return {name: unit.decode() for name, unit in stored.items() if unit}


def _split_words(path: str, frame: pd.DataFrame, column: str) -> list[str]:
    """What a row is for: ``train``, ``val``, ``test``, or "" for nothing."""
    _require(path, frame, [column], "targets.split_column")
    blank = _blank(frame[column])
    words = ["" if b else str(c) for c, b in zip(frame[column], blank, strict=True)]
    if bad := [f"row {i + 1} ({w!r})" for i, w in enumerate(words) if w not in SPLIT_WORDS]:
        raise UserError(
            f"{path}: column `{column}` must be `train`, `val`, `test` or blank; it is not in "
            f"{join_some(bad)}. Correct these rows."
        )
    return words


def _blank(cells: "pd.Series[Any]") -> NDArray[np.bool_]:
    """Which cells are blank: an empty text, NaN or null."""
    return np.asarray(cells.isna() | (cells == ""), dtype=bool)


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
    if path.lower().endswith(".csv"):
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
        material_id=_ids(path, frame, column) if column else row_names(len(frame)),
        formula=frame[config.formula_column].tolist(),
        dos=dos,
        grid=EnergyGrid(**config.energies.model_dump()),
        unit=config.unit,
        norm=config.unit.rsplit("/", 1)[-1] if "/" in config.unit else "as in the table",
        reference="as in the table",
        simulated=False,
        facts=_facts(path, frame),
    )


def numbers(
    path: str,
    frame: pd.DataFrame,
    column: str,
    remedy: str = REMEDY,
    *,
    where: NDArray[np.bool_] | None = None,
) -> Floats:
    """A column as finite floats: [n]; NaN outside ``where``, the rows that must have one.

    Raises:
        UserError: names the rows (data rows from 1) and cells that are not finite numbers.
    """
    cells = frame[column]
    if cells.dtype.kind in "bmM":  # pandas would count dates in microseconds, and take True for 1
        values = np.full(len(cells), np.nan)
    else:
        values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~np.isfinite(values)
    if len(bad := np.flatnonzero(wrong if where is None else wrong & where)):
        shown = [repr(cell) if isinstance(cell, str) else str(cell) for cell in cells.iloc[bad]]
        named = join_some(f"row {i + 1} ({cell})" for i, cell in zip(bad, shown, strict=True))
        raise UserError(f"{path}: column `{column}` is not a finite number in {named}. {remedy}")
    return values


def _lists(path: str, cells: "pd.Series[Any]", column: str) -> Floats:
    """A list column as one array: [n, D]."""
    lengths = [len(c) if isinstance(c, np.ndarray | list) else 0 for c in cells]
    usual = max(set(lengths), key=lengths.count)
    odd = [f"row {i + 1} ({n})" for i, n in enumerate(lengths) if n != usual]
    if odd or not usual:
        raise UserError(
            f"{path}: column `{column}` must hold lists of one length; most have {usual} values, "
            f"but {join_some(odd) or 'none has any'}. Correct or remove these rows."
        )
    try:
        return np.stack([np.asarray(c, dtype=np.float64) for c in cells])
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: column `{column}` holds more than numbers: {error}") from error


def _require(path: str, frame: pd.DataFrame, columns: list[str], key: str) -> None:
    if missing := [c for c in columns if c not in frame.columns]:
        raise UserError(
            f"{path}: no column {join_some(missing)} (`{key}`); "
            f"the table has {join_some(frame.columns, most=20)}"
        )


def _ids(path: str, frame: pd.DataFrame, column: str) -> list[str]:
    if len(blank := np.flatnonzero(_blank(frame[column]))):
        rows = join_some(f"row {i + 1}" for i in blank)
        raise UserError(f"{path}: column `{column}` is empty in {rows}; fill it or leave it out")
    if len(repeated := frame[column][frame[column].duplicated()].unique()):
        raise UserError(
            f"{path}: column `{column}` must be unique; repeated are {join_some(repeated)}"
        )
    return [str(name) for name in frame[column]]
