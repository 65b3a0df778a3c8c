"""The stand-in servers, and an environment that sends the real client to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.made_up.materials_project_servers import Servers, start

ROOT = Path(__file__).parents[2]
ENERGIES = 301


@pytest.fixture(scope="session")
def running() -> Iterator[Servers]:
    process, servers = start("--materials", "60", "--energies", str(ENERGIES), "--odd")
    yield servers
    process.communicate(timeout=30)  # closes its input, which ends it


@pytest.fixture
def servers(running: Servers, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """The servers without faults, in a new working directory, with short waits."""
    from mp_api.client.core.settings import MAPI_CLIENT_SETTINGS

    from hclmp.sources.materials_project import client as mp_client

    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HCLMP_OFFLINE", raising=False)
    monkeypatch.setattr(MAPI_CLIENT_SETTINGS, "ENDPOINT", running.rest)  # read when imported
    monkeypatch.setattr(mp_client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(mp_client, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(mp_client, "STORAGE", mp_client.STORAGE | QUICK)
    running.control(rest=[], s3={}, database="2026.04.13", reset=True)
    yield running
    running.control(rest=[], s3={}, database="2026.04.13", reset=True)


QUICK = {"max_retries": "1", "backoff_config.init_backoff": "10ms"}
