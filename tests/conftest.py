"""Small helpers of all tests: a working directory, a table to spoil, and the real command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hclmp.cli.main import main

# Fixtures that take a minute and serve many tests (`on_page` copies `fresh` or `finished`). Tests
# of one go to one worker of xdist, which makes it once; there can be one Slurm at a time anyway.
SHARED = ("slurm", "demo_run", "recorded", "on_page", "uninterrupted", "audited")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long to make go to one worker, the most tests first."""
    slurm = Path(__file__).parent / "slurm"
    for item in items:
        used = getattr(item, "fixturenames", ())
        for name in SHARED:
            if name in used or (name == "slurm" and slurm in item.path.parents):
                item.add_marker(pytest.mark.xdist_group(name))
                break


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit code and all that it printed, on one line."""

    code: int
    text: str


Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """What a command sets (``--quiet``, its handler) does not reach the next test."""
    logger = logging.getLogger("hclmp")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two whole runs of made-up oxides, with `dos.held_out` `drop` and `keep`."""
    from tests.made_up.oxides import new_run

    folder = tmp_path_factory.mktemp("audited")
    for held_out in ("drop", "keep"):
        new_run(folder / held_out, held_out)
    return folder


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new working directory, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """``hclmp`` with these arguments, run in this process through its entry point.

    A traceback is an exception that reaches the test, which then fails.
    """

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["hclmp", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Answer(code, " ".join((captured.out + captured.err).split()))

    return run


def assert_refused(answer: Answer, *words: str) -> None:
    """One message with all these words, exit code 2, and no step's output on disk."""
    assert answer.code == 2, answer.text
    assert answer.text.count("error:") == 1
    for word in words:
        assert word in answer.text
    assert not Path("data").exists()
    assert not Path("results").exists()
    assert not Path("logs").exists()
