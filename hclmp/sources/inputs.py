"""What can be said of a source before it is read: its files, and how many rows it has."""

from pathlib import Path

from hclmp.config import DosConfig, TargetsConfig
from hclmp.errors import UserError
from hclmp.sources.registry import source_module


def input_files(section: TargetsConfig | DosConfig) -> list[str]:
    """The user's files that a source reads, sorted: the workflow reruns when one of them changes.

    No others of their folder: it may hold outputs of the run as well (``data/`` holds
    ``data/processed/``), and Snakemake does not report such a circle. A source that reads more than
    the one file that ``path`` names has a function ``input_files(section)``.

    Raises:
        UserError: there is no such file or folder, or it is not of the source's kind.
    """
    if section.path is None:
        return []
    path = Path(section.path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (relative to the working directory)")
    if find := getattr(source_module(section.source), "input_files", None):
        return [str(file) for file in find(section)]
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a file; name the .csv or .parquet file itself")
    return [section.path]


def count_rows(section: TargetsConfig | DosConfig) -> int | None:
    """About how many rows a source has, for an estimate; None where only reading it would tell.

    A source that can count them cheaply has a function ``count_rows(section)``. It complains of
    nothing: a missing or damaged file is an error of the step that reads it.
    """
    count = getattr(source_module(section.source), "count_rows", None)
    rows: int | None = count(section) if count else None
    return section.limit if rows is None else min(rows, section.limit or rows)
