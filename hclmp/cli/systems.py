"""``hclmp systems``: the sheet of held-out systems, from a table, an archive or plates."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hclmp.cli.terminal import listed
from hclmp.config import TargetsConfig
from hclmp.data.folds import group_systems, sheet_text
from hclmp.data.formula import Fractions, composition_key, parse_formulas, system_of
from hclmp.data.split_checks import check_sheet
from hclmp.errors import UserError, join_some
from hclmp.files import write_text
from hclmp.sources.columns import composition_columns
from hclmp.sources.plates import read as plates
from hclmp.sources.reference.archive import archive_folder
from hclmp.sources.reference.read import UVIS, about_systems, held_out_systems
from hclmp.sources.table import formulas, read_frame


def systems(
    table: Path,
    out: Path,
    left_out: str,
    formula_column: str,
    folds: int | None,
    elements_per_system: int,
    min_samples: int,
) -> None:
    """Write the sheet of held-out systems of a table, of a folder of plates, or of the archive.

    Raises:
        UserError: the table cannot be used, or has too few such systems.
    """
    if table.suffix == ".zip" or (table.is_dir() and archive_folder(table, UVIS)):
        if folds is not None:
            raise UserError(f"{table}: its systems are folds of their own: leave --folds out")
        write_reference_systems(table, out)
        return
    texts = _plate_formulas(table) if table.is_dir() else _table_formulas(table, formula_column)
    found = _systems(parse_formulas(texts, left_out=listed(left_out), origin=str(table)))
    sheet = group_systems(
        found, elements_per_system=elements_per_system, min_samples=min_samples, folds=folds
    )
    check_sheet(found, sheet)
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


def _systems(fractions: Sequence[Fractions]) -> list[str]:
    """The system of each composition: rows that ``prepare-targets`` merges count once."""
    different = {composition_key(f): f for f in fractions}
    return [system_of(f) for f in different.values()]
