"""The ablation: every part taken away once, on any directory's data."""

from pathlib import Path

import yaml
from snakemake.utils import update_config

from hclmp.config import resolve
from hclmp.data.folds import CALIBRATION
from tests.workflow.conftest import ROOT, TINY, planned, write_config

NEURAL = (
    "hclmp_t",
    "hclmp",
    "no_label_branch",
    "no_covariance",
    "no_property_attention",
    "no_pretraining",
    "no_recall",
)
ABLATION = ["--configfile", str(ROOT / "config/ablation.yaml")]


def test_a_dry_run_plans_every_ablation(tmp_path: Path) -> None:
    run = write_config(tmp_path, TINY)
    folds = 2
    assert planned(run, *ABLATION) == {
        "aggregate": 1,
        "finalize": 1,
        "report": 1,
        "all": 1,
        "featurize": 1,
        "prepare_targets": 1,
        "pretrain_encoder": 1,
        "pretrain_gan": 1,
        "pull_dos": 1,
        "train": len(NEURAL) * folds + len(CALIBRATION),
        "train_baseline": folds,
    }


def test_seeds_are_the_directorys(tmp_path: Path) -> None:
    """As the file's own header says to run two seeds."""
    seeded = {**TINY, "training": {"epochs": 3, "seed": 1}}
    merged = yaml.safe_load((ROOT / "config/ablation.yaml").read_text())
    update_config(seeded, merged)
    config = resolve(seeded)
    assert (config.training.seed, config.training.members) == (1, 1)
    assert set(config.variants) == {*NEURAL, "extra_trees"}
