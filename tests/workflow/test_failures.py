"""Mistakes, kills and foreign files, as a user of the workflow meets them."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Command
from tests.workflow.conftest import (
    ROOT,
    TINY,
    copied,
    environment,
    snakemake,
    snakemake_command,
    succeeded,
    write_config,
)

LONG: dict[str, Any] = {
    **TINY,
    "variants": ["hclmp", "mean"],
    "dos": {"source": "none"},
    "training": {"epochs": 60},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainng": {"epochs": 3}}, "unknown key `trainng`; did you mean `training`?"),
        ({"training": {"epohcs": 3}}, "unknown key `training.epohcs`; did you mean `epochs`?"),
        ({"dos": {"source": "none"}}, "variant `hclmp_t` needs density of states"),
        (
            {"split": "random", "dos": {**TINY["dos"], "held_out": "drop"}},
            "set `dos.held_out: keep`",
        ),
        ({"systems": "config/none.tsv"}, "config/none.tsv: no such sheet"),
    ],
)
def test_a_bad_configuration_ends_before_any_job(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run = snakemake(write_config(tmp_path, {**TINY, **change}))
    assert run.returncode == 1
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "results").exists()


def test_a_bad_table_shows_its_message_and_writes_nothing(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("formula,gap\nFe2O3,1.0\nTiO2,oops\n")
    config = {**LONG, "targets": {"source": "table", "path": str(table)}}
    run = snakemake(write_config(tmp_path / "run", config))
    assert run.returncode == 1
    assert "column `gap` is not a finite number in row 2 ('oops')" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not (tmp_path / "run/data/processed/targets.parquet").exists()


def test_a_system_that_the_table_lacks_is_refused_before_training(tmp_path: Path) -> None:
    run = snakemake(write_config(tmp_path, LONG, "system\tfold\nAg-Au-Pt\tfirst\n"))
    assert run.returncode == 1
    assert "the table has no sample of Ag-Au-Pt" in run.stdout + run.stderr
    assert not (tmp_path / "data/processed/targets.parquet").exists()


def test_predictions_of_another_configuration_are_refused(
    demo_run: tuple[Path, str], tmp_path: Path
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    shutil.copy(
        run / "results/predictions/hclmp/first.parquet",
        run / "results/predictions/hclmp_t/first.parquet",
    )
    (run / "results/metrics/summary.csv").unlink()
    again = snakemake(run, "--rerun-triggers", "params")
    text = again.stdout + again.stderr
    assert again.returncode == 1
    assert "results/predictions/hclmp_t/first.parquet: made with another configuration" in text
    assert "variant: hclmp there, hclmp_t here" in text


def test_predictions_from_other_features_are_refused(
    demo_run: tuple[Path, str], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    monkeypatch.chdir(run)
    config = json.loads(Path("results/config.json").read_text())
    config["gan"]["draws"] = 7
    Path("results/config.json").write_text(json.dumps(config))
    assert command("featurize").code == 0
    answer = command("aggregate")
    assert answer.code == 2
    assert "results/predictions/hclmp_t/first.parquet: made from other features" in answer.text


def test_a_generator_of_other_settings_is_refused(
    demo_run: tuple[Path, str], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    monkeypatch.chdir(run)
    before = Path("results/features/features.safetensors").read_bytes()
    config = json.loads(Path("results/config.json").read_text())
    config["gan"]["seed"] += 1
    Path("results/config.json").write_text(json.dumps(config))
    answer = command("featurize")
    assert answer.code == 2
    assert "results/gan/generator.safetensors: made with another configuration" in answer.text
    assert "(gan.seed: 0 there, 1 here)" in answer.text
    assert Path("results/features/features.safetensors").read_bytes() == before


def test_predictions_that_started_from_another_encoder_are_refused(
    demo_run: tuple[Path, str], tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(demo_run[0], tmp_path / "run")
    monkeypatch.chdir(run)
    with Path("results/encoder/encoder.safetensors").open("ab") as file:
        file.write(b" ")
    answer = command("aggregate")
    assert answer.code == 2
    assert "results/predictions/hclmp_t/first.parquet: made from other encoder" in answer.text


@pytest.mark.parametrize("option", ["--variant", "--fold"])
def test_unknown_variant_or_fold_is_one_message(
    option: str,
    demo_run: tuple[Path, str],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(demo_run[0])
    given = {"--variant": "hclmp", "--fold": "first"} | {option: "nope"}
    answer = command("train", *(word for pair in given.items() for word in pair))
    assert answer.code == 2
    assert f"no {option[2:]} `nope`" in answer.text


def _trainings(parent: int) -> list[psutil.Process]:
    """The Python processes that train H-CLMP, among the children of a Snakemake."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "train" in words and "hclmp" in words and "python" in words[0]:
            found.append(child)
    return found


def _started(directory: Path) -> "subprocess.Popen[str]":
    """Start a run and wait until a training has finished some epochs."""
    process = subprocess.Popen(
        snakemake_command(directory),
        cwd=ROOT,
        env=environment(ROOT),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(directory.glob(".hclmp/checkpoints/*/selection.safetensors")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_config(tmp_path_factory.mktemp("whole") / "run", LONG)
    succeeded(snakemake(run))
    return run


def assert_same_results(run: Path, whole: Path) -> None:
    for name in ("metrics/summary.csv", "models/hclmp/first/model.safetensors"):
        assert (run / "results" / name).read_bytes() == (whole / "results" / name).read_bytes()


def assert_resumed(run: Path) -> None:
    logs = [p.read_text() for p in (run / "logs/train").glob("hclmp.*.log")]
    assert any("resuming an interrupted training after epoch" in log for log in logs)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_numbers(
    tmp_path: Path, uninterrupted: Path
) -> None:
    run = write_config(tmp_path, LONG)
    process = _started(run)
    trainings = _trainings(process.pid)
    assert trainings
    for training in trainings:  # all, since only some of them have finished an epoch yet
        os.kill(training.pid, signal.SIGKILL)
    assert process.wait(timeout=120) == 1
    succeeded(snakemake(run))
    assert_resumed(run)
    assert_same_results(run, uninterrupted)


@pytest.mark.slow
def test_a_killed_snakemake_is_unlocked_and_goes_on(tmp_path: Path, uninterrupted: Path) -> None:
    run = write_config(tmp_path, LONG)
    process = _started(run)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    for fold in ("first", "second"):
        assert not (run / f"results/predictions/hclmp/{fold}.parquet").exists()
    locked = snakemake(run)
    assert locked.returncode == 1
    assert "--unlock" in locked.stdout + locked.stderr
    succeeded(snakemake(run, "--unlock"))
    succeeded(snakemake(run))
    assert_resumed(run)
    assert_same_results(run, uninterrupted)
