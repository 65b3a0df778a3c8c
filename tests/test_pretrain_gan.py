"""The steps around the generator: what it is measured on, what is saved, and what features show."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hclmp.config import Config, resolve
from hclmp.data.composition import pad
from hclmp.data.features import read_dos_known, read_features
from hclmp.data.formula import formula_text, parse_formulas
from hclmp.data.tables import DosTable, Property, Targets, write_dos, write_targets
from hclmp.models.generator.network import Generator
from hclmp.models.recall import is_superset_of
from hclmp.pipeline.jobs import Job, job
from hclmp.pipeline.steps import pretrain_gan as step
from hclmp.pipeline.steps.featurize import featurize
from tests.made_up.synthetic import GRID, VOCABULARY, synthetic_dos

HELD_OUT = "Cu-Fe-Ti"
DOS = Path("data/processed/dos.parquet")


@pytest.fixture(autouse=True)
def _here(workdir: Path) -> None:
    pass


def write_inputs(settings: Config) -> None:
    """The sheet and the DOS table of a run, as its own step would mark it."""
    fractions, dos = synthetic_dos(120)
    Path("systems.tsv").write_text(f"system\tfold\n{HELD_OUT}\tfold-1\n")
    write_dos(
        DOS,
        DosTable(
            material_id=[str(i) for i in range(len(dos))],
            formula=[formula_text(VOCABULARY, row) for row in fractions],
            dos=dos,
            grid=GRID,
            unit="states/eV",
            norm="cell",
            reference="Fermi level",
            simulated=True,
            provenance=Job(settings, "pull-dos").provenance(),
        ),
    )


def config(held_out: str) -> Config:
    return resolve(
        {
            "systems": "systems.tsv",
            "dos": {"held_out": held_out},
            "gan": {"epochs": 3, "generator_hidden": [16], "critic_hidden": [16], "draws": 5},
        }
    )


def pretrained(held_out: str, folder: Path = Path()) -> Path:
    """Run the step in a folder; that of its results."""
    settings = config(held_out)
    Path(folder).mkdir(exist_ok=True)
    with contextlib.chdir(folder):
        write_inputs(settings)
        made = job(settings, "pretrain-gan", *settings.scope_of("fold-1"))
        step.pretrain_gan(settings, made)
    return folder / made.outputs["generator"].parent


def table() -> tuple[np.ndarray, np.ndarray]:
    """Fractions over the generator's elements, and DOS, of the table."""
    read = step.read_dos(DOS)
    vocabulary = step.known_elements("matscholar")
    parsed = parse_formulas(read.formula, origin="dos")
    return pad(parsed, vocabulary).dense(), read.dos


def test_metrics_are_of_the_first_and_the_second_has_seen_all() -> None:
    out = pretrained("keep")
    report = json.loads((out / "metrics.json").read_text())
    history = pd.read_csv(out / "history.csv")
    model = Generator.from_file(out / "generator.safetensors")
    fractions, dos = table()
    assert sum(report["n"].values()) == len(dos)
    assert report["n"]["train"] < 0.9 * len(dos)
    assert "training systems alone" in report["measured"]
    assert history["stage"].tolist() == ["selection"] * 3 + ["refit"] * report["epochs"]
    assert history["validation_mae"].notna().tolist() == (history["stage"] == "selection").tolist()
    scaled = model.scaler.scale(dos)
    error = (model.feature(fractions, draws=3, seed=0).dos - scaled).abs().mean()
    # single elements are in the table many times, and are recalled as their mean
    assert error < 0.15 * (scaled.mean(dim=0) - scaled).abs().mean()
    assert report["mae_scaled"]["generator"] > 2 * error
    assert not Path(".hclmp/checkpoints").exists() or not list(Path(".hclmp/checkpoints").iterdir())


def test_a_generator_of_a_fold_has_not_seen_its_systems() -> None:
    model = Generator.from_file(pretrained("drop") / "generator.safetensors")
    fractions, _ = table()
    held_out = torch.tensor([[float(e in HELD_OUT.split("-")) for e in model.vocabulary]])
    allowed = (torch.from_numpy(fractions) > 0).float() @ held_out[0] < 3
    assert int((~allowed).sum()) > 0
    assert len(model.memory.dos) == int(allowed.sum())
    assert not is_superset_of(held_out, model.memory.fractions).any()


def test_a_kill_between_and_in_the_trainings_changes_no_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = pretrained("keep", Path("whole"))
    real: Any = step.refit_generator

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "refit_generator", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrained("keep", Path("resumed"))
    assert not Path("resumed/results").exists()
    monkeypatch.setattr(step, "refit_generator", real)
    monkeypatch.setattr("hclmp.models.generator.training._validate", killed)  # selection is done
    resumed = pretrained("keep", Path("resumed"))
    for name in ("generator.safetensors", "metrics.json", "history.csv", "examples.csv"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("held_out", ["keep", "drop"])
def test_features_recall_a_compound_unless_held_out_systems_are_dropped(held_out: str) -> None:
    out = pretrained(held_out)
    fractions, _ = table()
    model = Generator.from_file(out / "generator.safetensors")
    targets = Targets(  # elements in another order than in the DOS table
        sample_id=[str(i) for i in range(len(fractions))],
        formula=[formula_text(VOCABULARY[::-1], row[::-1]) for row in synthetic_dos(120)[0]],
        system=["x"] * len(fractions),
        properties=(Property(name="y", unit="eV"),),
        values=np.ones((len(fractions), 1)),
        noise=np.full((len(fractions), 1), np.nan),
        simulated=True,
        provenance=Job(config(held_out), "prepare-targets").provenance(),
    )
    settings = config(held_out)
    made = job(settings, "featurize", *settings.scope_of("fold-1"))
    write_targets(made.inputs["targets"], targets)
    featurize(settings, made)
    got = read_features(made.outputs["features"])[0].dos
    hide = held_out == "drop"
    known = read_dos_known(made.outputs["features"])
    assert known == (set() if hide else set(targets.sample_id)), "their own computed DOS"
    wanted = model.feature(fractions, draws=5, seed=0, hide_own_system=hide).dos
    other = model.feature(fractions, draws=5, seed=0, hide_own_system=not hide).dos
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert (other - wanted).abs().mean() > 0.05
