"""Finished trainings, kept by the content of all that determines them: none is done twice.

DVC deletes what a stage made before it makes it again, so that one failed fold would cost all the
finished ones. What is kept here lies outside, is copied (never linked) and verified both ways.
Snakemake's own cache between workflows would not do: its key knows neither wildcards nor the
imported package, it restores symbolic links, and it serves Snakemake alone.

Off unless the environment variable ``HCLMP_CACHE`` names a folder, as `dvc repro` makes it do.
Nothing is ever removed: delete the folder, or the entries not used for long (an entry's time of
change is that of its last use).
"""

import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from hclmp.files import atomic_write, write_json
from hclmp.provenance import Provenance, hash_of, sha256

log = logging.getLogger(__name__)
VARIABLE = "HCLMP_CACHE"
ABOUT = "about.json"
LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch")  # another version, another last digit


def restore(origin: Provenance, files: Iterable[Path]) -> bool:
    """Put back the files of a result, if all of them were kept; whole or not at all each.

    An entry that is damaged is named in the log and removed. ``origin`` is the provenance that the
    files carry, which determines their content.
    """
    entry = _entry(origin)
    if entry is None or not (entry / ABOUT).is_file():
        return False
    try:
        kept = json.loads((entry / ABOUT).read_text())["files"]
    except (KeyError, ValueError):
        kept = {}
    for file in files:
        copy = entry / file.name
        if not copy.is_file() or sha256(copy) != kept.get(file.name):
            log.warning("%s: damaged or missing, so this result is made anew", copy)
            shutil.rmtree(entry, ignore_errors=True)
            return False
    for file in files:
        with atomic_write(file) as temporary:
            shutil.copyfile(entry / file.name, temporary)
    with suppress(OSError):  # another user's, in a folder that a group shares
        os.utime(entry)
    log.info("restored from %s, made with the same data, configuration and source", entry)
    return True


def keep(origin: Provenance, files: Iterable[Path]) -> None:
    """Keep copies of the files of a finished result; an entry appears whole or not at all.

    If they cannot be written, a warning says so: the result itself is finished.
    """
    entry = _entry(origin)
    if entry is None or (entry / ABOUT).is_file():
        return
    part = entry.with_name(f".{entry.name}.{os.getpid()}.part")
    try:
        _copy(origin, files, part)
        shutil.rmtree(entry, ignore_errors=True)  # an entry without ABOUT is broken
        with suppress(OSError):  # another process has just kept the same
            part.rename(entry)
    except OSError as error:
        log.warning("%s: cannot be written (%s), so this result is not kept", entry, error)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy(origin: Provenance, files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for file in files:
        shutil.copyfile(file, folder / file.name)
        hashes[file.name] = sha256(folder / file.name)
    write_json(folder / ABOUT, {"origin": origin, "files": hashes})


def _entry(origin: Provenance) -> Path | None:
    """The folder of a result; None if nothing is to be kept."""
    root = os.environ.get(VARIABLE)
    if not root:
        return None
    versions = {name: version(name) for name in LIBRARIES}
    return Path(root) / hash_of([origin, versions, platform.python_version(), platform.machine()])
