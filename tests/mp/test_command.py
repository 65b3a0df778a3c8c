"""`hclmp pull-dos` as a user runs it: a process of its own, and what it leaves on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

from hclmp.data.tables import read_dos
from hclmp.sources.materials_project import read as materials_project
from tests.made_up.materials_project import CATIONS
from tests.made_up.materials_project_servers import KEY, Servers
from tests.mp.conftest import ROOT
from tests.mp.pulled import CLEAN, USABLE_ODD, by_name, settings

pytestmark = pytest.mark.mp


Done = subprocess.CompletedProcess[str]

IMPATIENT = """
from hclmp.sources.materials_project import client as mp_client
mp_client.FIRST_WAIT, mp_client.ATTEMPTS, mp_client.STORAGE["max_retries"] = 0.01, 3, "1"
from hclmp.cli.main import main
main()
"""


def hclmp(servers: Servers, *arguments: str, impatient: bool = False, **environment: str) -> Done:
    """The command line in the working directory, which is also its home."""
    program = ["-c", IMPATIENT] if impatient else ["-m", "hclmp.cli.main"]
    places = {"HOME": str(Path.cwd()), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=os.environ | servers.environment | places | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def configure() -> None:
    dos = {"source": "materials_project", "materials_project": {"elements": list(CATIONS)}}
    Path("config.yaml").write_text(yaml.safe_dump({"dos": dos}))


def test_pull_dos_end_to_end(servers: Servers) -> None:
    configure()
    first = hclmp(servers, "pull-dos", "--config", "config.yaml")
    assert first.returncode == 0, first.stderr
    assert "Materials Project: 76 oxides listed, 65 kept, 1 skipped" in first.stderr
    assert "listing oxides: request 3/3" in first.stderr
    table = Path("data/processed/dos.parquet")
    dos = read_dos(table)
    assert len(dos) == len(CLEAN) + len(USABLE_ODD)
    assert dos.dos.shape[1] == 161
    assert (dos.unit, dos.norm, dos.reference, dos.simulated) == (
        *("states/eV/atom", "atom", "Fermi level"),
        False,
    )
    pulled = by_name(materials_project.read_dos(settings()))
    for name, values in zip(dos.material_id, dos.dos, strict=True):
        np.testing.assert_allclose(values, pulled[name], rtol=1e-6)
    about = json.loads(Path("data/processed/dos.json").read_text())
    facts = about["facts"]
    date = about["download"]["date"]
    assert date == json.loads(Path(facts["record"]).read_text())["date"]
    assert date.encode() not in table.read_bytes()
    assert date not in json.dumps(dos.provenance)
    assert facts["counts"]["kept"] == len(dos)
    assert facts["database_version"] == "2026.04.13"
    assert facts["licence"] == "CC BY 4.0"

    # the same snapshot gives the same bytes, without key and network
    before = table.read_bytes()
    servers.control(reset=True)
    again = hclmp(servers, "pull-dos", "--config", "config.yaml", "--offline", MP_API_KEY="")
    assert again.returncode == 0, again.stderr
    assert table.read_bytes() == before
    seen = servers.control()
    assert (seen["rest"], seen["s3"]) == ([], [])

    written = [path for path in Path().rglob("*") if path.is_file()]
    assert {"record.json", "dos.json", "pull-dos.json"} <= {path.name for path in written}
    for path in written:
        assert KEY.encode() not in path.read_bytes(), path
    for output in (first.stdout, first.stderr, again.stdout, again.stderr):
        assert KEY not in output


def test_failures_of_the_command_are_one_message_without_the_key(servers: Servers) -> None:
    configure()
    servers.control(rest=[{"status": 403, "always": True}])
    refused = hclmp(servers, "pull-dos", "--config", "config.yaml")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: the Materials Project refuses the API key")
    assert "Traceback" not in refused.stderr
    assert not Path("data/processed").exists()
    for path in [path for path in Path().rglob("*") if path.is_file()]:
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in refused.stdout + refused.stderr


def test_a_scan_that_fails_for_good_ends_the_process_in_order(servers: Servers) -> None:
    # the S3 library can end the interpreter with a segmentation fault after such a failure
    configure()
    servers.control(s3={"cut": 0.5, "match": ".parquet", "skip": 3, "times": 10**6})
    failed = hclmp(servers, "pull-dos", "--config", "config.yaml", impatient=True)
    assert failed.returncode == 2, failed.stderr
    assert "error: reading file" in failed.stderr
    assert failed.stderr.rstrip().endswith("run `hclmp pull-dos` again to go on")
    assert not Path("data/processed").exists()


def test_the_servers_end_with_the_process_that_started_them() -> None:
    program = (
        "import os, signal; from tests.made_up.materials_project_servers import start;"
        "p, s = start('--materials', '2', '--energies', '11', '--files', '1');"
        "print(s.rest, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9
    address = killed.stdout.strip()
    assert address.startswith("http://127.0.0.1:")
    for _ in range(50):
        try:
            urllib.request.urlopen(address + "heartbeat", timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            return
        time.sleep(0.1)
    pytest.fail(f"{address} still answers")
