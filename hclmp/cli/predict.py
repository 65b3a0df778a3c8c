"""``hclmp predict``: compositions of the command line or of a table to predictions."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hclmp.cli.terminal import note, say, show_table
from hclmp.data.tables import PREDICTED
from hclmp.errors import UserError, join_some
from hclmp.files import ModelFiles, atomic_write
from hclmp.model import Model
from hclmp.sources.columns import composition_columns
from hclmp.sources.table import formulas, read_frame

MOST_SHOWN = 20  # rows on the terminal
NUMBER = r"[+-]?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?"


def predict(
    model: Path,
    formulas: list[str] | None,
    table: Path | None,
    out: Path | None,
    formula_column: str | None,
    as_json: bool,
) -> None:
    """Predict formulas or the rows of a table; print them, or write them beside the table's own.

    Raises:
        UserError: neither or both of formulas and table, or one of them or ``out`` cannot be used.
    """
    if bool(formulas) == (table is not None):
        raise UserError("name compositions or give a --table of them: one of the two")
    if formula_column is not None and table is None:
        raise UserError(
            "--formula-column is that of a --table, and none is given: leave one out or give both"
        )
    trained = Model.load(model)
    frame = None if table is None else read_frame(table)
    if out is not None:
        check_out(out, model, table)
    if frame is None:
        predicted = trained.predict(formulas or [])
    else:
        predicted = _of(trained, frame, table, formula_column or "formula")
        if str(table).lower().endswith(".csv") and str(out).lower().endswith(".parquet"):
            frame = frame.apply(_as_numbers)  # in CSV all cells are texts
    if out is not None:
        _write(trained, predicted, frame, out)
    if as_json:
        print_json(trained, {"compositions": records(predicted)}, units=trained.units)
    elif out is not None:
        note(f"{out}: {len(predicted)} compositions, {len(trained.properties)} properties")
    else:
        _show(trained, predicted)
    if doubtful := int((predicted["warning"] != "").sum()):
        Console(stderr=True).print(
            f"{doubtful} of {len(predicted)} predictions are doubtful: see their warnings",
            style="yellow",
        )


def _of(model: Model, frame: pd.DataFrame, table: Path | None, formula_column: str) -> pd.DataFrame:
    """Predictions of the rows of a table, whose mistakes name the file.

    The composition is read as ``hclmp new`` reads it, but for columns that the model predicts.
    """
    path, measured = str(table), [p.name for p in model.properties]
    elements = composition_columns(
        path, frame.drop(columns=measured, errors="ignore"), formula_column
    )
    if elements:
        said = f"compositions from the columns {join_some(elements, most=20)}"
        Console(stderr=True).print(said, highlight=False, soft_wrap=True)
    texts = formulas(path, frame, formula_column, elements)
    try:
        return model.predict(pd.DataFrame({"formula": texts}))
    except UserError as error:
        raise UserError(f"{table}: {error}") from error


def _beside(
    model: Model, frame: pd.DataFrame, predicted: pd.DataFrame, out: Path
) -> tuple[pd.DataFrame, list[str]]:
    """A table with the predictions beside its own columns, and the names of the properties there.

    The table's own columns stay. If one of the new names is taken, all new ones get `_predicted`.
    """
    names = [p.name for p in model.properties]
    new = predicted.drop(columns="formula")
    if set(new.columns) & set(frame.columns):
        ends = ("", "_std", "_low", "_high")
        renamed = {f"{name}{end}": f"{name}_predicted{end}" for name in names for end in ends}
        renamed |= {name: f"{name}_predicted" for name in PREDICTED}
        new, names = new.rename(columns=renamed), [f"{name}_predicted" for name in names]
    if taken := sorted(set(new.columns) & set(frame.columns)):
        raise UserError(
            f"{out}: the table has columns {join_some(taken)} already, as if it had been predicted "
            "before: remove them from it"
        )
    return pd.concat([frame.reset_index(drop=True), new], axis=1), names


def _as_numbers(cells: "pd.Series[str]") -> "pd.Series[Any]":
    """A column of texts as numbers if all are, with blanks as nulls; `007` is a name."""
    texts = cells.where(cells != "")
    given = texts.dropna()
    return pd.to_numeric(texts) if len(given) and given.str.fullmatch(NUMBER).all() else cells


def _write(model: Model, predicted: pd.DataFrame, frame: pd.DataFrame | None, out: Path) -> None:
    names = [p.name for p in model.properties]
    if frame is not None:
        predicted, names = _beside(model, frame, predicted, out)
    predicted.attrs["units"] = dict(zip(names, model.units.values(), strict=True))
    write_frame(out, predicted)


def check_out(out: Path, folder: Path, table: Path | None = None) -> None:
    """Refuse a file that cannot be written, or is the table or the model's; its folder is made."""
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{out}: name a .csv or .parquet file")
    if table is not None and out.resolve() == table.resolve():
        raise UserError(f"{out}: the --table itself, which would be replaced; name another file")
    files = ModelFiles(folder)
    if out.resolve() in (files.training.resolve(), files.history.resolve()):
        raise UserError(f"{out}: a file of the model, which would be replaced; name another file")
    try:
        if out.is_dir():
            raise UserError(f"{out}: a folder, not a file; name another file")
        if not out.parent.exists():  # if it is a file, the next line raises a clearer error
            out.parent.mkdir(parents=True)
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", suffix=".part"):
            pass
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise UserError(f"{out}: {reason}; name another file") from error


def write_frame(out: Path, frame: pd.DataFrame) -> None:
    """Write CSV, or Parquet, which keeps the units (``attrs["units"]`` in pandas)."""
    with atomic_write(out) as temporary:
        if out.suffix.lower() == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON; what is missing is null."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def print_json(model: Model, value: dict[str, Any], *, units: dict[str, str]) -> None:
    """Print JSON for scripts; it says what data the model comes from."""
    about = {"units": units, "simulated": model.about["trained_on"]["simulated"]}
    print(json.dumps(about | value, indent=2, allow_nan=False))


def _show(model: Model, predicted: pd.DataFrame) -> None:
    """A line per composition and property, and the warnings below."""
    data = "simulated" if model.about["trained_on"]["simulated"] else "measured"
    table = Table(title=f"predicted (trained on {data} values)")
    right = ("predicted", "90 % interval")
    for heading in ("composition", "property", *right, "unit"):
        table.add_column(heading, justify="right" if heading in right else "left")
    shown = predicted.head(MOST_SHOWN)
    for _, row in shown.iterrows():
        for i, prop in enumerate(model.properties):
            value, low, high = (row[f"{prop.name}{end}"] for end in ("", "_low", "_high"))
            words = ("" if i else str(row["formula"]), prop.name)
            numbers = (f"{value:.4g}", f"{low:.3g} to {high:.3g}")
            last = i == len(model.properties) - 1
            # Text: a unit such as [eV] is no markup
            cells = (Text(word) for word in (*words, *numbers, prop.unit))
            table.add_row(*cells, end_section=last)
    show_table(table)
    for formula, warning in zip(shown["formula"], shown["warning"], strict=True):
        if warning:
            say(f"{formula}: {warning}")
    if len(predicted) > MOST_SHOWN:
        note(f"{len(predicted) - MOST_SHOWN} more: write all with --out FILE")
