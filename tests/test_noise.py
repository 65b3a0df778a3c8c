"""Measurement noise: carried through the tables, and noisy labels count less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.config import BaselinesConfig, ModelConfig, TrainingConfig, load_config
from hclmp.data.composition import pad
from hclmp.data.features import read_features
from hclmp.data.inputs import ElementTable, Inputs, Labelled
from hclmp.data.splits import split_rows
from hclmp.data.tables import Floats, read_predictions, read_targets
from hclmp.models.baselines.fit import Baseline, fit_baseline
from hclmp.models.interface import Model, Part
from hclmp.models.weights import MODEL_ERROR, label_weights
from tests.conftest import Command, assert_refused
from tests.made_up.synthetic import fit_one, labelled
from tests.made_up.tables import (
    config_for,
    good_table,
    set_up,
)

KINDS = ("boosting", "extra_trees", "random_forest", "ridge", "mean")
NAN = float("nan")


def spoiled(rows: Labelled, *, seed: int, properties: slice = slice(None)) -> Labelled:
    """A tenth of the rows with errors of ten standard deviations, and the noise that says so."""
    rng = np.random.default_rng(seed)
    noise = np.full_like(rows.t, 0.02 * np.nanstd(rows.t))
    bad = np.flatnonzero(rng.random(len(rows)) < 0.1)
    noise[bad, properties] = 10 * np.nanstd(rows.t)
    return Labelled(rows.inputs, rows.t + noise * rng.standard_normal(rows.t.shape), noise)


def fitted(kind: str, train: Labelled, validation: Labelled) -> Baseline:
    few = BaselinesConfig(trees=20)
    return fit_baseline(kind, Part(train, validation, {}), settings=few, seed=0, threads=1)


def error(model: Baseline, test: Labelled) -> Floats:
    """Mean absolute error per property."""
    return np.asarray(np.abs(model.predict(test.inputs).mean - test.t).mean(axis=0))


def test_weights_by_hand() -> None:
    labels = np.array([[1.0, 5.0], [2.0, NAN], [3.0, 6.0], [0.0, 0.0]])
    noise = np.array([[0.0, NAN], [0.6, 1.0], [1.2, 3.0], [1e300, NAN]])
    scale = np.array([2.0, 10.0])  # tau = 0.6 and 3
    assert MODEL_ERROR == 0.3
    expected = [[1.0, 1.0], [0.5, 0.0], [0.2, 0.5], [0.0, 1.0]]
    np.testing.assert_allclose(label_weights(labels, noise, scale), expected)
    np.testing.assert_array_equal(
        label_weights(labels, None, scale), [[1, 1], [1, 0], [1, 1], [1, 1]]
    )


@pytest.mark.parametrize("kind", ["boosting", "extra_trees", "random_forest", "ridge"])
@pytest.mark.parametrize("properties", [1, 3])
def test_garbage_with_honest_noise_does_little_harm(kind: str, properties: int) -> None:
    clean = [labelled(n, properties=properties, seed=i) for i, n in enumerate((200, 50, 100))]
    train, validation = (spoiled(rows, seed=i) for i, rows in enumerate(clean[:2]))
    unsaid = (replace(rows, noise=None) for rows in (train, validation))
    known, unknown = fitted(kind, train, validation), fitted(kind, *unsaid)
    best = fitted(kind, *clean[:2])
    errors = [error(model, clean[2]).mean() for model in (known, unknown, best)]
    # the median over a forest's leaves bears some garbage anyway
    assert errors[0] < errors[1] * (0.5 if kind == "ridge" else 0.97)
    assert errors[0] < 1.5 * errors[2]


@pytest.mark.parametrize("kind", ["extra_trees", "hclmp"])
def test_garbage_does_not_widen_the_uncertainty_of_the_rest(kind: str, workdir: Path) -> None:
    clean = [labelled(n, seed=i) for i, n in enumerate((200, 80, 100))]
    train, validation = (spoiled(rows, seed=i) for i, rows in enumerate(clean[:2]))
    model: Model
    if kind == "hclmp":
        small = ModelConfig(message_hidden=16, element_size=16, trunk=32)
        training = TrainingConfig(epochs=30, members=1)
        model = fit_one(train, validation, model=small, training=training, key={})[0]
    else:
        model = fitted(kind, train, validation)
    predicted = model.predict(clean[2].inputs)
    std = np.sqrt(np.mean(predicted.std_aleatoric**2 + predicted.std_epistemic**2))
    actual = np.sqrt(np.mean((predicted.mean - clean[2].t) ** 2))
    assert 0.3 < std / actual < 4  # unweighted: 15 to 20


@pytest.mark.parametrize("kind", KINDS)
def test_with_missing_labels_each_property_has_weights_of_its_own(kind: str) -> None:
    train, validation, test = (labelled(n, seed=i) for i, n in enumerate((120, 30, 60)))
    train.t[::7, 1] = NAN
    one = slice(0, 1)
    noisy = [spoiled(rows, seed=i, properties=one) for i, rows in enumerate((train, validation))]
    known = fitted(kind, *noisy).predict(test.inputs).mean
    fewer = [replace(rows, noise=rows.noise[:, 1:], t=rows.t[:, 1:]) for rows in noisy]
    np.testing.assert_allclose(fitted(kind, *fewer).predict(test.inputs).mean, known[:, 1:])
    unknown = fitted(kind, *(replace(rows, noise=None) for rows in noisy)).predict(test.inputs).mean
    wrong = [np.abs(mean[:, 0] - test.t[:, 0]).mean() for mean in (known, unknown)]
    assert wrong[0] != wrong[1], "the weights are used"
    # boosting of so few rows stops early enough to bear garbage
    assert wrong[0] < wrong[1] * (1.1 if kind == "boosting" else 1.0)


def test_the_mean_is_a_weighted_median() -> None:
    """By hand: the labels 0 and 4 have the standard deviation 2, and so tau = 0.6.

    Of the weight, 0 has 5/6 and 4 has 1/6; the middles of these shares are at 5/12 and 11/12.
    """
    inputs = Inputs(
        pad([{"Fe": 1.0}, {"Ti": 1.0}], ("Fe", "Ti")), ElementTable({}, np.zeros((2, 1), "f4"))
    )
    rows = [inputs.take(np.array([i])) for i in (0, 1)]
    train = Labelled(rows[0], np.array([[0.0]]))  # noise not known: weight 1
    validation = Labelled(rows[1], np.array([[4.0]]), np.array([[1.2]]))  # weight 1/5
    mean = fitted("mean", train, validation).predict(inputs).mean
    np.testing.assert_allclose(mean, 4 * (1 / 2 - 5 / 12) / (11 / 12 - 5 / 12), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [False, True])
def test_noise_that_is_nowhere_known_changes_no_byte(kind: str, missing: bool) -> None:
    train, validation, test = (labelled(n, seed=i) for i, n in enumerate((60, 20, 10)))
    if missing:
        train.t[::5, 0] = NAN
    models = []
    for noise in (None, np.nan):
        given = [
            replace(rows, noise=None if noise is None else np.full_like(rows.t, noise))
            for rows in (train, validation)
        ]
        models.append(fitted(kind, *given))
    one, two = (model.predict(test.inputs) for model in models)
    for name in ("mean", "std_aleatoric", "std_epistemic"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert models[0].settings() == models[1].settings()


def test_exact_labels_give_the_trees_that_labels_without_noise_give() -> None:
    train, validation, test = (labelled(n, seed=i) for i, n in enumerate((60, 20, 10)))
    exact = (replace(rows, noise=np.zeros_like(rows.t)) for rows in (train, validation))
    means = [
        fitted("extra_trees", *rows).predict(test.inputs).mean
        for rows in ((train, validation), exact)
    ]
    np.testing.assert_allclose(means[0], means[1])


def prepared(command: Command, table: pd.DataFrame, variant: str = "ridge") -> None:
    """The steps up to the predictions of one fold."""
    config = config_for(
        properties={"gap": {}, "rate": {"transform": "log10"}}, allow_missing=True
    ) | {"variants": [variant]}
    file = set_up(Path(), table, config=config)
    for step in ("prepare-targets", "featurize", f"train --variant {variant} --fold a"):
        answer = command(*step.split(), "--config", file)
        assert answer.code == 0, answer.text


def test_noise_reaches_the_models_in_the_transformed_space(command: Command) -> None:
    table = good_table().assign(gap_std=0.25, rate_std=0.5)
    prepared(command, table)
    targets = read_targets("data/processed/targets.parquet")
    inputs, _, _ = read_features("results/features/features.safetensors")
    rows = split_rows(load_config("config.yaml"), "a", targets)
    given = Labelled.of(targets, inputs, rows.train)
    assert given.noise is not None
    np.testing.assert_allclose(given.noise[:, 0], 0.25)
    rates = targets.values[rows.train, 1]
    np.testing.assert_allclose(given.noise[:, 1], 0.5 / (rates * np.log(10)))
    # to first order: half the width of the interval of one standard deviation
    small = 1e-4 * rates
    wide = (np.log10(rates + small) - np.log10(rates - small)) / 2
    np.testing.assert_allclose(targets.properties[1].forward_std(rates, small), wide, rtol=1e-6)


def test_the_training_step_uses_the_noise(command: Command) -> None:
    predictions = []
    for std in (0.001, 5.0):
        table = good_table().assign(gap_std=0.001)
        table.loc[table["formula"].str.contains("Mn"), "gap_std"] = std
        prepared(command, table)
        predictions.append(read_predictions("results/predictions/ridge/a.parquet").frame)
    assert (predictions[0]["y_true"] == predictions[1]["y_true"]).all()
    assert not np.allclose(predictions[0]["y_pred"], predictions[1]["y_pred"])


def test_merged_rows_have_the_median_noise_of_the_values_there(command: Command) -> None:
    table = good_table().assign(gap_std=0.1)
    twins = pd.concat([table.iloc[[0]]] * 4)
    twins["gap_std"] = [0.2, 0.6, np.nan, 9.0]
    twins["gap"] = [1.0, 2.0, 6.0, np.nan]  # the noise of a value that is not there is of no use
    prepared(command, pd.concat([twins, table.iloc[1:]]))
    targets = read_targets("data/processed/targets.parquet")
    assert len(targets) == 25
    assert targets.values[0, 0] == 2.0
    assert targets.noise[0, 0] == pytest.approx(0.4)
    assert np.isnan(targets.noise[:, 1]).all()


@pytest.mark.parametrize(
    ("std", "words"),
    [
        (-0.5, "column `gap_std` is a standard deviation, but negative in row 2 (-0.5)"),
        (np.inf, "column `gap_std` is not a finite number in row 2 ('inf')"),
        (np.nan, "column `gap_std` is not a finite number in row 2 ('')"),
    ],
)
def test_noise_that_cannot_be_is_refused(command: Command, std: float, words: str) -> None:
    table = good_table().assign(gap_std=0.1)
    table.loc[1, "gap_std"] = std
    file = set_up(Path(), table)
    assert_refused(command("prepare-targets", "--config", file), "table.csv: ", words)
