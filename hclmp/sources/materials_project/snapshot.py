"""The raw download from the Materials Project: kept on disk, resumed, never fetched twice.

A query has a folder ``data/raw/materials_project/<key>/``:

- ``record.json``: the query, the database's and the table's version (pinned when the download
  starts, so that resuming reads the same snapshot), the date, the licence, and once all is there
  the SHA-256 of every file;
- ``listing-*.json``: the listed oxides, one file per request;
- ``dos-*.parquet``: the wanted rows of the DOS table, one file per file of the table;
- ``other-rows.parquet``: which further rows the table has of these materials.

Every file is written whole or not at all, so a file that is there is finished.
"""

import datetime
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hclmp.config import DosConfig
from hclmp.errors import UserError, join_some
from hclmp.files import atomic_write, write_json
from hclmp.progress import progress
from hclmp.provenance import hash_of, sha256
from hclmp.sources.materials_project import client as mp_client
from hclmp.sources.materials_project.client import Oxide, patiently

log = logging.getLogger(__name__)

ROOT = Path("data/raw/materials_project")
RECORD = "record.json"
OTHERS = "other-rows.parquet"
SYSTEMS_PER_REQUEST = 200  # an address of 2 to 3 kB; the client does not split longer ones

LICENCE = "CC BY 4.0"
ATTRIBUTION = (
    "Data from the Materials Project (materialsproject.org), licensed CC BY 4.0 "
    "(creativecommons.org/licenses/by/4.0). Cite A. Jain et al., Commentary: The Materials "
    "Project, APL Materials 1, 011002 (2013), doi:10.1063/1.4812323. Resampled by hclmp."
)

OTHER_ROWS = pa.schema([("identifier", pa.string()), ("run_type", pa.string())])
ROWS = pa.schema(
    [*OTHER_ROWS, ("efermi", pa.float64())]
    + [(name, pa.list_(pa.float64())) for name in mp_client.LISTS]
    + [("atoms", pa.int32())]
)
"""Columns of ``dos-*.parquet``: as in the DOS table (eV, states/eV/cell), and atoms per cell."""


@dataclass(frozen=True)
class Query:
    """What is downloaded; grid, norm, broadening and duplicates are decided afterwards."""

    elements: tuple[str, ...]  # beside oxygen, sorted
    max_elements: int  # of an oxide, oxygen included
    exclude: tuple[str, ...]  # names of materials that are left out, sorted
    run_types: tuple[str, ...]  # wanted kinds of calculation, the preferred first
    limit: int | None  # only so many materials, in the order of the listing

    @property
    def folder(self) -> Path:
        """Where its download is kept."""
        return ROOT / hash_of(asdict(self))[:16]

    def chemsys(self) -> list[str]:
        """All chemical systems, by number of elements, then alphabetical."""
        systems: list[str] = []
        for n in range(1, self.max_elements):
            cations = itertools.combinations(self.elements, n)
            systems += sorted("-".join(sorted((*some, "O"))) for some in cations)
        return systems

    def requests(self) -> list[list[str]]:
        """The chemical systems of each listing request."""
        systems, size = self.chemsys(), SYSTEMS_PER_REQUEST
        return [systems[i : i + size] for i in range(0, len(systems), size)]


def query_of(config: DosConfig) -> Query:
    """The query of a configuration.

    Raises:
        UserError: an element, a material or a run type does not exist.
    """
    from pymatgen.core.periodic_table import Element

    settings = config.materials_project
    names = [e for e in settings.exclude if "-" in e]
    symbols = [e for e in settings.exclude if "-" not in e]
    if unknown := [e for e in (*settings.elements, *symbols) if not Element.is_valid_symbol(e)]:
        raise UserError(
            f"`dos.materials_project`: {join_some(unknown)} is no element (and a material is "
            "written like mp-1234)"
        )
    elements = sorted(set(settings.elements) - set(symbols) - {"O"})
    if not elements:
        raise UserError("`dos.materials_project.elements` leaves no element beside oxygen")
    known = mp_client.known_run_types()
    if unknown := [kind for kind in settings.run_types if kind not in known]:
        raise UserError(
            f"`dos.materials_project.run_types`: {join_some(unknown)} is none; there are "
            f"{join_some(sorted(known), most=99)}"
        )
    return Query(
        elements=tuple(elements),
        max_elements=settings.max_elements,
        exclude=tuple(sorted({_material(name) for name in names})),
        run_types=tuple(dict.fromkeys(settings.run_types)),
        limit=config.limit,
    )


def _material(name: str) -> str:
    try:
        return mp_client.material_name(name)
    except ValueError as error:
        raise UserError(
            f"`dos.materials_project.exclude`: {name} is no material such as mp-1234"
        ) from error


@dataclass(frozen=True)
class Snapshot:
    """A complete download."""

    folder: Path
    record: dict[str, Any]  # the content of its record file
    oxides: list[Oxide]  # of the query, in the order of the listing

    def batches(self, rows: int = 256) -> Iterable[pa.RecordBatch]:
        """The downloaded rows (``ROWS``), a few at a time, in the order of file names."""
        for path in sorted(self.folder.glob("dos-*.parquet")):
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=rows)

    def others(self) -> pa.Table:
        """``identifier`` and ``run_type`` of these materials' rows of other run types."""
        return pq.read_table(self.folder / OTHERS)


def fetch(query: Query, *, offline: bool) -> Snapshot:
    """The download of a query: from disk if it is complete, else from where it stopped.

    Raises:
        UserError: offline and not complete; no key, no network, a service that keeps failing, no
            material, a full disk, or a file that has changed on disk.
    """
    folder = query.folder
    record = _read_record(folder)
    if record.get("complete"):
        log.info("Materials Project: using the download of %s in %s", record["date"], folder)
    elif offline:
        raise UserError(
            f"offline, and the download in {folder} is not complete: {_missing(query, record)}."
            " Run `hclmp pull-dos` once with a network and without --offline"
        )
    else:
        try:
            _download(query, record)
        except OSError as error:
            if not mp_client.is_disk_full(error):
                raise
            raise UserError(
                f"{folder}: no space left on the disk while downloading. Free some. "
                f"{mp_client.GO_ON}"
            ) from error
        record = _read_record(folder)  # as any later run will see it
    changed = [
        name
        for name, digest in record["files"].items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
    if changed:
        raise UserError(
            f"{folder}: {join_some(changed)} is missing or has changed since it was downloaded; "
            "delete this folder to download it again"
        )
    return Snapshot(folder, record, _oxides(query, folder))


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: no longer readable; delete this folder") from error
    return record


def _missing(query: Query, record: dict[str, Any]) -> str:
    if not record:
        return "nothing of this query is there"
    if not record["listed"]:
        there = len(list(query.folder.glob("listing-*.json")))
        return f"the listing has {there} of at most {len(query.requests())} parts"
    return "densities of states are missing"


def _download(query: Query, record: dict[str, Any]) -> None:
    """Fetch what is not there yet; ``record`` is brought up to date, in memory and on disk."""
    folder = query.folder
    if not record.get("listed"):
        _list(query, record)
    tasks = sorted({oxide.task for oxide in _oxides(query, folder) if oxide.task})
    if not tasks:
        shutil.rmtree(folder)  # there may be some later, so the next run asks again
        raise UserError(
            "no material of the Materials Project matches `dos.materials_project` (oxides of "
            f"{join_some(query.elements)} with at most {query.max_elements} elements, with a DOS): "
            "widen `elements` or `max_elements`, or exclude less"
        )
    table = mp_client.open_table(record.get("table_version"))
    record |= {"table": mp_client.TABLE, "table_version": table.version()}
    write_json(folder / RECORD, record)
    _scan(mp_client.Scan(table, tasks, query.run_types), folder)
    parts = [p for p in folder.iterdir() if p.name != RECORD and not p.name.startswith(".")]
    record |= {"complete": True, "files": {p.name: sha256(p) for p in sorted(parts)}}
    write_json(folder / RECORD, record)


def _list(query: Query, record: dict[str, Any]) -> None:
    folder, requests = query.folder, query.requests()
    client = mp_client.connect()
    if record.get("database_version") != client.db_version:
        for stale in folder.glob("listing-*.json"):  # of another state of the database
            stale.unlink()
    record |= {
        "query": asdict(query),
        "database_version": client.db_version,
        "client": f"mp-api {version('mp-api')}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "licence": LICENCE,
        "attribution": ATTRIBUTION,
        "listed": False,
        "complete": False,
    }
    write_json(folder / RECORD, record)
    with progress("Materials Project, listing oxides: request", len(requests)) as advance:
        found = 0
        for i, systems in enumerate(requests):
            path = folder / f"listing-{i:04d}.json"
            if not path.is_file():
                write_json(path, mp_client.list_oxides(client, systems))
            found += len(_listed_in(path, query))
            advance(i + 1, f"{found} oxides")
            if query.limit and found >= query.limit:
                break
    record["listed"] = True
    write_json(folder / RECORD, record)


def _oxides(query: Query, folder: Path) -> list[Oxide]:
    """The listed materials, less those left out, up to the limit."""
    parts = sorted(folder.glob("listing-*.json"))
    # requests and the materials of each are in one order: that of `Query.chemsys`
    return [oxide for part in parts for oxide in _listed_in(part, query)][: query.limit]


def _listed_in(part: Path, query: Query) -> list[Oxide]:
    oxides = (Oxide(*row) for row in json.loads(part.read_text()))
    return [oxide for oxide in oxides if oxide.material_id not in query.exclude]


def _scan(scan: mp_client.Scan, folder: Path) -> None:
    """Read the wanted rows, file by file; a file whose rows are on disk is not opened."""
    files = patiently(scan.files, "reading the table of DOS")
    count = 0
    with progress("Materials Project, table of DOS: file", len(files)) as advance:
        for done, (name, fragment) in enumerate(files.items(), start=1):
            part = folder / f"dos-{hashlib.sha256(name.encode()).hexdigest()[:12]}.parquet"
            if not part.is_file():
                what = f"reading file {done} of {len(files)} of the table of DOS"
                patiently(partial(_write, part, ROWS, partial(scan.rows, fragment)), what)
            count += pq.read_metadata(part).num_rows
            advance(done, f"{count} densities of states")
    if not (folder / OTHERS).is_file():
        patiently(partial(_write, folder / OTHERS, OTHER_ROWS, scan.others), "reading run types")


def _write(path: Path, schema: pa.Schema, rows: Callable[[], Iterable[pa.RecordBatch]]) -> None:
    """Write rows to Parquet as they come; bounded memory, and all or nothing."""
    with (
        atomic_write(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for batch in rows():
            writer.write_batch(batch.cast(schema))
