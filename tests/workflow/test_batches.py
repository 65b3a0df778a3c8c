"""Folds that train as one model, in the real DAG: the same files, and what a job asks for."""

import json
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hclmp.config import load_config
from hclmp.config.data import PAPER_CATIONS
from hclmp.data.tables import read_predictions
from hclmp.pipeline.checks import check_results
from tests.workflow.conftest import (
    ROOT,
    TINY,
    copied,
    environment,
    planned,
    snakemake,
    succeeded,
    write_config,
)
from workflow.stage import rules_of

FOLDS = ["first", "second"]
FILES = ["model.safetensors", "model.json", "history.csv"]


def batched(folds_per_job: int, **changes: Any) -> dict[str, Any]:
    training = {**TINY["training"], "folds_per_job": folds_per_job}
    return {**TINY, "training": training, **changes}


@pytest.mark.slow
def test_a_batch_makes_the_files_of_its_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = batched(2, dos={"source": "none"}, variants=["hclmp", "mean"])
    run = write_config(tmp_path / "run", config)
    text = succeeded(snakemake(run))
    assert "Training hclmp with each of 2 folds held out" in text
    assert planned(run) == {}
    assert "x 2 folds" in (run / "logs/train/hclmp.batch_1.log").read_text(), "as one model"
    assert (run / "logs/runs/train.hclmp.first+1.json").is_file()
    alone = copied(run, tmp_path / "alone")
    for fold in FOLDS:
        for name in FILES:
            (alone / f"results/models/hclmp/{fold}/{name}").unlink()
        train = [
            sys.executable,
            "-m",
            "hclmp.cli.main",
            "train",
            "--variant",
            "hclmp",
            "--fold",
            fold,
        ]
        subprocess.run(train, cwd=alone, env=environment(ROOT), check=True)
        path = Path("results/predictions/hclmp") / f"{fold}.parquet"
        one, stacked = (read_predictions(where / path) for where in (alone, run))
        assert one.provenance == stacked.provenance
        assert "folds_per_job" not in json.dumps(one.provenance)
        for name in ("t_pred", "t_std_aleatoric", "t_std_epistemic"):
            np.testing.assert_allclose(stacked.frame[name], one.frame[name], rtol=5e-3, atol=5e-3)
        keys = [c for c in one.frame if one.frame[c].dtype.kind not in "f"]
        pd.testing.assert_frame_equal(stacked.frame[keys], one.frame[keys])
        folder = f"results/models/hclmp/{fold}"
        assert (alone / folder / "model.json").read_bytes() == (
            run / folder / "model.json"
        ).read_bytes()
        sizes = [(where / folder / "model.safetensors").stat().st_size for where in (alone, run)]
        assert sizes[0] == sizes[1]
    monkeypatch.chdir(run)
    check_results(load_config("results/config.json"), "train")


def test_batches_are_rules_made_from_the_sheet(tmp_path: Path) -> None:
    run = write_config(tmp_path, batched(2))
    with open(run / "config/systems.tsv", "a") as sheet:
        sheet.write("Co-Nb-V\tthird\n")
    jobs = planned(run)
    assert {rule: n for rule, n in jobs.items() if rule.startswith("train")} == {
        "train_batch_1": 2,
        "train_batch_2": 2,
        "train_batch_3": 1,  # the calibration, of the final variant alone
        "train_batch_4": 1,
        "train_baseline": 21,
    }


def test_dvc_lets_the_rules_of_the_batches_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_config(tmp_path, batched(1))
    monkeypatch.chdir(run)
    assert rules_of(load_config("config/config.yaml"), "train") == ["train", "train_baseline"]
    write_config(run, batched(2))
    rules = rules_of(load_config("config/config.yaml"), "train")
    assert rules == ["train", "train_baseline", *(f"train_batch_{i}" for i in (1, 2, 3))]


# No dry run says it: a rule's message takes the place of its resources.
GPUS_ASKED_FOR = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ResourceSettings

with SnakemakeApi() as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        snakefile=Path("workflow/Snakefile").resolve(),
        workdir=Path(sys.argv[1]),
    )
    workflow.dag()
    rules = workflow._workflow.rules
    asked = {rule.name: rule.resources.get("gpu") for rule in rules}
    print(json.dumps({name: None if r is None else r.value for name, r in asked.items()}))
"""


@pytest.mark.parametrize("folds_per_job", [1, 2])
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_training_asks_for_a_gpu_when_the_configuration_does(
    tmp_path: Path, device: str, folds_per_job: int
) -> None:
    config = batched(folds_per_job)
    config["training"]["device"] = device
    run = write_config(tmp_path, config)
    done = subprocess.run(
        [sys.executable, "-c", GPUS_ASKED_FOR, str(run)],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    succeeded(done)
    asked: dict[str, int | None] = json.loads(done.stdout.splitlines()[-1])
    batches = {"train_batch_1", "train_batch_2", "train_batch_3"}
    batch = batches if folds_per_job > 1 else set()
    assert batch <= asked.keys()
    asking = {rule for rule, gpus in asked.items() if gpus == 1}
    training = {"pretrain_encoder", "train", "finalize"} | batch
    assert asking == (set() if device == "cpu" else training)


@pytest.mark.slow
@pytest.mark.parametrize("folds_per_job", [1, 50])
def test_a_workflow_of_500_folds_is_parsed_quickly(tmp_path: Path, folds_per_job: int) -> None:
    run = write_config(tmp_path, batched(folds_per_job), sheet=many_systems(500))
    start = time.perf_counter()
    succeeded(snakemake(run, "--list-rules"))
    assert time.perf_counter() - start < 10


def many_systems(n: int) -> str:
    """A sheet of so many systems, each a fold of its own."""
    triples = ["-".join(three) for three in combinations(PAPER_CATIONS, 3)]
    return "\n".join(["system", *triples[:n]]) + "\n"
