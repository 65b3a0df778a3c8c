"""The real DAG: three configurations to the end, and what does and does not run again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from hclmp.config import load_config
from hclmp.data.folds import CALIBRATION
from hclmp.data.tables import read_dos, read_predictions, read_targets
from hclmp.model import Model
from hclmp.models.generator.network import Generator
from hclmp.models.hclmp.ensemble import Ensemble
from tests.made_up.tables import (
    good_table,
    write,
)
from tests.workflow.conftest import (
    ROOT,
    TINY,
    VARIANTS,
    copied,
    hclmp,
    planned,
    snakemake,
    succeeded,
    write_config,
)

FOLDS = ["first", "second"]
ENDS = {"aggregate": 1, "finalize": 1, "report": 1, "all": 1}


def test_default_configuration_to_the_end(demo_run: tuple[Path, str]) -> None:
    run, text = demo_run
    assert "A whole run: 29 jobs" in text
    assert "simulated held-out samples" in text, "the table of results ends the run"
    summary = pd.read_csv(run / "results/metrics/summary.csv")
    assert set(summary["variant"]) == set(VARIANTS)
    assert list(summary.columns) == ["variant", "property", "metric", "value", "unit", "n"]
    headline = summary.query("property == 'all' and metric == 'mae_std'").set_index("variant")
    assert headline["value"].between(0.05, 3).all()
    systems = pd.read_csv(run / "results/metrics/by_system.csv")
    assert set(systems["system"]) == {"Co-Ti-Zr", "Cr-Fe-Mn", "Co-Cu-Nb", "Co-Fe-Mo"}
    metrics = json.loads((run / "results/metrics/metrics.json").read_text())
    assert metrics["simulated"] is True
    assert metrics["variants"]["mean"]["mae_std"] == pytest.approx(headline["value"]["mean"])
    gan = json.loads((run / "results/gan/metrics.json").read_text())
    assert set(gan["mae"]) > {"generator", "training_mean", "nearest_composition"}
    assert {"energy_score_scaled", "wasserstein_energy"} < set(gan)


def test_every_result_says_where_it_comes_from(demo_run: tuple[Path, str]) -> None:
    run, _ = demo_run
    config = load_config(run / "results/config.json")
    assert config.training.epochs == TINY["training"]["epochs"]
    origins: list[dict[str, Any]] = [
        read_targets(run / "data/processed/targets.parquet").provenance,
        read_dos(run / "data/processed/dos.parquet").provenance,
    ]
    for variant in VARIANTS:
        for fold in FOLDS:
            predictions = read_predictions(run / f"results/predictions/{variant}/{fold}.parquet")
            settings = run / f"results/models/{variant}/{fold}/model.json"
            assert json.loads(settings.read_text())["provenance"] == predictions.provenance
            assert predictions.provenance["config"]["fold"] == fold
            origins.append(predictions.provenance)
    for origin in origins:
        assert set(origin) >= {"hclmp", "step", "config", "inputs", "source"}
    model = Ensemble.from_file(run / "results/models/hclmp_t/first/model.safetensors")
    assert model.scalers.dos is not None
    assert (run / "logs/runs/train.hclmp_t.first.json").is_file()


def test_held_out_systems_are_what_is_predicted(demo_run: tuple[Path, str]) -> None:
    run, _ = demo_run
    targets = read_targets(run / "data/processed/targets.parquet")
    for fold, systems in {"first": {"Co-Ti-Zr", "Cr-Fe-Mn"}}.items():
        frame = read_predictions(run / f"results/predictions/ridge/{fold}.parquet").frame
        assert set(frame["system"]) == systems
        expected = {
            s for s, x in zip(targets.sample_id, targets.system, strict=True) if x in systems
        }
        assert set(frame["sample_id"]) == expected


def test_a_second_run_has_nothing_to_do(demo_run: tuple[Path, str]) -> None:
    assert "Nothing to be done" in succeeded(snakemake(demo_run[0]))


def test_a_dry_run_shows_every_job_and_writes_nothing(tmp_path: Path) -> None:
    run = write_config(tmp_path, TINY)
    assert planned(run) == {
        "aggregate": 1,
        "all": 1,
        "featurize": 1,
        "finalize": 1,
        "prepare_targets": 1,
        "pretrain_encoder": 1,
        "pretrain_gan": 1,
        "pull_dos": 1,
        "report": 1,
        "train": 7,  # three of them the calibration
        "train_baseline": 14,
    }
    assert not (run / "results").exists()
    assert not (run / "data").exists()


def test_only_what_a_parameter_touches_runs_again(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    changes: list[tuple[dict[str, Any], dict[str, int]]] = [
        ({"training": {"epochs": 4}}, {"train": 7, **ENDS}),
        ({"encoder": {"epochs": 1}}, {"pretrain_encoder": 1, "train": 5, **ENDS}),
        ({"baselines": {"trees": 6}}, {"train_baseline": 14, **ENDS}),
        (
            {"gan": {**TINY["gan"], "epochs": 2}},
            {
                "pretrain_gan": 1,
                "featurize": 1,
                "train": 7,
                "train_baseline": 14,
                **ENDS,
            },
        ),
    ]
    for change, expected in changes:
        write_config(run, {**TINY, **change})
        assert planned(run) == expected, change
    write_config(run, TINY)
    assert planned(run) == {}, "back to the first configuration, all is as it was"


@pytest.mark.slow
def test_a_changed_training_parameter_reaches_the_models(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    generator = (run / "results/gan/generator.safetensors").stat().st_mtime_ns
    write_config(run, {**TINY, "training": {"epochs": 2}})
    succeeded(snakemake(run))
    for fold in FOLDS:
        predictions = read_predictions(run / f"results/predictions/hclmp/{fold}.parquet")
        assert predictions.provenance["config"]["training"]["epochs"] == 2
    assert (run / "results/gan/generator.safetensors").stat().st_mtime_ns == generator


def test_another_fold_of_the_sheet_leaves_the_first_alone(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    with open(run / "config/systems.tsv", "a") as sheet:
        sheet.write("Co-Nb-V\tthird\n")
    assert planned(run) == {"train": 2, "train_baseline": 7, **ENDS}


def test_an_edit_of_a_model_file_reruns_training_but_not_the_generator(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    root = tmp_path / "checkout"
    for part in ("hclmp", "workflow"):
        shutil.copytree(ROOT / part, root / part)
    shutil.copy(ROOT / "environment.yml", root)
    assert planned(run, root=root) == {}, "another checkout of the same source changes nothing"
    with open(root / "hclmp/models/hclmp/network.py", "a") as file:
        file.write("# edited\n")
    again = planned(run, root=root)
    assert again == {"pretrain_encoder": 1, "train": 7, "train_baseline": 14, **ENDS}


@pytest.mark.slow
def test_two_runs_from_scratch_give_the_same_bytes(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    again = write_config(tmp_path / "again", TINY)
    succeeded(snakemake(again, "--cores", "1"))
    first = demo_run[0]
    made = [p.relative_to(first) for d in ("data", "results") for p in (first / d).rglob("*.*")]
    assert len(made) > 50
    for path in made:
        assert (again / path).read_bytes() == (first / path).read_bytes(), path


@pytest.mark.slow
def test_without_transfer_no_dos_is_read(tmp_path: Path) -> None:
    config = {**TINY, "dos": {"source": "none"}, "variants": ["hclmp", "ridge", "mean"]}
    run = write_config(tmp_path, config)
    succeeded(snakemake(run))
    summary = pd.read_csv(run / "results/metrics/summary.csv")
    assert set(summary["variant"]) == {"hclmp", "ridge", "mean"}
    assert not (run / "data/processed/dos.parquet").exists()
    assert not (run / "results/gan").exists()


@pytest.mark.slow
def test_dropping_the_dos_of_held_out_systems_trains_a_generator_per_fold(tmp_path: Path) -> None:
    """The demo has no DOS of a held-out system, so here the sheet holds out two that have."""
    dos = {**TINY["dos"], "held_out": "drop"}
    run = write_config(tmp_path, {**TINY, "dos": dos, "variants": ["hclmp_t", "mean"]})
    succeeded(snakemake(run))
    for fold in (*FOLDS, *CALIBRATION):
        gan = json.loads((run / f"results/gan/{fold}/metrics.json").read_text())
        assert gan["held_out"] == "drop"
        assert gan["provenance"]["config"]["fold"] == fold
        assert (run / f"results/features/{fold}/features.safetensors").is_file()
    metrics = json.loads((run / "results/metrics/metrics.json").read_text())
    assert metrics["dos_of_held_out_systems"] == "drop"
    generator = Generator.from_file(run / "results/final/generator.safetensors")
    assert "fold" not in generator.provenance["config"], "the final model's has seen all DOS"
    model = Model.load(run / "results/final")
    assert model.about["transfer"]["hide_own_system"] is True
    assert len(model.predict(["Fe0.5Ti0.5"])) == 1


@pytest.mark.slow
def test_own_table_from_new_to_results(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    write(table, good_table())
    run = tmp_path / "run"
    new = [str(table), "--left-out", "O", "--folds", "2", "--min-samples", "1"]
    hclmp("new", str(run), "--targets", *new)
    config = yaml.safe_load((run / "config/config.yaml").read_text())
    assert "hclmp_t" not in config["variants"]
    config |= {k: TINY[k] for k in ("model", "training", "baselines")}
    (run / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    text = succeeded(snakemake(run))
    assert "measured held-out samples" in text
    assert (run / "results/metrics/summary.csv").is_file()
    assert planned(run) == {}
    frame = pd.read_csv(table)
    write(table, frame.iloc[:-1])
    changed = planned(run)
    assert changed["prepare_targets"] == 1, "the user's own file is an input"
    assert changed["train"] == 5


def test_a_run_for_another_target_shows_no_old_table(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    (run / "results/gan/metrics.json").unlink()
    text = succeeded(snakemake(run, "results/gan/metrics.json"))
    assert "held-out samples" not in text


@pytest.mark.slow
def test_a_random_split_runs_too(tmp_path: Path) -> None:
    config = {**TINY, "split": "random", "variants": ["ridge", "mean"]}
    run = write_config(tmp_path, config)
    succeeded(snakemake(run))
    frame = read_predictions(run / "results/predictions/ridge/random.parquet").frame
    assert frame["sample_id"].nunique() == 24
