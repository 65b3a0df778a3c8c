"""A whole run on 70 made-up oxides in tiny sizes, its steps called in this process."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hclmp.cli.main import app
from hclmp.config import DEFAULT_VARIANTS, load_config
from hclmp.data.folds import CALIBRATION
from tests.fixtures.make_model import CONFIG as SMALL

ELEMENTS = ("Cu", "Fe", "Mn", "Ti", "W")
HELD_OUT = ("Cu-Fe-Mn", "Fe-Ti-W")
SHEET = "system\tfold\n" + "".join(f"{system}\ta\n" for system in HELD_OUT)
CONFIG: dict[str, Any] = {
    "targets": {
        "source": "table",
        "path": "table.csv",
        "allow_missing": True,
        "properties": {"gap": {"minimum": 0.0}, "rate": {"transform": "log10"}},
    },
    "dos": {
        "source": "table",
        "path": "dos.parquet",
        "held_out": "drop",
        "energies": {"start": -1.0, "stop": 1.0, "n": 8},
    },
    "gan": SMALL["gan"],
    "variants": list(DEFAULT_VARIANTS),
    "model": SMALL["model"],
    "encoder": {"epochs": 2},
    "training": {"epochs": 3, "refit_epochs": 2, "members": 2},
    "baselines": {"trees": 10},
}
SCOPED = ("pretrain-gan", "pretrain-encoder", "featurize")  # per fold, with `held_out: drop`
OF_LABELS = ("prepare-targets", "featurize", "train")
OF_DOS = ("pull-dos", "pretrain-gan", "pretrain-encoder", "featurize", "train")


def materials() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and densities of states of 70 oxides of one to four cations.

    They vary smoothly with the composition, so that there is something to learn and to leak.
    """
    rng = np.random.default_rng(0)
    each = {1: 1, 2: 2, 3: 4, 4: 1}  # compositions per system, by its number of cations
    systems = [s for n in each for s in itertools.combinations(ELEMENTS, n)]
    mixed = [dict(zip(s, rng.integers(1, 9, len(s)), strict=True)) for s in systems]
    for system in systems:
        for _ in range(each[len(system)] - 1):
            mixed.append(dict(zip(system, rng.integers(10, 90, len(system)), strict=True)))
    formulas = ["".join(f"{e}{n}" for e, n in m.items()) + "O9" for m in mixed]
    amounts = np.array([[m.get(e, 0) for e in ELEMENTS] for m in mixed], dtype=float)
    x = amounts / amounts.sum(axis=1, keepdims=True)
    labels = pd.DataFrame(
        {
            "formula": formulas,
            "gap": 2.0 + np.tanh(x @ [1.0, -1.0, 0.5, 2.0, -2.0]),
            "rate": 10.0 ** (x @ [1.0, 0.0, -1.0, 2.0, 0.5]),
            "gap_std": rng.uniform(0.01, 0.1, len(x)),
        }
    )
    centre = x @ np.linspace(-1.0, 1.0, len(ELEMENTS))
    dos = np.exp(-((np.linspace(-1.0, 1.0, 8) - centre[:, None]) ** 2) / 0.2)
    return labels, pd.DataFrame({"formula": formulas, "dos": list(dos)})


def run(folder: Path, *steps: str) -> None:
    """Steps of fold `a`, which is the only one, in this process."""
    config = load_config(folder / "config.yaml")
    per_fold = config.dos.held_out == "drop"
    with contextlib.chdir(folder):
        for step in steps:
            scoped = ["--fold", "a"] if step == "train" or (per_fold and step in SCOPED) else []
            for variant in config.variants if step == "train" else [None]:
                named = [] if variant is None else ["--variant", variant]
                options = ["--config", "config.yaml", *named, *scoped]
                app([step, *options], standalone_mode=False)


def calibrate(folder: Path) -> None:
    """Train the models that the final one is calibrated with, where one generator serves all."""
    variant = load_config(folder / "config.yaml").final_variant
    with contextlib.chdir(folder):
        for fold in CALIBRATION:
            named = ["--variant", str(variant), "--fold", fold]
            app(["train", "--config", "config.yaml", *named], standalone_mode=False)


def new_run(folder: Path, held_out: str) -> Path:
    """A new folder with tables and configuration, and all steps up to the metrics."""
    folder.mkdir()
    labels, dos = materials()
    labels.to_csv(folder / "table.csv", index=False)
    dos.to_parquet(folder / "dos.parquet")
    config = CONFIG | {"dos": CONFIG["dos"] | {"held_out": held_out}, "systems": "systems.tsv"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "systems.tsv").write_text(SHEET)
    run(folder, "prepare-targets", *OF_DOS, "aggregate")
    return folder
