"""Real runs on tiny sizes, made once by the commands themselves, in this process."""

from __future__ import annotations

import contextlib
import html.parser
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hclmp.cli.main import main
from hclmp.config import Config, load_config
from hclmp.data.folds import fold_names
from hclmp.evaluation.report.run import Run
from hclmp.pipeline.jobs import job
from hclmp.pipeline.steps.report import _read
from tests.made_up.tables import (
    good_table,
    write,
)
from tests.workflow.conftest import TINY, write_config

NASTY = "<script>alert(1)</script>"
DEMO: dict[str, Any] = {
    **TINY,
    "variants": {
        "hclmp_t": {"model": "hclmp", "transfer": True},
        "no_covariance": {
            "model": "hclmp",
            "transfer": True,
            "overrides": {"model": {"covariance": False}},
        },
        "hclmp": {"model": "hclmp"},
        "extra_trees": {"model": "extra_trees"},
        "mean": {"model": "mean"},
    },
}


@dataclass(frozen=True)
class Made:
    """A finished run: its directory, configuration and page."""

    directory: Path
    config: Config
    page: str

    @property
    def data(self) -> dict[str, Any]:
        return dict(embedded(self.page, "data"))

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "results/metrics/metrics.json").read_text()))

    @property
    def run(self) -> Run:
        """As the page sees it."""
        with contextlib.chdir(self.directory):
            return _read(self.config, job(self.config, "report").inputs)


def embedded(page: str, name: str) -> Any:
    """A block of JSON of the page."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    return json.loads(text)


def hclmp(*arguments: str) -> None:
    """A command that succeeds, in this process and the present directory."""
    before = sys.argv
    sys.argv = ["hclmp", *arguments]
    try:
        main()
    except SystemExit as leaving:
        if leaving.code:
            pytest.fail(f"hclmp {' '.join(arguments)}: exit code {leaving.code}")
    finally:
        sys.argv = before


def make(directory: Path, config: dict[str, Any], sheet: str) -> Made:
    """All steps that the report needs, from a configuration in a new directory."""
    write_config(directory, config, sheet)
    with contextlib.chdir(directory):
        settings = load_config(directory / "config/config.yaml")
        Path("results").mkdir()
        Path("results/config.json").write_text(json.dumps(settings.model_dump(mode="json")))
        if settings.pretrains:
            hclmp("pull-dos")
            hclmp("pretrain-gan")
        if settings.pretrains_encoder:
            hclmp("pretrain-encoder")
        hclmp("prepare-targets")
        hclmp("featurize")
        for variant in settings.variants:
            for fold in fold_names(settings):
                hclmp("train", "--variant", variant, "--fold", fold)
        hclmp("aggregate")
        hclmp("report")
        page = Path("results/report.html").read_text()
    return Made(directory, settings, page)


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A spectrum, all kinds of variants, a generator, four systems of three elements."""
    sheet = "system\tfold\nCo-Ti-Zr\ta\nCr-Fe-Mn\ta\nCo-Cu-Nb\tb\nCo-Fe-Mo\tb\n"
    return make(tmp_path_factory.mktemp("demo") / "run", DEMO, sheet)


@pytest.fixture(scope="session")
def least(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One property with a nasty name in a file with one, one variant, systems of two elements."""
    directory = tmp_path_factory.mktemp("least") / "run"
    directory.mkdir()
    table = good_table()[["formula", "gap"]].rename(columns={"gap": NASTY})
    pairs = [("Cu", "Fe"), ("Mn", "Ti"), ("Ti", "W"), ("Cu", "W")]
    table["formula"] = [f"{a}{i + 1}{b}2O5" for a, b in pairs for i in range(5)] + ["Fe2O3"] * 5
    name = "a <b>table<script>.csv"
    write(directory / name, table)
    config = {
        "targets": {"source": "table", "path": name},
        "dos": {"source": "none"},
        "variants": ["ridge"],
    }
    return make(directory, config, "system\tfold\nCu-Fe\ta\nTi-W\tb\n")


@pytest.fixture(scope="session")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Missing labels, properties of different units and transforms, no DOS, a random split."""
    directory = tmp_path_factory.mktemp("gaps") / "run"
    directory.mkdir()
    table = good_table()
    table.loc[::3, "gap"] = None
    table.loc[1::3, "rate"] = None
    write(directory / "table.csv", table)
    properties = {"gap": {"unit": "eV"}, "rate": {"unit": "1/s", "transform": "log10"}}
    config = {
        **{key: TINY[key] for key in ("model", "training", "baselines")},
        "targets": {
            "source": "table",
            "path": "table.csv",
            "properties": properties,
            "allow_missing": True,
        },
        "dos": {"source": "none"},
        "split": "random",
        "variants": ["hclmp", "ridge"],
    }
    return make(directory, config, "system\tfold\nFe-Ti-W\ta\n")


@pytest.fixture(scope="session")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Enough systems for a verdict, in two folds; one property in eV, one in decades; no DOS."""
    directory = tmp_path_factory.mktemp("eight") / "run"
    directory.mkdir()
    triples = list(itertools.combinations(("Cu", "Fe", "Mn", "Ti", "W"), 3))
    amounts = [(a, b, c, i) for a, b, c in triples for i in range(1, 5)]
    table = pd.DataFrame({"formula": [f"{a}{i}{b}2{c}3O9" for a, b, c, i in amounts]})
    iron = table["formula"].str.contains("Fe")
    table["gap"] = 2.0 + iron + 0.1 * np.arange(len(table)) % 0.4
    table["rate"] = 10.0 ** (2.0 * iron + np.arange(len(table)) % 5)
    write(directory / "table.csv", table)
    properties = {"gap": {"unit": "eV"}, "rate": {"unit": "1/s", "transform": "log10"}}
    config = {
        **{key: TINY[key] for key in ("model", "training", "baselines")},
        "targets": {"source": "table", "path": "table.csv", "properties": properties},
        "dos": {"source": "none"},
        "variants": ["hclmp", "ridge", "mean"],
    }
    folds = [f"{'-'.join(t)}\t{'ab'[i % 2]}\n" for i, t in enumerate(triples[:8])]
    return make(directory, config, "system\tfold\n" + "".join(folds))


class Tables(html.parser.HTMLParser):
    """The texts of all cells: section -> its rows, those of headers too."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._section, self._open = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")
            self._open = True
        elif tag == "br" and self._open:
            self.rows[self._section][-1][-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[self._section][-1][-1] += data
