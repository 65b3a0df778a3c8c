"""`dvc repro` as the second front door: what runs, what is restored, what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from hclmp.data.folds import CALIBRATION
from hclmp.provenance import read_provenance
from tests.dvc.conftest import FOLDS, Repository, environment, epochs

pytestmark = pytest.mark.dvc
VARIANTS = ("hclmp_t", "mean")


def trained(run: Repository) -> set[str]:
    """The folds that the last run of stage train did train, rather than restore."""
    logs = (run / "logs/train").glob("*.log")
    return {log.stem for log in logs if "restored from" not in log.read_text()}


def ran(text: str) -> list[str]:
    """The stages whose command `dvc repro` ran."""
    return [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]


FINAL = {f"hclmp_t.{fold}" for fold in CALIBRATION}
ALL = {f"{variant}.{fold}" for variant in VARIANTS for fold in FOLDS} | FINAL


def test_from_a_fresh_clone_to_the_end_and_then_nothing_more(recorded: Repository) -> None:
    assert trained(recorded) == ALL
    assert pd.read_csv(recorded / "results/metrics/summary.csv")["variant"].nunique() == 2
    assert ran(recorded.done("dvc", "repro")) == []
    assert recorded.is_clean()
    assert recorded.done("git", "status", "--short") == "", "nothing of the run is left to Git"
    listed = recorded.done("git", "ls-files", "results", "data").split()
    assert listed == [
        *("data/raw/.gitignore", "data/raw/dos.csv", "data/raw/targets.csv"),
        "results/metrics/metrics.json",
    ]


def test_snakemake_and_dvc_make_and_record_the_same(recorded: Repository, tmp_path: Path) -> None:
    """A plain Snakemake run, recorded: its dvc.lock is that of `dvc repro`, to the byte."""
    lock = (recorded / "dvc.lock").read_text()
    run = recorded.clone(tmp_path / "run")
    run.done("git", "rm", "--quiet", "-r", "dvc.lock", "results")
    run.done("snakemake", "--cores", "2")
    run.done("python", "-m", "workflow.stage", "commit")
    assert run.is_clean()
    assert ran(run.done("dvc", "repro")) == []
    assert (run / "dvc.lock").read_text() == lock

    run.config(training={"epochs": 3})
    text = run.refused("python", "-m", "workflow.stage", "commit")
    assert "results/predictions/hclmp_t/first.parquet: not what this run would make" in text
    run.config()
    left = run / "results/models/hclmp"
    shutil.copytree(run / "results/models/hclmp_t", left)
    text = run.refused("python", "-m", "workflow.stage", "commit")
    assert "results/models/hclmp/first/history.csv" in text
    assert "left over" in text
    shutil.rmtree(left)
    run.done("python", "-m", "workflow.stage", "commit")
    assert (run / "dvc.lock").read_text() == lock


def test_after_a_pull_snakemake_has_nothing_to_do(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.clone(tmp_path / "run")
    run.done("dvc", "pull")
    run.done("python", "-m", "workflow.stage", "restore")
    assert "Nothing to be done" in run.done("snakemake", "--dry-run", "--cores", "1")
    assert run.is_clean()
    run.config(training={"epochs": 3})
    text = run.refused("python", "-m", "workflow.stage", "restore")
    assert "not what this run would make: another config" in text


def test_a_changed_parameter_reaches_the_models_of_a_pulled_clone(
    recorded: Repository, tmp_path: Path
) -> None:
    changed_parameter_after_a_pull(recorded, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("repetition", range(4))
def test_a_changed_parameter_reaches_the_models_each_time(
    recorded: Repository, tmp_path: Path, repetition: int
) -> None:
    changed_parameter_after_a_pull(recorded, tmp_path)


def changed_parameter_after_a_pull(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.clone(tmp_path / "run")
    run.done("dvc", "pull")
    assert epochs(run) == {2}
    run.config(training={"epochs": 3})
    assert ran(run.done("dvc", "repro", "train")) == ["train"]
    assert epochs(run) == {3}
    assert run.is_clean("train")
    # and in a temporary copy, where nothing but the cache of finished folds is at hand
    setting = "config/config.yaml:training.epochs=4"
    run.done("git", "checkout", "--quiet", "HEAD", "--", "config/config.yaml", "dvc.lock")
    run.done("dvc", "checkout")
    run.done("dvc", "exp", "run", "--temp", "--name", "four", "--set-param", setting, "train")
    assert epochs(run) == {2}, "the workspace is left alone"
    run.done("dvc", "exp", "apply", "four")
    assert epochs(run) == {4}


KILLER = """
import os, signal, sys
if {"train", "hclmp_t", "second"} <= set(sys.orig_argv):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_failed_fold_is_trained_alone_and_new_data_train_all(
    recorded: Repository, tmp_path: Path
) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(training={"epochs": 3})
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(KILLER)
    text = run.refused("dvc", "repro", "train", env=environment(PYTHONPATH=str(killer)))
    assert "stage train: a job failed" in text
    assert not run.is_clean("train")
    assert trained(run) == {"hclmp_t.first", "hclmp_t.second", *FINAL}, "mean was restored"
    assert ran(run.done("dvc", "repro", "train")) == ["train"]
    assert trained(run) == {"hclmp_t.second"}
    assert epochs(run) == {3}

    # new bytes upstream train everything, although the parameters are the old ones
    table = run / "data/raw/targets.csv"
    before = table.read_text()
    frame = pd.read_csv(table)
    frame.loc[0, "gap"] += 0.5
    frame.to_csv(table, index=False)
    text = run.done("dvc", "repro", "train")
    assert {"prepare-targets", "train"} <= set(ran(text))
    assert trained(run) == ALL

    # back to what was there: nothing is trained, neither by DVC nor by Snakemake
    table.write_text(before)
    run.config()
    assert "train" not in ran(run.done("dvc", "repro", "train"))
    assert epochs(run) == {2}
    assert run.is_clean("train")


def test_an_experiment_is_compared_with_what_it_came_from(
    recorded: Repository, tmp_path: Path
) -> None:
    run = recorded.copy(tmp_path / "run")
    setting = "config/config.yaml:gan.draws=50"
    refused = run.refused("dvc", "exp", "run", "--set-param", setting)
    assert "Key 'draws' is not in struct" in refused, "a key must be written to be set, or `+`ed"
    setting = "config/config.yaml:training.epochs=1,3"
    run.done("dvc", "exp", "run", "--queue", "--set-param", setting)
    assert run.done("dvc", "queue", "status").count("Queued") == 2
    run.done("dvc", "queue", "remove", "--queued")
    run.done("dvc", "exp", "run", "--name", "one", "-S", "config/config.yaml:training.epochs=1")
    assert epochs(run) == {1}
    diff = run.done("dvc", "metrics", "diff", "HEAD", "one")
    assert "variants.hclmp_t.mae_std" in diff
    assert "variants.mean.mae_std " not in diff
    assert "one" in run.done("dvc", "exp", "show", "--csv", "--drop", "provenance")
    plots = run.done("dvc", "plots", "diff", "HEAD", "one", "--json")
    for name in ("plots/parity.csv", "summary.csv", "plots/losses.csv", "plots/gan.csv"):
        assert f'"results/metrics/{name}"' in plots


def started(run: Repository) -> subprocess.Popen[bytes]:
    """A `dvc repro train` that has finished some epochs of a training."""
    with open(run / "killed.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "train"],
            cwd=run.folder,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 120
    while not list(run.folder.glob(".hclmp/checkpoints/*/selection.safetensors")):
        assert process.poll() is None, (run / "killed.log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_a_killed_repro_leaves_nothing_and_the_next_one_is_right(
    recorded: Repository, tmp_path: Path
) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(training={"epochs": 400})
    lock = (run / "dvc.lock").read_text()
    process = started(run)
    os.kill(process.pid, signal.SIGKILL)  # DVC alone; its Snakemake goes on
    process.wait(timeout=60)
    text = run.refused("dvc", "repro", "train")
    assert "another stage still runs in this directory" in text
    os.killpg(process.pid, signal.SIGKILL)
    assert (run / "dvc.lock").read_text() == lock
    assert "hclmp_t" not in "".join(os.listdir(run / "results"))

    run.config(training={"epochs": 5})
    assert ran(run.done("dvc", "repro", "train")) == ["train"]
    assert epochs(run) == {5}
    assert run.is_clean("train")
    files = {path.name for path in (run / "results").rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith(".part")]
    models = [run / f"results/models/hclmp_t/{fold}/model.safetensors" for fold in FOLDS]
    content = [model.read_bytes() for model in models]
    for fold, model in zip(FOLDS, models, strict=True):  # without DVC, Snakemake and checkpoints
        model.unlink()
        train = ("train", "--variant", "hclmp_t", "--fold", fold)
        run.done("python", "-m", "hclmp.cli.main", *train)
    assert [model.read_bytes() for model in models] == content


def test_a_configuration_edited_while_it_runs_is_not_recorded(
    recorded: Repository, tmp_path: Path
) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(training={"epochs": 25})
    process = started(run)
    run.config(training={"epochs": 3})
    assert process.wait(timeout=300) != 0
    assert "not what this run would make: another config" in (run / "killed.log").read_text()
    assert not run.is_clean("train")


def test_foreign_predictions_are_refused_by_name(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.copy(tmp_path / "run")
    foreign = run / "results/predictions/hclmp_t/second.parquet"
    shutil.copy(run / "results/predictions/mean/second.parquet", foreign)
    (run / "results/metrics/metrics.json").unlink()
    text = run.refused("python", "-m", "workflow.stage", "aggregate")
    assert "results/predictions/hclmp_t/second.parquet: made with another configuration" in text
    text = run.refused("python", "-m", "workflow.stage", "commit")
    assert "results/predictions/hclmp_t/second.parquet: not what this run would make" in text
    assert ran(run.done("dvc", "repro", "train")) == [], "DVC sees that it is not its own"
    assert read_provenance(foreign)["config"]["variant"] == "hclmp_t"


def test_an_input_that_dvc_does_not_see_is_refused(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.copy(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere.csv"
    shutil.copy(run / "data/raw/targets.csv", elsewhere)
    run.config(targets={"path": str(elsewhere)})
    text = run.refused("dvc", "repro", "prepare-targets")
    assert f"`targets.path: {elsewhere}` is not in data/raw/" in text


def test_without_dos_its_outs_are_empty(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(variants=["mean"], dos={"source": "none", "path": None})
    assert ran(run.done("dvc", "repro", "pretrain-gan")) == ["pull-dos", "pretrain-gan"]
    assert (run / "data/processed/dos.parquet").read_bytes() == b""
    assert "`dos.source` is `none`" in (run / "data/processed/dos.json").read_text()
    assert list((run / "results/gan").iterdir()) == []
    assert run.is_clean("pretrain-gan")
    run.config()  # plain Snakemake does not take the empty file for a table
    text = run.refused("snakemake", "--cores", "2", "results/gan/generator.safetensors")
    assert "data/processed/dos.parquet: damaged" in text
    assert "Make it again: `hclmp pull-dos`" in text
    assert ran(run.done("dvc", "repro", "pretrain-gan")) == [], "both are still in DVC's cache"
    assert (run / "results/gan/generator.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("dos", [{"source": "none", "path": None}, {}], ids=["none", "not used"])
def test_without_dos_both_front_doors_go_to_the_end(
    recorded: Repository, tmp_path: Path, dos: dict[str, str | None]
) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(variants=["mean"], dos=dos)
    run.done("dvc", "repro")
    assert run.is_clean()
    lock = (run / "dvc.lock").read_text()
    for folder in ("data/processed", "results"):
        shutil.rmtree(run / folder)
    run.done("snakemake", "--cores", "2")
    run.done("python", "-m", "workflow.stage", "commit")
    assert run.is_clean()
    assert (run / "dvc.lock").read_text() == lock


@pytest.mark.slow
def test_a_generator_per_fold_goes_through_dvc_too(recorded: Repository, tmp_path: Path) -> None:
    run = recorded.copy(tmp_path / "run")
    run.config(dos={"held_out": "drop"}, variants=["hclmp_t"])
    run.done("dvc", "repro", "featurize")
    for fold in FOLDS:
        assert (run / f"results/gan/{fold}/generator.safetensors").is_file()
        assert (run / f"results/features/{fold}/features.safetensors").is_file()
    assert run.is_clean("featurize")
