"""The paper's protocol on a small archive, and a run with a generator that was brought along."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from hclmp.data.tables import read_predictions
from hclmp.models.generator.published import import_generator
from tests.made_up.archive import compositions, files, npy, write_folder, write_zip
from tests.made_up.published_generator import published
from tests.workflow.conftest import ROOT, TINY, hclmp, planned, snakemake, succeeded, write_config

SYSTEMS = {"Co-Fe-Mn", "Cu-Ti-W", "Fe-Ti-W"}
VARIANTS = ["paper_t", "paper", "mean"]  # of the file's, so that the test does not take minutes
QUICK = {"training": {"epochs": 1}}


def small(path: Path) -> list[str]:
    """The options that run ``config/paper.yaml`` as it is, on a small archive and few epochs."""
    config = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    config["gan"] |= TINY["gan"]
    config["variants"] = {name: config["variants"][name] for name in VARIANTS}
    for name in ("paper_t", "paper"):
        config["variants"][name]["overrides"] = QUICK
    (path / "paper.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return ["--configfile", str(path / "paper.yaml")]


def test_the_papers_protocol_from_the_archive_to_the_summary(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "data/raw/data.zip", files())
    (tmp_path / "config").mkdir()
    hclmp("systems", str(archive), "--out", str(tmp_path / "config/paper_systems.tsv"))
    options = small(tmp_path)
    text = succeeded(snakemake(tmp_path, *options))
    rows = len(compositions())
    assert f"3 variants x 3 folds, {rows} rows" in text, "counted without reading it all"
    assert "measured held-out samples" in text
    summary = pd.read_csv(tmp_path / "results/metrics/summary.csv")
    assert set(summary["variant"]) == set(VARIANTS)
    assert set(summary["property"]) == {"all", *(f"fom_{i}" for i in range(10))}
    for system in SYSTEMS:
        frame = read_predictions(tmp_path / f"results/predictions/paper_t/{system}.parquet").frame
        assert set(frame["system"]) == {system}
        assert frame["sample_id"].nunique() == 6
    about = json.loads((tmp_path / "results/metrics/metrics.json").read_text())
    assert about["dos_of_held_out_systems"] == "keep"
    assert about["simulated"] is False
    assert planned(tmp_path, *options) == {}
    write_zip(archive, files(), top="")
    assert planned(tmp_path, *options)["prepare_targets"] == 1, "the archive is an input"


def test_the_random_split_is_the_archives_own_and_a_folder_will_do(tmp_path: Path) -> None:
    write_folder(tmp_path / "unpacked", files())
    config: dict[str, Any] = {
        "targets": {"source": "reference", "path": "unpacked"},
        "dos": {"source": "none"},
        "split": "random",
        "variants": ["ridge", "mean"],
    }
    run = write_config(tmp_path, config)
    succeeded(snakemake(run))
    frame = read_predictions(run / "results/predictions/ridge/random.parquet").frame
    assert frame["sample_id"].nunique() == 8
    assert planned(run) == {}
    changed = run / "unpacked/uvis_dataset_no_redundancy/idx/rd_idx/test/rd_idx.npy"
    changed.write_bytes(npy(np.arange(9)))
    assert planned(run)["prepare_targets"] == 1, "the files of the folder are inputs"


@pytest.mark.slow
def test_the_archive_may_lie_where_the_run_writes(tmp_path: Path) -> None:
    """``data/`` holds the archive and then ``data/processed/``, which is no input."""
    config: dict[str, Any] = {
        "targets": {"source": "reference", "path": "data"},
        "dos": {"source": "none"},
        "split": "random",
        "variants": ["mean"],
    }
    run = write_config(tmp_path, config)
    write_folder(run / "data", files())
    succeeded(snakemake(run))
    assert (run / "data/processed/targets.parquet").is_file()
    assert "Nothing to be done" in succeeded(snakemake(run))
    config["targets"]["limit"] = 40
    write_config(run, config)
    assert planned(run)["prepare_targets"] == 1


def with_a_generator(tmp_path: Path) -> Path:
    """A working directory that brings a published generator along."""
    torch.save(published().state_dict(), tmp_path / "published.pt")
    import_generator(tmp_path / "published.pt", tmp_path / "generator.safetensors")
    write_zip(tmp_path / "data.zip", files())
    config = {
        **TINY,
        "targets": {"source": "reference", "path": "data.zip"},
        "dos": {"source": "none"},
        "gan": {"source": "pretrained", "path": "generator.safetensors", "draws": 5},
        "variants": ["hclmp_t", "mean"],
    }
    return write_config(tmp_path, config, "system\tfold\nCu-Ti-W\tfirst\nFe-Ti-W\tfirst\n")


def test_a_pretrained_generator_needs_no_dos(tmp_path: Path) -> None:
    jobs = {"prepare_targets": 1, "featurize": 1, "train": 4, "train_baseline": 1}
    jobs |= {"aggregate": 1, "finalize": 1, "report": 1}
    assert planned(with_a_generator(tmp_path)) == {**jobs, "all": 1}


@pytest.mark.slow
def test_a_run_with_a_pretrained_generator(tmp_path: Path) -> None:
    run = with_a_generator(tmp_path)
    text = succeeded(snakemake(run))
    assert "pretrained generator: what it has seen is not known here" in " ".join(text.split())
    about = json.loads((run / "results/metrics/metrics.json").read_text())
    assert "not known here" in about["dos_of_held_out_systems"]
    assert not (run / "results/gan").exists()
    assert not (run / "results/metrics/plots/generated_dos.png").exists()
    torch.save(published(seed=1).state_dict(), tmp_path / "other.pt")
    import_generator(tmp_path / "other.pt", tmp_path / "generator.safetensors")
    assert planned(run)["featurize"] == 1, "the generator is an input"
    (tmp_path / "generator.safetensors").unlink()
    gone = snakemake(run)
    assert gone.returncode == 1
    assert "generator.safetensors: no such file" in gone.stderr
