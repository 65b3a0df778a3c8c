"""Missing labels: accepted when asked for, and passed over by every model and metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hclmp.config import BaselinesConfig, ModelConfig, TrainingConfig
from hclmp.data.inputs import Labelled
from hclmp.data.tables import Property, read_predictions, read_targets
from hclmp.evaluation.metrics import summarise
from hclmp.models.baselines.fit import fit_baseline
from hclmp.models.interface import Part
from hclmp.models.weights import few_rows_factor
from tests.conftest import Command, assert_refused
from tests.made_up.predictions import with_interval
from tests.made_up.synthetic import fit_one, labelled
from tests.made_up.tables import (
    config_for,
    good_table,
    set_up,
)

PROPERTIES = (Property("x"), Property("y"))


def with_blanks() -> pd.DataFrame:
    table = good_table()
    table.loc[[0, 3, 7], "gap"] = np.nan
    table.loc[[7, 12], "rate"] = np.nan  # row 8 has no label at all
    return table


def test_blank_cells_are_refused_unless_allowed(workdir: Path, command: Command) -> None:
    config = set_up(workdir, with_blanks())
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, "`gap`", "row 1", "row 4", "row 8", "allow_missing: true")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_allowed_blanks_stay_blank_and_are_counted(
    workdir: Path, command: Command, suffix: str
) -> None:
    config = config_for(f"table{suffix}", allow_missing=True)
    file = set_up(workdir, with_blanks(), config=config, suffix=suffix)
    answer = command("prepare-targets", "--config", file)
    assert answer.code == 0, answer.text
    assert "1 rows without any property left out" in answer.text
    assert "3 values missing" in answer.text
    targets = read_targets("data/processed/targets.parquet")
    assert len(targets) == 24
    assert "row-8" not in targets.sample_id
    assert targets.sample_id[7] == "row-9"
    assert np.isnan(targets.values).sum(axis=0).tolist() == [2, 1]


def test_text_is_no_blank(workdir: Path, command: Command) -> None:
    table = with_blanks().astype({"gap": object})
    table.loc[2, "gap"] = "n/a"
    file = set_up(workdir, table, config=config_for(allow_missing=True))
    assert_refused(command("prepare-targets", "--config", file), "`gap`", "row 3 ('n/a')")


def test_a_row_of_one_composition_fills_the_blank_of_another(
    workdir: Path, command: Command
) -> None:
    table = good_table()
    twin = table.iloc[[0]].copy()
    table.loc[0, "gap"] = np.nan
    file = set_up(workdir, pd.concat([table, twin]), config=config_for(allow_missing=True))
    assert command("prepare-targets", "--config", file).code == 0
    targets = read_targets("data/processed/targets.parquet")
    assert targets.values[0, 0] == pytest.approx(twin["gap"].iloc[0])


def spoiled(n: int, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Rows with a third of the labels missing, and the same rows in full."""
    full = labelled(n, seed=seed)
    t = full.t.copy()
    t[np.random.default_rng(seed).random(t.shape) < 0.33] = np.nan
    return Labelled(full.inputs, t), full


@pytest.mark.parametrize("kind", ["boosting", "extra_trees", "random_forest", "ridge", "mean"])
def test_baselines_learn_each_property_from_the_rows_that_have_it(kind: str) -> None:
    train, _ = spoiled(150)
    validation, test = spoiled(40, seed=1)[0], labelled(40, seed=2)
    settings = BaselinesConfig(trees=30)
    model = fit_baseline(kind, Part(train, validation, {}), settings=settings, seed=0, threads=1)
    predicted = model.predict(test.inputs)
    assert np.isfinite(predicted.mean).all()
    assert (predicted.std_aleatoric > 0).all()
    error = np.abs(predicted.mean - test.t).mean()
    of_mean = np.abs(np.nanmean(train.t, axis=0) - test.t).mean()
    assert error < of_mean * (1.05 if kind == "mean" else 0.7)


def test_a_property_that_no_validation_row_has_is_as_uncertain_as_its_labels() -> None:
    train, validation = labelled(60), labelled(20, seed=1)
    blank = validation.t.copy()
    blank[:, 1] = np.nan
    settings = BaselinesConfig(trees=10)
    part = Part(train, Labelled(validation.inputs, blank), {})
    model = fit_baseline("ridge", part, settings=settings, seed=0, threads=1)
    widened = np.sqrt(few_rows_factor(np.ones((60, 1))))[0]
    scatter = np.sqrt(((train.t - np.median(train.t, axis=0)) ** 2).mean(axis=0))
    predicted = model.predict(train.inputs)
    np.testing.assert_allclose(predicted.std_aleatoric[:, 1], scatter[1] * widened, rtol=1e-3)


def test_hclmp_learns_from_what_is_there(workdir: Path) -> None:
    train, _ = spoiled(200)
    validation, test = spoiled(40, seed=1)[0], labelled(40, seed=2)
    settings = TrainingConfig(epochs=30, batch_size=16, members=1, learning_rate=3e-3)
    small: dict[str, Any] = {
        "message_hidden": 16,
        "element_size": 16,
        "token_size": 16,
        "memory": 64,
    }
    model, history = fit_one(
        train, validation, model=ModelConfig(**small), training=settings, key={}
    )
    predicted = model.predict(test.inputs)
    error = np.abs(predicted.mean - test.t).mean()
    assert error < 0.7 * np.abs(np.nanmean(train.t, axis=0) - test.t).mean()
    finite = [np.isfinite(row.get("validation_mae", np.nan)) for row in history]
    assert finite == [row["stage"] == "selection" for row in history]
    assert predicted.covariance is not None
    assert np.isfinite(predicted.covariance).all()


def test_metrics_count_the_labels_that_are_there(workdir: Path, command: Command) -> None:
    table = good_table()
    table.loc[:2, "gap"] = np.nan  # of Cu-Fe-Mn, fold b
    config = config_for(allow_missing=True) | {"variants": ["ridge", "mean", "extra_trees"]}
    file = set_up(workdir, table, config=config)
    for arguments in (["prepare-targets"], ["featurize"]):
        answer = command(*arguments, "--config", file)
        assert answer.code == 0, answer.text
    for variant in config["variants"]:
        for fold in "ab":
            answer = command("train", "--variant", variant, "--fold", fold, "--config", file)
            assert answer.code == 0, answer.text
    answer = command("aggregate", "--config", file)
    assert answer.code == 0, answer.text
    predictions = read_predictions("results/predictions/mean/b.parquet").frame
    assert predictions["y_true"].isna().sum() == 3
    assert predictions["y_pred"].notna().all()
    summary = pd.read_csv("results/metrics/summary.csv").query("metric == 'mae_std'")
    counts = summary.query("variant == 'mean'").set_index("property")["n"]
    assert counts.to_dict() == {"gap": 7, "rate": 10, "all": 10}
    assert summary["value"].notna().all()
    overall = json.loads(Path("results/metrics/metrics.json").read_text())
    assert overall["n"] == 10, "samples, not labels of the first property"
    systems = pd.read_csv("results/metrics/by_system.csv").query("variant == 'mean'")
    assert systems.query("property == 'all' and metric == 'mae_std'")["n"].sum() == 10


def test_how_sure_a_variant_is_of_a_sample_does_not_hang_on_its_labels() -> None:
    """Of four samples the last is uncertain in `y` alone, which nobody has measured there."""
    frame = pd.DataFrame(
        {
            "sample_id": list("abcd") * 2,
            "system": "A-B",
            "fold": "fold-1",
            "property": ["x"] * 4 + ["y"] * 4,
            "t_true": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.nan],
            "t_pred": [2.0, 2.0, 2.0, 9.0, 2.0, 2.0, 2.0, 2.0],
            "t_std_aleatoric": [1.0] * 7 + [5.0],
            "t_std_epistemic": 0.0,
            "train_std": 1.0,
        }
    )
    frame = with_interval(frame.assign(y_true=frame["t_true"], y_pred=frame["t_pred"]))
    summary = (
        summarise({"v": frame}, PROPERTIES).query("property == 'x'").set_index("metric")["value"]
    )
    assert summary["mae_std"] == pytest.approx((3 * 1 + 8) / 4)
    assert summary["mae_std_certain"] == pytest.approx(1.0)


def test_intervals_bear_systems_without_a_label() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"{s}{i}", s, p, *rng.normal(size=2))
        for s in ("A-B", *(f"A-X{i}" for i in range(8)))
        for p in ("x", "y")
        if (s, p) != ("A-B", "y")
        for i in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["sample_id", "system", "property", "t_true", "t_pred"])
    frame = frame.assign(
        y_true=frame["t_true"],
        y_pred=frame["t_pred"],
        t_std_aleatoric=1.0,
        t_std_epistemic=0.0,
        train_std=1.0,
    )
    frame = with_interval(frame)
    worse = frame.assign(t_pred=frame["t_true"] + 2 * (frame["t_pred"] - frame["t_true"]))
    summary = summarise({"good": frame, "bad": worse}, PROPERTIES).set_index(["variant", "metric"])[
        "value"
    ]
    assert summary["good", "mae_std_vs_bad_low"] == pytest.approx(0.5)
    assert summary["good", "mae_std_vs_bad_high"] == pytest.approx(0.5)


def test_a_property_that_no_held_out_sample_has_is_refused(workdir: Path, command: Command) -> None:
    table = good_table()
    table.loc[table["formula"].str.match("Fe.*Ti.*W|Cu.*Fe.*Mn"), "gap"] = np.nan
    file = set_up(workdir, table, config=config_for(allow_missing=True))
    answer = command("prepare-targets", "--config", file)
    assert_refused(answer, "no held-out sample has a value of gap")


def test_what_a_single_label_leaves_undefined_is_null(workdir: Path, command: Command) -> None:
    table = good_table()
    held_out = table.index[table["formula"].str.match("Fe.*Ti.*W|Cu.*Fe.*Mn")]
    table.loc[held_out[1:], "gap"] = np.nan
    config = config_for(allow_missing=True) | {"variants": ["mean"]}
    file = set_up(workdir, table, config=config)
    trained = [["train", "--variant", "mean", "--fold", fold] for fold in "ab"]
    for arguments in (["prepare-targets"], ["featurize"], *trained, ["aggregate"]):
        answer = command(*arguments, "--config", file)
        assert answer.code == 0, answer.text
    summary = pd.read_csv("results/metrics/summary.csv").set_index(["property", "metric"])["value"]
    assert np.isnan(summary["gap", "r2"])
    assert summary["all", "r2"] == summary["rate", "r2"]
    metrics = json.loads(Path("results/metrics/metrics.json").read_text(), parse_constant=str)
    assert metrics["variants"]["mean"]["r2"] == pytest.approx(summary["all", "r2"])
