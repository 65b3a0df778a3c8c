"""The Materials Project's two services through its own client: a REST listing, a table of DOS.

The listing names the oxides and the calculation that each DOS comes from. The DOS of all materials
are rows of one Delta table on a public bucket, read by one scan that is pruned to the wanted
calculations and columns. One request per material would take 50 to 130 times as long.

The client retries 429, 502 and 504 (waiting as long as ``Retry-After`` says), but gives up within a
second if there is no such header, and does not retry 500, 503 or cut answers at all. Every call
here is therefore wrapped in `patiently`, which waits for minutes.
"""

import contextlib
import errno
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential

from hclmp.errors import UserError

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from mp_api.client import MPRester

log = logging.getLogger(__name__)
T = TypeVar("T")

TABLE = "s3a://materialsproject-parsed/core/electronic-structure/total-dos/"

# Waits of 2, 4, 8, ... seconds: four minutes in all, longer than the service limits a client.
ATTEMPTS = 9
FIRST_WAIT = 2.0  # seconds
LONGEST_WAIT = 60.0  # seconds
# Whether there is a network at all is to be known within seconds.
CONNECT_ATTEMPTS = 3

# delta-rs repeats a failed request by itself; `patiently` then repeats the file.
STORAGE = {
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_REGION": "us-east-1",
    "timeout": "300s",
    "connect_timeout": "30s",
    "max_retries": "3",
}
ROWS_AT_A_TIME = 256  # of about 50 kB each

FIELDS = ["material_id", "formula_pretty", "chemsys", "energy_above_hull", "dos.task_id"]
LISTS = ("energies", "spin_up_densities", "spin_down_densities")
COLUMNS = ("identifier", "run_type", "efermi", *LISTS)

KEY_PAGE = "https://next-gen.materialsproject.org/api"
GO_ON = "What is downloaded is kept: run `hclmp pull-dos` again to go on"


class Oxide(NamedTuple):
    """A listed material."""

    material_id: str  # such as ``mp-149``
    formula: str  # reduced
    chemsys: str  # its elements, alphabetical, joined by ``-``
    energy_above_hull: float | None  # eV/atom
    task: str | None  # identifier of the calculation of its DOS, as the table writes it


class IncompleteListing(Exception):
    """An answer holds fewer materials than the service says there are."""


def api_key() -> str:
    """The user's key, from ``MP_API_KEY`` or pymatgen's settings; it is kept nowhere else.

    Raises:
        UserError: there is none, or it is not 32 characters long.
    """
    key = _key()
    if not key:
        raise UserError(
            "no API key of the Materials Project: get one (free) at "
            f"{KEY_PAGE} and `export MP_API_KEY=...`, or use another `dos.source`"
        )
    if len(key) != 32:
        raise UserError(
            f"the API key of the Materials Project has {len(key)} characters instead of 32: "
            f"copy it again from {KEY_PAGE} to MP_API_KEY"
        )
    return key


def _key() -> str:
    from pymatgen.core import SETTINGS

    return str(os.environ.get("MP_API_KEY") or SETTINGS.get("PMG_MAPI_KEY") or "")


def connect() -> "MPRester":
    """The service's client.

    Raises:
        UserError: no usable key, or the service cannot be reached.
    """
    key = api_key()
    from mp_api.client import MPRester

    def open_client() -> "MPRester":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said in our own words where it matters
            return MPRester(key, mute_progress_bars=True, use_document_model=False)

    return patiently(open_client, "reaching the Materials Project", attempts=CONNECT_ATTEMPTS)


def list_oxides(client: "MPRester", chemsys: Sequence[str]) -> list[Oxide]:
    """The materials of these chemical systems (about 200 at a time) that have a DOS.

    They are sorted by number of elements, chemical system and name.

    Raises:
        UserError: the service keeps failing.
    """
    documents = patiently(lambda: _search(client, chemsys), "listing oxides")
    oxides = map(_oxide, documents)
    return sorted(oxides, key=lambda o: (o.chemsys.count("-"), o.chemsys, o.material_id))


def _search(client: "MPRester", chemsys: Sequence[str]) -> list[Any]:
    """One listing, without repetitions and as long as the service says it is."""
    totals: list[int] = []

    def note_total(response: Any, **_: object) -> None:
        # other than as expected: an error or a cut answer, which the client reports
        with contextlib.suppress(ValueError, KeyError, TypeError):
            totals.append(response.json()["meta"]["total_doc"])

    hooks = client.session.hooks["response"]
    hooks.append(note_total)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = client.materials.summary.search(
                elements=["O"],
                chemsys=list(chemsys),
                has_props=["dos"],
                include_gnome=False,  # not for commercial use
                fields=FIELDS,
            )
    finally:
        hooks.remove(note_total)
    # pages are not sorted: one may repeat what another had, and something is missing then
    unique = {str(document["material_id"]): document for document in found}
    if totals and len(unique) != totals[0]:
        raise IncompleteListing(f"{len(unique)} of {totals[0]} materials arrived")
    return list(unique.values())


def _oxide(document: Any) -> Oxide:
    from emmet.core.mpid import AlphaID

    task, hull = (document.get("dos") or {}).get("task_id"), document.get("energy_above_hull")
    return Oxide(
        material_id=material_name(str(document["material_id"])),
        formula=str(document["formula_pretty"]),
        chemsys=str(document["chemsys"]),
        energy_above_hull=None if hull is None else float(hull),
        # as the table names it (``aaaaaaft``)
        task=str(AlphaID(str(task).split("-")[-1], padlen=8)) if task else None,
    )


def material_name(text: str) -> str:
    """The usual name of a material: ``mp-149``, also if given as ``mp-aaaaaaft``.

    Raises:
        ValueError: not the name of a material.
    """
    from emmet.core.mpid import AlphaID

    return str(AlphaID(text).string)


def known_run_types() -> set[str]:
    """The kinds of calculation, as the table writes them."""
    from emmet.core.vasp.calc_types.enums import RunType

    return {kind.value for kind in RunType}


def open_table(version: int | None) -> "DeltaTable":
    """The table of DOS, the newest version or a given one.

    Raises:
        UserError: there is no such table, it has other columns, or it cannot be read.
    """
    from deltalake import DeltaTable

    opened = partial(DeltaTable, TABLE, version=version, storage_options=STORAGE)
    table: DeltaTable = patiently(opened, "opening the table of DOS")
    present = {field.name for field in table.schema().fields}
    if missing := sorted({*COLUMNS, "structure"} - present):
        raise UserError(
            f"{TABLE}: the table of DOS has no column {', '.join(missing)}: it has changed since "
            "this version of hclmp; update hclmp"
        )
    return table


class Scan:
    """The rows of the table, file by file, of the wanted calculations (``tasks``) and run types."""

    def __init__(self, table: "DeltaTable", tasks: Sequence[str], run_types: Sequence[str]) -> None:
        self._data = table.to_pyarrow_dataset()
        identifier, kind = pc.field("identifier"), pc.field("run_type")
        # the range prunes files and row groups, which a long list does not
        wanted = identifier.isin(pa.array(sorted(set(tasks)), pa.string()))
        wanted &= (identifier >= min(tasks)) & (identifier <= max(tasks))
        self._wanted = wanted & kind.isin(list(run_types))
        self._others = wanted & ~kind.isin(list(run_types))

    def files(self) -> dict[str, Any]:
        """Path -> fragment, of all files that may hold wanted rows, sorted by path."""
        fragments = {f.path: f for f in self._data.get_fragments(filter=self._wanted)}
        return dict(sorted(fragments.items()))

    def rows(self, fragment: Any) -> Iterator[pa.RecordBatch]:
        """Wanted rows of a file: ``COLUMNS`` and ``atoms``, the number of sites of the cell.

        The cell is that of the calculation, which need not be the one that the listing describes.
        """
        columns = {name: pc.field(name) for name in COLUMNS}
        columns["atoms"] = pc.list_value_length(pc.field("structure", "sites"))
        return self._batches(fragment, columns, self._wanted)

    def others(self) -> Iterator[pa.RecordBatch]:
        """``identifier`` and ``run_type`` of the rows of other run types; little is read."""
        columns = {name: pc.field(name) for name in COLUMNS[:2]}
        for fragment in self._data.get_fragments(filter=self._others):
            yield from self._batches(fragment, columns, self._others)

    def _batches(self, fragment: Any, columns: Any, rows: Any) -> Iterator[pa.RecordBatch]:
        # without threads that read ahead: after a failure of the bucket they end the interpreter
        # with a segmentation fault (pyarrow 26, deltalake 1.5)
        batches = fragment.to_batches(
            schema=self._data.schema,
            columns=columns,
            filter=rows,
            batch_size=ROWS_AT_A_TIME,
            use_threads=False,
            batch_readahead=0,
            fragment_readahead=0,
        )
        return (batch for batch in batches if batch.num_rows)


def patiently(call: Callable[[], T], what: str, *, attempts: int | None = None) -> T:
    """The result of a call to a service, tried again with growing waits while it may yet succeed.

    Args:
        call: what is done; it starts from the beginning each time.
        what: for messages, such as ``listing oxides``.
        attempts: how often at most; None: ``ATTEMPTS``.

    Raises:
        UserError: one sentence that says what to do.
    """
    most = attempts or ATTEMPTS

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        log.info(
            "%s failed (%s); attempt %d of %d in %.0f s",
            *(what, _reason(error), state.attempt_number + 1, most, wait),
        )

    retrying = Retrying(
        stop=stop_after_attempt(most),
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        retry=retry_if_exception(_may_pass),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(call)
    except Exception as error:
        if message := _message(error, what, most):
            raise UserError(message) from error
        raise


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that an error of the client speaks of."""
    found = re.search(r"status code (\d{3})", str(error))
    return int(found[1]) if found else None


def _may_pass(error: BaseException) -> bool:
    """Whether a call that failed like this may succeed later."""
    from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError
    from mp_api.client import MPRestError
    from requests import RequestException

    final = TableNotFoundError | DeltaProtocolError | FileNotFoundError
    if isinstance(error, final) or is_disk_full(error):
        return False
    if isinstance(error, MPRestError):
        status = _status(error)
        refused = "does not support the request" in str(error)  # the client's words for 400
        return not refused if status is None else status == 429 or status >= 500
    if isinstance(error, OSError | RequestException | DeltaError | pa.ArrowException):
        return True
    # an answer that is no JSON, or not what the client expects of its heartbeat (KeyError)
    return isinstance(error, IncompleteListing | ValueError | KeyError)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no space left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _message(error: Exception, what: str, attempts: int) -> str | None:
    """What the user is told of a call that failed for good; None of what is not expected."""
    from deltalake.exceptions import DeltaProtocolError, TableNotFoundError
    from requests.exceptions import ConnectionError as NoConnection

    if isinstance(error, TableNotFoundError | DeltaProtocolError):
        return (
            f"{TABLE}: there is no table of DOS that this version of hclmp can read "
            f"({_reason(error)}); update hclmp and deltalake"
        )
    if isinstance(error, FileNotFoundError):
        return (
            f"{what} failed: {_reason(error)}. Old versions of the table are removed after a time: "
            "delete the folder of this download in data/raw/materials_project and start again"
        )
    if is_disk_full(error):
        return None  # told by whoever knows the file
    if _status(error) in (401, 403):
        return (
            f"the Materials Project refuses the API key (status {_status(error)}): check that "
            f"MP_API_KEY is the key shown at {KEY_PAGE}"
        )
    if isinstance(error, NoConnection):
        return (
            f"{what} failed: no connection ({_reason(error)}). Check network and proxy; `hclmp "
            "pull-dos --offline` uses what was downloaded before"
        )
    if _may_pass(error):
        return f"{what} failed {attempts} times, lastly: {_reason(error)}. {GO_ON}"
    if _status(error) or "does not support the request" in str(error):
        return f"{what} failed: {_reason(error)}. The service may have changed: update mp-api"
    return None


def _reason(error: BaseException | None) -> str:
    """An error on one short line, which never holds the key."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"an answer without {text}"
    if key := _key():
        text = text.replace(key, "(key)")
    # the address is long (200 chemical systems) and says nothing
    text = re.sub(r"\s*on URL \S+( with message:)?", "", text)
    text = re.sub(r"(url: \S+?\?)\S+", r"\1...", text)
    return text if len(text) <= 200 else text[:200] + "..."
