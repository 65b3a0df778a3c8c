"""The files that a source reads: what the workflow watches, and no more.

A folder of the user's may hold the run's own outputs as well (``data/`` holds ``data/processed/``):
taken for inputs these would make a circle, which Snakemake passes over in silence.
"""

from pathlib import Path

from hclmp.config import DosConfig, TargetsConfig
from hclmp.errors import UserError
from hclmp.sources.plates.read import plate_files, plate_folder
from hclmp.sources.reference.read import DOS, UVIS


def input_files(section: TargetsConfig | DosConfig) -> list[str]:
    """The user's files that a source reads, sorted; none for the demo and the Materials Project.

    Raises:
        UserError: there is no such file or folder, or it is not of the source's kind.
    """
    if section.path is None:
        return []
    path = Path(section.path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (relative to the working directory)")
    if section.source == "plates":
        return [str(file) for file in plate_files(plate_folder(section.path))]
    if not path.is_dir():
        return [section.path]
    if section.source == "reference":
        return _archive_files(path, UVIS if isinstance(section, TargetsConfig) else DOS)
    raise UserError(f"{path}: a folder, not a file; name the .csv or .parquet file itself")


def archive_folder(path: Path, name: str) -> Path | None:
    """A folder of the paper's unpacked archive, at its top or in its ``data``; None: not there."""
    return next((p for p in (path / name, path / "data" / name) if p.is_dir()), None)


def _archive_files(path: Path, name: str) -> list[str]:
    """The files of a folder of the archive; where it is missing, the step says so."""
    folder = archive_folder(path, name)
    found = sorted(folder.rglob("*")) if folder else []
    return [str(file) for file in found if file.is_file() and not file.name.startswith(".")]
