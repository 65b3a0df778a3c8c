"""Small helpers of all tests: a working directory, a table to spoil, and the real command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hclmp.cli.main import main

TERNARIES = ("Cu-Fe-Mn", "Cu-Ti-W", "Fe-Ti-W", "Mn-Ti-W")
UNARIES = ("Cu", "Fe", "Mn", "Ti", "W")
PER_SYSTEM = 5


# Fixtures that take a minute and serve many tests (`on_page` copies `fresh` or `finished`). Tests
# of one go to one worker of xdist, which makes it once; there can be one Slurm at a time anyway.
SHARED = ("slurm", "demo_run", "recorded", "on_page", "uninterrupted")


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
        logger = logging.getLogger("hclmp")
        before = list(logger.handlers)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            logger.handlers[:] = before
        captured = capsys.readouterr()
        return Answer(code, " ".join((captured.out + captured.err).split()))

    return run


def good_table() -> pd.DataFrame:
    """25 oxides: five of each of four three-cation systems, and the single cations."""
    rng = np.random.default_rng(0)
    formulas = []
    for system in TERNARIES:
        a, b, c = system.split("-")
        formulas += [f"{a}{i + 1}{b}2{c}3O9" for i in range(PER_SYSTEM)]
    formulas += [f"{e}2O3" for e in UNARIES]
    gap = rng.uniform(1.0, 3.0, len(formulas))
    rate = 10.0 ** rng.uniform(-3.0, 2.0, len(formulas))
    return pd.DataFrame({"formula": formulas, "gap": gap, "rate": rate})


def good_dos(n: int = 8) -> pd.DataFrame:
    """DOS of the same materials in a list column."""
    formulas = good_table()["formula"].tolist()
    dos = np.random.default_rng(1).uniform(0.0, 2.0, (len(formulas), n))
    return pd.DataFrame({"formula": formulas, "dos": list(dos)})


def wide_dos(n: int = 8) -> pd.DataFrame:
    """The same DOS as a CSV file holds it: one column per energy, from -1 eV in steps of 0.25."""
    frame = good_dos(n)
    names = [str(-1 + 0.25 * i) for i in range(n)]
    wide = pd.DataFrame(np.stack(frame["dos"].tolist()), columns=names)
    return pd.concat([frame[["formula"]], wide], axis=1)


def write(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV or Parquet file, as its name says."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def config_for(path: str = "table.csv", **targets: Any) -> dict[str, Any]:
    """A configuration for a table of one's own, without DOS."""
    return {
        "targets": {"source": "table", "path": path, **targets},
        "dos": {"source": "none"},
        "systems": "systems.tsv",
        "variants": ["ridge"],
    }


def set_up(
    workdir: Path,
    table: pd.DataFrame | None = None,
    *,
    config: dict[str, Any] | None = None,
    sheet: str = "system\tfold\nFe-Ti-W\ta\nCu-Fe-Mn\tb\n",
    suffix: str = ".csv",
) -> Path:
    """Write table, sheet and configuration into a working directory; returns the configuration."""
    name = f"table{suffix}"
    write(workdir / name, good_table() if table is None else table)
    (workdir / "systems.tsv").write_text(sheet)
    path = workdir / "config.yaml"
    path.write_text(yaml.safe_dump(config_for(name) if config is None else config))
    return path


def assert_refused(answer: Answer, *words: str) -> None:
    """One message with all these words, exit code 2, and no step's output on disk."""
    assert answer.code == 2, answer.text
    assert answer.text.count("error:") == 1
    for word in words:
        assert word in answer.text
    assert not Path("data").exists()
    assert not Path("results").exists()
    assert not Path("logs").exists()
