"""The final model of a real run: trained by the DAG, taken elsewhere, and predicting."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from hclmp.data.folds import CALIBRATION
from hclmp.data.tables import read_dos, read_targets
from hclmp.errors import UserError
from hclmp.model import Model
from hclmp.models.hclmp.ensemble import Ensemble
from hclmp.provenance import read_provenance, sha256
from tests.conftest import Command
from tests.made_up.tables import (
    write,
)
from tests.workflow.conftest import TINY

FORMULAS = ["Fe0.3Ti0.5W0.2", "TiO2", "Co0.5Zr0.5"]


@pytest.fixture(scope="module")
def folder(demo_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The final model, alone in a place of its own."""
    away = tmp_path_factory.mktemp("away") / "model"
    shutil.copytree(demo_run[0] / "results/final", away)
    return away


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model.load(folder)


def test_it_is_trained_on_every_sample(demo_run: tuple[Path, str], model: Model) -> None:
    run, _ = demo_run
    table = read_targets(run / "data/processed/targets.parquet")
    about = model.about
    assert about["variant"] == "hclmp_t"
    assert about["trained_on"]["samples"] == len(table)
    assert model.ensemble.network.memory_labels.shape[1] == len(table)
    held_out = json.loads((run / "results/metrics/metrics.json").read_text())
    assert about["held_out_evaluation"]["variants"] == held_out["variants"]
    assert about["trained_on"]["simulated"] is True
    assert "021409" in about["citation"]
    assert about["provenance"]["config"]["variant"] == "hclmp_t"
    inputs = set(about["provenance"]["inputs"])
    assert {
        "targets",
        "metrics",
        "generator",
        "encoder",
        "weights/calibration-1",
        "history/calibration-2",
    } <= inputs
    history = pd.read_csv(run / "results/final/history.csv")
    assert 1 <= history["epoch"].max() <= TINY["training"]["epochs"]


def test_a_prediction_has_units_intervals_and_the_order_given(model: Model) -> None:
    frame = model.predict(FORMULAS)
    assert frame["formula"].tolist() == FORMULAS
    assert frame["system"].tolist() == ["Fe-Ti-W", "Ti", "Co-Zr"], "oxygen is left out"
    assert frame.attrs["units"] == {p.name: p.unit for p in model.properties}
    assert len(model.properties) == 10
    for prop in model.properties:
        low, middle, high = (frame[f"{prop.name}{end}"] for end in ("_low", "", "_high"))
        assert (low <= middle).all(), "equal at a limit"
        assert (middle < high).all()
        assert (frame[f"{prop.name}_std"] > 0).all()
    backwards = model.predict(FORMULAS[::-1])
    for prop in model.properties:
        assert backwards[prop.name].to_numpy()[::-1] == pytest.approx(
            frame[prop.name].to_numpy(), rel=1e-4, abs=1e-5
        )


def test_what_was_measured_is_recalled(demo_run: tuple[Path, str], model: Model) -> None:
    table = read_targets(demo_run[0] / "data/processed/targets.parquet")
    frame = model.predict(pd.DataFrame({"formula": table.formula}))
    assert (frame["warning"] == "").mean() > 0.9
    assert (frame["distance"] < 1e-4).all(), "each is its own nearest neighbour"


def test_compositions_unlike_the_training_are_told(model: Model) -> None:
    assert "U" not in model.about["trained_on"]["elements"]
    frame = model.predict(["U0.5Np0.5", "Fe0.5Ti0.5"])
    assert "no training composition has Np, U" in frame["warning"][0]
    assert frame["warning"][1] == "" or "far" in frame["warning"][1]
    nearer = replace(model, about={**model.about, "far": float(frame["distance"][0]) * 0.99})
    assert "far from every training composition" in nearer.predict(["U0.5Np0.5"])["warning"][0]
    farther = replace(model, about={**model.about, "far": float(frame["distance"][0]) * 1.01})
    assert "far" not in farther.predict(["U0.5Np0.5"])["warning"][0]


def test_a_guess_of_the_dos_is_told_where_training_had_computed_ones(
    demo_run: tuple[Path, str], model: Model
) -> None:
    assert model.about["trained_on"]["dos_known"] == 0, "no mixture of the demo has a DOS"
    computed = read_dos(demo_run[0] / "data/processed/dos.parquet").formula[0]
    formulas = ["Fe0.31Ti0.69", computed]
    assert not model.predict(formulas)["warning"].str.contains("is a guess").any()
    for share, told in ((0.96, True), (0.4, False)):
        trained_on = {**model.about["trained_on"], "dos_known": share}
        other = replace(model, about={**model.about, "trained_on": trained_on})
        guessed, recalled = other.predict(formulas)["warning"]
        assert ("its density of states is a guess, where 96%" in guessed) == told
        assert "is a guess" not in recalled


def test_the_uncertainty_is_that_of_the_calibration(
    demo_run: tuple[Path, str], model: Model
) -> None:
    run, _ = demo_run
    squares = []
    for fold in CALIBRATION:
        frame = pd.read_parquet(run / f"results/predictions/hclmp_t/{fold}.parquet")
        squares.append((frame["t_pred"] - frame["t_true"]) ** 2)
    error = float(np.sqrt(pd.concat(squares).mean()))
    names = [f"{p.name}_std" for p in model.properties]
    std = model.predict(["Co1Ti1Zr1", "Cr1Fe1Mn1"])[names].to_numpy()
    assert 0.3 * error < std.mean() < 3 * error


def test_one_formula_and_none(model: Model) -> None:
    assert model.predict("WC")["formula"].tolist() == ["WC"], "a text is one composition"
    with pytest.raises(UserError, match="no composition is given"):
        model.predict([])


def test_many_compositions_are_taken_in_parts(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.predict(FORMULAS)
    monkeypatch.setattr("hclmp.model.ROWS_AT_ONCE", 2)
    parts = model.predict(FORMULAS)
    assert parts["formula"].tolist() == FORMULAS
    names = [p.name for p in model.properties]
    np.testing.assert_allclose(parts[names], whole[names], rtol=1e-4, atol=1e-5)


def test_what_a_table_has_measured_is_never_shown_as_predicted(
    model: Model, folder: Path, command: Command, workdir: Path
) -> None:
    name = model.properties[0].name
    given = pd.DataFrame({"material": FORMULAS[:1], name: [999.0], "warning": ["mine"]})
    write(Path("in.csv"), given)
    arguments = ("predict", folder, "--table", "in.csv", "--formula-column", "material")
    answer = command(*arguments)
    assert answer.code == 0, answer.text
    assert "999" not in answer.text
    answer = command(*arguments, "--out", "out.csv")
    assert answer.code == 0, answer.text
    read = pd.read_csv("out.csv")
    assert read[name].tolist() == [999.0]
    assert read["warning"].tolist() == ["mine"]
    assert read[f"{name}_predicted_std"][0] > 0
    answer = command(*(*arguments[:3], "out.csv", *arguments[4:], "--out", "again.csv"))
    assert answer.code == 2
    assert f"{name}_predicted" in answer.text
    assert not Path("again.csv").exists()


def test_a_model_of_another_configuration_is_refused(
    demo_run: tuple[Path, str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(demo_run[0], tmp_path / "run")
    monkeypatch.chdir(run)
    other = Path("results/models/hclmp_t/calibration-1/model.safetensors")
    shutil.copy("results/models/hclmp_t/calibration-2/model.safetensors", other)
    answer = command("finalize")
    assert answer.code == 2
    assert f"{other}: made with another configuration" in answer.text
    predictions = Path("results/predictions/hclmp_t")
    shutil.copy(predictions / "second.parquet", predictions / "first.parquet")
    answer = command("finalize")
    assert answer.code == 2
    assert "results/metrics/metrics.json: made from other " in answer.text
    Path("results/metrics/metrics.json").unlink()
    answer = command("finalize")
    assert answer.code == 2
    assert "results/metrics/metrics.json: no such file; `hclmp aggregate` makes it" in answer.text


def test_the_folder_needs_no_library_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise AssertionError("the embedding library was asked")

    monkeypatch.setattr("hclmp.data.elements._load", gone)
    assert len(Model.load(folder).predict(FORMULAS)) == 3
    own = read_provenance(folder / "model.json")
    assert read_provenance(folder / "elements.safetensors") == own
    assert sha256(folder / "training.parquet") == own["inputs"]["targets"]
    tensors = load_file(folder / "elements.safetensors")
    assert set(tensors) == {"vectors.matscholar", "properties"}


def test_a_later_or_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/model\.json: no such file"):
        Model.load("nowhere")
    later = shutil.copytree(folder, tmp_path / "later")
    about = json.loads((later / "model.json").read_text())
    (later / "model.json").write_text(json.dumps(about | {"schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99, and this hclmp"):
        Model.load(later)
    for name in ("model.json", "elements.safetensors", "model.safetensors"):
        damaged = shutil.copytree(folder, tmp_path / name)
        (damaged / name).write_bytes((damaged / name).read_bytes()[:50])
        with pytest.raises(UserError, match="not a model") as refused:
            Model.load(damaged)
        assert name in str(refused.value)
        assert "hclmp train" not in str(refused.value), "that makes another file"
    for name in ("elements.safetensors", "model.safetensors", "generator.safetensors"):
        partial = shutil.copytree(folder, tmp_path / f"no-{name}")
        (partial / name).unlink()
        with pytest.raises(UserError, match=f"no {name} in it. Copy the whole folder again"):
            Model.load(partial)
    (later / "model.json").write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match="it does not say citation, far"):
        Model.load(later)


def test_predict_on_the_command_line(folder: Path, command: Command) -> None:
    answer = command("predict", folder, *FORMULAS)
    assert answer.code == 0, answer.text
    assert "Fe0.3Ti0.5W0.2" in answer.text
    assert "trained on simulated values" in answer.text
    answer = command("predict", folder, "Fe2O3", "Qq3")
    assert answer.code == 2
    assert "row 2: 'Qq3'" in answer.text


def test_predict_a_table(folder: Path, command: Command, workdir: Path) -> None:
    given = pd.DataFrame({"note": ["a", "b", "c"], "material": FORMULAS, "distance": [1, 2, 3]})
    for name in ("in.csv", "in.parquet"):
        write(Path(name), given)
        for out in ("out.csv", "out.parquet"):
            answer = command(
                *("predict", folder, "--table", name, "--out", out, "--formula-column", "material")
            )
            assert answer.code == 0, answer.text
            read = pd.read_csv(out) if out.endswith("csv") else pd.read_parquet(out)
            assert read["note"].tolist() == ["a", "b", "c"]
            assert read["material"].tolist() == FORMULAS
            assert [float(x) for x in read["distance"]] == [1, 2, 3], "what stood there stays"
            assert "distance_predicted" in read.columns
    parquet = pd.read_parquet("out.parquet")
    assert set(parquet.attrs["units"]) == {c for c in parquet.columns if f"{c}_std" in parquet}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of the two"),
        (["Fe", "--table", "in.csv"], "one of the two"),
        (["--table", "in.csv"], "no column `formula`; column `material` looks like one"),
        (["Fe", "--out", "out.txt"], "out.txt: name a .csv or .parquet file"),
        (["--table", "none.csv"], "none.csv"),
        (["--table", "bad.csv"], "bad.csv: "),
    ],
)
def test_what_cannot_be_predicted_is_one_message(
    folder: Path, command: Command, workdir: Path, arguments: list[str], words: str
) -> None:
    write(Path("in.csv"), pd.DataFrame({"material": FORMULAS}))
    write(Path("bad.csv"), pd.DataFrame({"formula": ["Fe2O3", "rust"]}))
    answer = command("predict", folder, *arguments)
    assert answer.code == 2
    assert words in answer.text
    assert not Path("out.txt").exists()


def test_same_bytes_again(
    demo_run: tuple[Path, str],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = shutil.copytree(demo_run[0], tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (run / "results/final").iterdir()}
    monkeypatch.chdir(run)
    shutil.rmtree("results/final")
    answer = command("finalize")
    assert answer.code == 0, answer.text
    assert {p.name: p.read_bytes() for p in (run / "results/final").iterdir()} == before
    assert Ensemble.from_file(run / "results/final/model.safetensors").vocabulary
