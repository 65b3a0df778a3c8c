"""The stand-in servers, and an environment that sends the real client to them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mp.servers import KEY

ROOT = Path(__file__).parents[2]
ENERGIES = 301


@dataclass(frozen=True)
class Servers:
    """A running pair of servers: their addresses."""

    rest: str
    s3: str

    @property
    def environment(self) -> dict[str, str]:
        """Sends the unmodified client here and nowhere else."""
        return {
            "MP_API_KEY": KEY,
            "MP_API_ENDPOINT": self.rest,
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def control(self, **wish: Any) -> dict[str, Any]:
        """Set faults (``rest``, ``s3``), read and ``reset`` what was requested."""
        request = urllib.request.Request(self.rest, json.dumps(wish).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            seen: dict[str, Any] = json.load(answer)
        return seen


def start(*arguments: str) -> tuple[subprocess.Popen[str], Servers]:
    """Start servers that end when this process does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mp.servers", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the servers did not start (exit code {process.wait()})"
    return process, Servers(**json.loads(line))


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
