"""``hclmp predict``: compositions of the command line or of a table to predictions."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from hclmp.errors import UserError, listed
from hclmp.model import Model
from hclmp.provenance import written
from hclmp.sources.table import read_frame

MOST_SHOWN = 20  # rows on the terminal


def predict(
    folder: Path,
    formulas: Sequence[str],
    *,
    table: Path | None,
    out: Path | None,
    formula_column: str,
) -> None:
    """Predict formulas or the rows of a table; print them, or write them to a file.

    Args:
        folder: of the final model.
        formulas: compositions; none where there is a table.
        table: CSV or Parquet with a column of formulas; its other columns are kept.
        out: CSV or Parquet; printed if None.
        formula_column: of the table.

    Raises:
        UserError: neither or both of formulas and table, or one of them cannot be used.
    """
    if bool(formulas) == (table is not None):
        raise UserError("name compositions or give a --table of them: one of the two")
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise UserError(f"{out}: a prediction is written as .csv or .parquet")
    model = Model.load(folder)
    if table is None:
        predicted = model.predict(formulas)
    else:
        predicted = _of_table(model, read_frame(table), table, formula_column)
    if out is None:
        _show(model, predicted)
    else:
        _write(model, predicted, out)
    console = Console(stderr=True)
    if doubtful := int((predicted["warning"] != "").sum()):
        console.print(
            f"{doubtful} of {len(predicted)} compositions are unlike those of the training: see "
            "the column `warning`",
            style="yellow",
        )


def _of_table(model: Model, frame: pd.DataFrame, path: Path, formula_column: str) -> pd.DataFrame:
    """Predictions beside the columns that the table has already."""
    if formula_column not in frame.columns:
        raise UserError(
            f"{path}: no column `{formula_column}` among {listed(frame.columns)}; name the column "
            "of formulas with --formula-column"
        )
    try:
        predicted = model.predict(frame, formula_column=formula_column)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    new = predicted.drop(columns="formula")
    if taken := [name for name in new.columns if name in frame.columns]:
        # measured values that stand there already stay; ours get a name of their own
        new = new.rename(columns={name: f"{name}_predicted" for name in taken})
    joined = pd.concat([frame.reset_index(drop=True), new], axis=1)
    return joined.assign(warning=predicted["warning"])


def _write(model: Model, predicted: pd.DataFrame, out: Path) -> None:
    """Write the table; Parquet keeps the units."""
    with written(out) as temporary:
        if out.suffix == ".csv":
            predicted.to_csv(temporary, index=False)
        else:
            predicted.attrs["units"] = model.units
            predicted.to_parquet(temporary)
    Console().print(f"{out}: {len(predicted)} compositions, {len(model.properties)} properties")


def _show(model: Model, predicted: pd.DataFrame) -> None:
    """A line per property, a column per composition's value, with its 90 % interval."""
    note = "simulated" if model.about["trained_on"]["simulated"] else "measured"
    table = Table(title=f"predicted, with 90 % intervals (trained on {note} values)")
    table.add_column("property")
    table.add_column("unit")
    shown = predicted.head(MOST_SHOWN)
    for formula in shown["formula"]:
        table.add_column(str(formula), justify="right")
    for prop in model.properties:
        names = [prop.name, f"{prop.name}_low", f"{prop.name}_high"]
        cells = [f"{x:.4g} ({low:.3g} to {high:.3g})" for x, low, high in shown[names].to_numpy()]
        table.add_row(prop.name, prop.unit, *cells)
    console = Console()
    console.print(table)
    for formula, warning in zip(shown["formula"], shown["warning"], strict=True):
        if warning:
            console.print(f"{formula}: {warning}", markup=False, highlight=False, soft_wrap=True)
    if len(predicted) > MOST_SHOWN:
        console.print(f"{len(predicted) - MOST_SHOWN} more: write all with --out FILE")
