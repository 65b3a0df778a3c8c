"""``hclmp systems``: the sheet of held-out systems, from a table, an archive or plates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from hclmp.config import Config, TargetsConfig
from hclmp.data.folds import group_systems, split_fold
from hclmp.data.formula import Fractions, composition_key, parse_formula, parse_formulas, system_of
from hclmp.data.tables import Floats, varied
from hclmp.errors import UserError, join_some
from hclmp.files import write_text
from hclmp.sources.inputs import archive_folder
from hclmp.sources.plates import read as plates
from hclmp.sources.reference.read import UVIS, about_systems, held_out_systems
from hclmp.sources.table import element_columns, formulas, read_frame

SAMPLED = 50  # different cells that are looked at to see whether a column holds formulas
AGREE = 0.95  # of the rows: amounts may be rounded to 0, and tables have mistakes
DISTINCT = 0.5  # of the rows: words that happen to read as formulas (`FCC`) come again


def write_systems(
    table: Path,
    out: Path,
    *,
    left_out: Sequence[str],
    formula_column: str,
    folds: int | None,
    elements_per_system: int,
    min_samples: int,
) -> None:
    """Write the sheet of held-out systems of a table, of a folder of plates, or of the archive.

    Compositions alone are read, not what is measured of them: rows without any property count too
    (``hclmp new`` leaves them out).

    Raises:
        UserError: the table cannot be used, or has too few such systems.
    """
    if table.suffix == ".zip" or (table.is_dir() and archive_folder(table, UVIS)):
        if folds is not None:
            raise UserError(f"{table}: its systems are folds of their own: leave --folds out")
        write_reference_systems(table, out)
        return
    texts = _plate_formulas(table) if table.is_dir() else _table_formulas(table, formula_column)
    systems = systems_of(parse_formulas(texts, left_out=left_out, origin=str(table)))
    sheet = group_systems(
        systems, elements_per_system=elements_per_system, min_samples=min_samples, folds=folds
    )
    check_folds(systems, sheet)
    write_text(out, sheet_text(sheet))
    Console().print(f"{out}: {len(sheet)} systems in {len(set(sheet.values()))} folds")


def write_reference_systems(archive: Path, out: Path) -> None:
    """Write the sheet of the systems that the paper's archive holds out, each its own fold.

    Raises:
        UserError: the archive cannot be used, or names no systems.
    """
    systems = held_out_systems(archive)
    if empty := [s.name for s in systems if not s.ours]:
        raise UserError(f"{archive}: no sample has just the elements of {join_some(empty)}")
    write_text(out, sheet_text({s.name: s.name for s in systems}))
    Console().print(f"{out}: {about_systems(systems)}", soft_wrap=True, highlight=False)


def _table_formulas(table: Path, formula_column: str) -> list[object]:
    frame = read_frame(table)
    elements = composition_columns(str(table), frame, formula_column)
    return formulas(str(table), frame, formula_column, elements)


def _plate_formulas(folder: Path) -> list[object]:
    """The compositions of printed plates; all patches are read for them.

    Raises:
        UserError: these are no plates.
    """
    inside = plates.plate_folder(str(folder))
    if not any(inside.glob("*.csv")):
        raise UserError(
            f"{folder}: neither the paper's archive (`{UVIS}` is not in it) nor printed plates "
            "(no `ten_replicas`, no .csv file). Name a table, data.zip, or the folder of one of "
            "these."
        )
    print(f"{inside}: reading all plates, with the defaults of `targets.plates`")
    raw = plates.read_targets(TargetsConfig(source="plates", path=str(folder)))
    print(raw.facts["sentences"][0])
    return raw.formula


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


def repeated_composition(path: str, frame: pd.DataFrame, formula_column: str) -> list[str]:
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
        if has.any() and ((amounts > 0) == has).mean() >= AGREE:
            repeated.append(column)
    return repeated if len(repeated) > 1 else []


def _reads_as_formulas(cells: "pd.Series[Any]") -> bool:
    """Whether cells are formulas of more than one element, with amounts or most of them different.

    Names of phases (`FCC`, `B2`) read as formulas too.
    """
    different = cells.drop_duplicates() if cells.dtype.kind not in "iufbmM" else cells.head(0)
    formulas = different.head(SAMPLED).tolist()
    try:
        several = [text for text in formulas if len(parse_formula(text)) > 1]
    except ValueError:
        return False
    amounts = any(c.isdigit() for text in several for c in text)
    return bool(several) and (amounts or len(different) >= DISTINCT * len(cells))


def systems_of(fractions: Sequence[Fractions]) -> list[str]:
    """The system of each composition: rows that ``prepare-targets`` merges count once."""
    different = {composition_key(f): f for f in fractions}
    return [system_of(f) for f in different.values()]


def labelled_compositions(
    values: Floats, fractions: Sequence[Fractions]
) -> tuple[list[str], Floats]:
    """The samples that ``prepare-targets`` will make of rows: systems, and values [m, L].

    Rows without any value are left out, those of one composition merged by the median.
    """
    labelled = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
    kept = [fractions[i] for i in labelled]
    index: dict[object, int] = {}
    groups = np.array([index.setdefault(composition_key(f), len(index)) for f in kept])
    return systems_of(kept), pd.DataFrame(values[labelled]).groupby(groups).median().to_numpy()


def check_folds(
    systems: Sequence[str],
    sheet: dict[str, str],
    values: Floats | None = None,
    columns: Sequence[str] = (),
) -> None:
    """Every fold must leave training data, and every property be there to learn and to judge.

    Args:
        systems: of the m samples.
        sheet: system -> fold.
        values: [m, L], where they are known.
        columns: the names of the L properties.

    Raises:
        UserError: says what is missing where; ``prepare-targets`` would refuse the sheet.
    """
    training = Config().training
    values = np.empty((len(systems), 0)) if values is None else values
    judged = np.zeros(values.shape[1], dtype=np.int64)
    varies = varied(values)  # a column of one value throughout is not the sheet's fault
    for fold in sorted(set(sheet.values())):
        rows = split_fold(
            systems,
            [s for s, f in sheet.items() if f == fold],
            validation_fraction=training.validation_fraction,
            seed=training.seed,
            fold=fold,
        )
        judged += (~np.isnan(values[rows.test])).sum(axis=0)
        if (still := varies & ~varied(values[rows.train])).any():
            names = join_some(c for c, s in zip(columns, still, strict=True) if s)
            raise UserError(
                f"fold `{fold}` leaves {len(rows.train)} training samples, in which {names} has "
                "fewer than two different values. Hold out fewer systems per fold (--folds), or "
                "take the column out of the table."
            )
    if unseen := [c for c, n in zip(columns, judged, strict=True) if not n]:
        raise UserError(
            f"no held-out sample has a value of {join_some(unseen)}: nothing can be judged there. "
            "Lower --min-samples, choose another --elements-per-system, or take the column out of "
            "the table."
        )


def sheet_text(sheet: dict[str, str]) -> str:
    """The sheet as it is written: tab-separated, system and fold."""
    lines = [f"{system}\t{fold}" for system, fold in sheet.items()]
    return "\n".join(["system\tfold", *lines]) + "\n"
