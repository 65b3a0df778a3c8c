"""What goes wrong on the way: waited out, resumed, or told in one sentence."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hclmp.errors import UserError
from hclmp.sources.materials_project import client as mp_client
from hclmp.sources.materials_project.read import read_dos
from tests.made_up.materials_project_servers import Servers
from tests.mp.pulled import LISTING_REQUESTS, folder, record, settings, table_reads

pytestmark = pytest.mark.mp

SLOW_DOWN = {"status": 429, "headers": {"Retry-After": "1"}}


@pytest.fixture(scope="module")
def clean(running: Servers) -> dict[str, Any]:
    """Filled by `compare` with the first download, which had no faults."""
    return {}


@pytest.fixture
def same(
    servers: Servers,
    clean: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], None]:
    """Compare the present download, byte by byte, with one that met no faults."""
    if not clean:
        (tmp_path / "clean").mkdir()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path / "clean")
            raw = read_dos(settings())
            clean |= {"files": record()["files"], "dos": raw.dos}
        servers.control(reset=True)

    def compare() -> None:
        assert record()["complete"]
        assert record()["files"] == clean["files"]
        np.testing.assert_array_equal(read_dos(settings()).dos, clean["dos"])

    return compare


def leftovers() -> list[str]:
    return [p.name for p in folder().iterdir() if p.name.startswith(".") or "part" in p.name]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([{"status": 429}] * 6, id="429"),
        pytest.param([{"status": 500}] * 3, id="500"),
        pytest.param([{"status": 503}] * 3, id="503"),
        pytest.param([{"cut": 700}] * 2, id="cut body"),
        pytest.param([{"drop": True}] * 5, id="reset"),
        pytest.param([{"short": True}, {}], id="a page that lacks a material"),
    ],
)
def test_a_listing_that_fails_for_a_while_is_repeated(
    servers: Servers, same: Callable[[], None], faults: list[dict[str, Any]]
) -> None:
    servers.control(rest=faults)
    read_dos(settings())
    assert len(servers.control()["rest"]) == LISTING_REQUESTS + len(faults)
    same()


def test_retry_after_is_honoured(servers: Servers, same: Callable[[], None]) -> None:
    servers.control(rest=[SLOW_DOWN] * 2)
    read_dos(settings())
    times = [at for at, *_ in servers.control()["rest"]]
    assert [b - a >= 1.0 for a, b in pairwise(times[:4])] == [True, True, False]
    same()


def test_the_waits_outlast_a_limit_of_minutes() -> None:
    waits = [min(mp_client.FIRST_WAIT * 2**i, mp_client.LONGEST_WAIT) for i in range(8)]
    assert len(waits) == mp_client.ATTEMPTS - 1
    assert sum(waits) > 180


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": "500 Internal Server Error", "times": 4}, id="500"),
        pytest.param({"status": "503 Slow Down", "times": 4}, id="503"),
        pytest.param({"status": "429 Too Many Requests", "times": 4}, id="429"),
        pytest.param({"cut": 0.5, "times": 4}, id="cut body"),
        pytest.param({"drop": True, "times": 4}, id="reset"),
    ],
)
def test_a_scan_that_fails_for_a_while_is_repeated(
    servers: Servers, same: Callable[[], None], fault: dict[str, Any]
) -> None:
    servers.control(s3=fault | {"match": ".parquet", "skip": 3}, reset=True)
    read_dos(settings())
    assert len(table_reads(servers.control())) > len(set(table_reads(servers.control())))
    same()


def test_a_scan_that_keeps_failing_leaves_whole_parts_and_goes_on_later(
    servers: Servers, same: Callable[[], None]
) -> None:
    forever = {"match": ".parquet", "skip": 6, "times": 10**6, "status": "503 Slow Down"}
    servers.control(s3=forever, reset=True)
    with pytest.raises(UserError, match=r"file \d of \d of the table.*9 times.*run `hclmp pull"):
        read_dos(settings())
    assert not record()["complete"]
    assert record()["listed"]
    done = sorted(p.name for p in folder().glob("dos-*.parquet"))
    assert 1 <= len(done) < 6
    assert all(pq.read_metadata(folder() / name).num_rows for name in done)
    assert not leftovers()
    read_before = list(dict.fromkeys(table_reads(servers.control())))[: len(done)]
    # meanwhile the table has moved on
    version = record()["table_version"]
    servers.control(s3={}, commit=True, reset=True)
    read_dos(settings())
    seen = servers.control()
    assert not seen["rest"]
    assert record()["table_version"] == version
    assert not set(table_reads(seen)) & set(read_before)
    same()
    from deltalake import DeltaTable

    now = DeltaTable(mp_client.TABLE, storage_options=mp_client.STORAGE)
    assert now.version() > version


def test_a_listing_that_keeps_failing_goes_on_later(
    servers: Servers, same: Callable[[], None]
) -> None:
    servers.control(rest=[{}, {"status": 500, "always": True}], reset=True)
    with pytest.raises(UserError, match=r"listing oxides failed 9 times.*status code 500"):
        read_dos(settings())
    assert [p.name for p in folder().glob("listing-*")] == ["listing-0000.json"]
    assert not leftovers()
    servers.control(rest=[], reset=True)
    read_dos(settings())
    assert len(servers.control()["rest"]) == LISTING_REQUESTS - 1
    same()


def test_a_listing_of_two_databases_is_not_mixed(servers: Servers) -> None:
    servers.control(rest=[{}, {"status": 500, "always": True}])
    with pytest.raises(UserError, match="listing oxides"):
        read_dos(settings())
    servers.control(rest=[], database="2026.05.01", reset=True)
    forget_heartbeat()
    try:
        facts = read_dos(settings()).facts
    finally:
        forget_heartbeat()
    assert facts["database_version"] == "2026.05.01"
    assert len(servers.control()["rest"]) == LISTING_REQUESTS


def forget_heartbeat() -> None:
    """The client remembers a heartbeat for as long as the process lives."""
    from mp_api.client import MPRester

    MPRester._get_heartbeat_info.cache_clear()


def test_a_full_disk_is_told_and_goes_on_later(
    servers: Servers, same: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_batch", full)
        with pytest.raises(UserError, match=r"no space left on the disk.*Free some"):
            read_dos(settings())
    assert not leftovers()
    assert not list(folder().glob("dos-*"))
    read_dos(settings())
    same()


def test_offline_says_what_is_missing(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLMP_OFFLINE", "1")
    with pytest.raises(UserError, match=r"offline.*nothing of this query.*without --offline"):
        read_dos(settings())
    assert not Path("data").exists()
    monkeypatch.setenv("HCLMP_OFFLINE", "0")
    servers.control(rest=[{}, {"status": 500, "always": True}])
    with pytest.raises(UserError, match="listing oxides"):
        read_dos(settings())
    monkeypatch.setenv("HCLMP_OFFLINE", "1")
    with pytest.raises(UserError, match="the listing has 1 of at most 3 parts"):
        read_dos(settings())
    monkeypatch.delenv("HCLMP_OFFLINE")
    servers.control(rest=[])
    online = read_dos(settings())
    monkeypatch.setenv("HCLMP_OFFLINE", "1")
    monkeypatch.delenv("MP_API_KEY")
    servers.control(reset=True)
    np.testing.assert_array_equal(read_dos(settings()).dos, online.dos)
    seen = servers.control()
    assert (seen["rest"], seen["s3"]) == ([], [])


def test_without_a_key(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", None)
    with pytest.raises(UserError, match=r"no API key.*next-gen.materialsproject.org/api.*export"):
        read_dos(settings())
    assert not servers.control()["rest"]


def test_the_key_may_be_in_the_settings_of_pymatgen(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.core import SETTINGS

    key = servers.environment["MP_API_KEY"]
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", key)
    assert len(read_dos(settings(limit=3)).material_id) == 3


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("tooshort", "has 8 characters instead of 32"),
        ("f" * 32, r"refuses the API key \(status 403\)"),
    ],
)
def test_a_wrong_key(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, key: str, words: str
) -> None:
    monkeypatch.setenv("MP_API_KEY", key)
    with pytest.raises(UserError, match=words) as caught:
        read_dos(settings())
    assert key not in str(caught.value)
    assert len(servers.control()["rest"]) <= 1  # a refusal is final


def test_no_network(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    from mp_api.client.core.settings import MAPI_CLIENT_SETTINGS

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(MAPI_CLIENT_SETTINGS, "ENDPOINT", f"http://127.0.0.1:{port}/")
    with pytest.raises(UserError, match=r"no connection.*Check network and proxy.*--offline"):
        read_dos(settings())


def test_a_broken_heartbeat_is_told(servers: Servers) -> None:
    answer: dict[str, str] = {}
    with pytest.raises(UserError, match=r"reaching it failed 2 times.*answer without 'db_version'"):
        mp_client.patiently(lambda: answer["db_version"], "reaching it", attempts=2)


def test_no_material_matches(servers: Servers) -> None:
    with pytest.raises(UserError, match=r"no material.*oxides of Cs, Rb.*widen"):
        read_dos(settings(elements=["Rb", "Cs"]))
    assert not list(Path("data/raw/materials_project").iterdir())


def test_no_material_is_usable(servers: Servers) -> None:
    with pytest.raises(UserError, match=r"no usable DOS for \d+ materials .*run type GGA alone"):
        read_dos(settings(run_types=["HSE06"]))


def test_no_table(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp_client, "TABLE", "s3a://materialsproject-parsed/core/elsewhere/")
    with pytest.raises(UserError, match=r"core/elsewhere/: there is no table of DOS.*update"):
        read_dos(settings())
    assert not record()["complete"]


def test_a_version_of_the_table_that_is_gone(servers: Servers) -> None:
    servers.control(s3={"match": ".parquet", "times": 10**6, "status": "404 Not Found"}, reset=True)
    with pytest.raises(UserError, match=r"Old versions .* are removed.*delete the folder"):
        read_dos(settings())
    assert len(table_reads(servers.control())) == 1


def test_a_record_that_is_not_json_is_told(servers: Servers) -> None:
    read_dos(settings(limit=3))
    (folder() / "record.json").write_text("{")
    with pytest.raises(UserError, match=r"record.json: no longer readable; delete this folder"):
        read_dos(settings(limit=3))
    with pytest.raises(json.JSONDecodeError):
        record()
