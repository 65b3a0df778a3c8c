"""The baselines: descriptors by hand, strength on known functions, determinism."""

import json
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from hclmp.config import BaselinesConfig
from hclmp.config.models import VariantConfig
from hclmp.data.composition import Compositions, pad
from hclmp.data.inputs import ElementTable, Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models import baselines
from hclmp.models.baselines.fit import Baseline, fit_baseline
from hclmp.models.descriptors import descriptors
from hclmp.models.interface import Part

KINDS = [n for n in get_args(VariantConfig.model_fields["model"].annotation) if n != "hclmp"]
VOCABULARY = ("Co", "Cu", "Fe", "Mn", "Ti", "W")
PROPERTIES = np.random.default_rng(5).standard_normal((6, 3)).astype(np.float32)
TABLE = ElementTable({}, PROPERTIES)
JOULE = 2.0**-62  # of an electronvolt, nearly: a power of 2, which changes no digit
FEW = BaselinesConfig(trees=20)


def some_inputs(n: int, seed: int = 0) -> Inputs:
    """Compositions of two or three of the elements."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        chosen = rng.choice(len(VOCABULARY), size=2 + i % 2, replace=False)
        fractions = rng.dirichlet(np.full(len(chosen), 2.0))
        rows.append({VOCABULARY[e]: float(x) for e, x in zip(chosen, fractions, strict=True)})
    return Inputs(pad(rows, VOCABULARY), TABLE)


def linear(inputs: Inputs) -> Floats:
    """Two properties linear in the fractions."""
    weights = np.array([[1.0, -2.0, 0.5, 3.0, 0.0, 1.5], [0.0, 10.0, 20.0, -5.0, 7.0, 1.0]])
    x: Floats = inputs.compositions.dense().astype(np.float64)
    return np.asarray(x @ weights.T + np.array([0.0, 100.0]), dtype=np.float64)


def nonlinear(inputs: Inputs) -> Floats:
    """Two properties with a step and a product in them."""
    x = inputs.compositions.dense().astype(np.float64)
    return np.column_stack([10 * (x[:, 0] > 0.3) + x[:, 1], 5 * x[:, 2] * x[:, 3] + (x[:, 4] > 0)])


def rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))


def fitted(
    kind: str, function: Callable[[Inputs], Floats] = linear, n: int = 160, threads: int = 1
) -> Baseline:
    train, validation = some_inputs(n), some_inputs(max(1, n // 5), seed=1)
    return fit_baseline(
        kind,
        Part(Labelled(train, function(train)), Labelled(validation, function(validation)), {}),
        settings=FEW,
        seed=3,
        threads=threads,
    )


def test_descriptors_of_a_binary_by_hand() -> None:
    inputs = Inputs(pad([{"Fe": 0.75, "W": 0.25}], VOCABULARY), TABLE)
    fe, w = PROPERTIES[2].astype(float), PROPERTIES[5].astype(float)
    expected = np.concatenate(
        [
            [0, 0, 0.75, 0, 0, 0.25],
            0.75 * fe + 0.25 * w,
            np.sqrt(0.75 * 0.25) * np.abs(fe - w),
            np.minimum(fe, w),
            np.maximum(fe, w),
            np.abs(fe - w),
            fe,
            [2, -0.75 * np.log(0.75) - 0.25 * np.log(0.25)],
        ]
    )
    np.testing.assert_allclose(descriptors(inputs)[0], expected, rtol=1e-12)


def test_mode_of_equally_abundant_elements_is_their_mean() -> None:
    inputs = Inputs(pad([{"Fe": 0.5, "W": 0.5}], VOCABULARY), TABLE)
    mode = descriptors(inputs)[0, 6 + 15 : 6 + 18]
    np.testing.assert_allclose(mode, (PROPERTIES[2].astype(float) + PROPERTIES[5]) / 2)


def test_order_of_elements_and_padding_do_not_matter() -> None:
    inputs = some_inputs(30)
    given = inputs.compositions
    rng = np.random.default_rng(2)
    elements = np.pad(given.elements, ((0, 0), (0, 7)))
    fractions = np.pad(given.fractions, ((0, 0), (0, 7)))
    order = np.argsort(rng.random(elements.shape), axis=1)
    shuffled = Compositions(
        given.vocabulary,
        np.take_along_axis(elements, order, axis=1),
        np.take_along_axis(fractions, order, axis=1),
    )
    assert np.array_equal(descriptors(inputs), descriptors(Inputs(shuffled, TABLE)))


@pytest.mark.parametrize("kind", ["extra_trees", "random_forest"])
def test_trees_beat_the_mean_on_a_nonlinear_function(kind: str) -> None:
    test = some_inputs(60, seed=9)
    truth = nonlinear(test)
    errors = [rms(fitted(k, nonlinear).predict(test).mean - truth) for k in (kind, "mean")]
    assert errors[0] < 0.5 * errors[1]


def test_ridge_recovers_a_linear_function() -> None:
    test = some_inputs(60, seed=9)
    prediction = fitted("ridge").predict(test)
    assert rms((prediction.mean - linear(test)) / linear(test).std(axis=0)) < 0.02
    assert not prediction.std_epistemic.any()


def test_ridge_learns_ternaries_from_binaries() -> None:
    """With interactions of pairs alone, third elements are predicted from pairs."""

    def pairwise(inputs: Inputs) -> Floats:
        x = inputs.compositions.dense().astype(np.float64)
        return np.column_stack([x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3], x[:, 0] * x[:, 4]])

    inputs = some_inputs(400)
    size = (inputs.compositions.fractions > 0).sum(axis=1)
    two, three = (inputs.take(np.flatnonzero(size == k)) for k in (2, 3))
    parts = [two.take(np.arange(150)), two.take(np.arange(150, 200))]
    labelled = [Labelled(part, pairwise(part)) for part in parts]
    model = fit_baseline("ridge", Part(*labelled, {}), settings=FEW, seed=0, threads=1)
    truth = pairwise(three)
    assert rms(model.predict(three).mean - truth) < 0.3 * rms(truth - truth.mean(axis=0))


def test_mean_is_that_of_train_and_validation_rows() -> None:
    rows = np.vstack([linear(some_inputs(160)), linear(some_inputs(32, seed=1))])
    prediction = fitted("mean").predict(some_inputs(4, seed=9))
    np.testing.assert_allclose(prediction.mean, np.tile(rows.mean(axis=0), (4, 1)))
    np.testing.assert_allclose(prediction.std_aleatoric, np.tile(rows.std(axis=0), (4, 1)))
    assert not prediction.std_epistemic.any()


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_on_any_number_of_threads(kind: str) -> None:
    test = some_inputs(25, seed=9)
    one, two = (fitted(kind, nonlinear, threads=n).predict(test) for n in (1, 2))
    for name in ("mean", "std_aleatoric", "std_epistemic"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_of_a_row_does_not_depend_on_its_batch(kind: str) -> None:
    model, test = fitted(kind, nonlinear), some_inputs(25, seed=9)
    together = model.predict(test)
    for row in (0, 13, 24):
        alone = model.predict(test.take(np.array([row])))
        for name in ("mean", "std_aleatoric", "std_epistemic"):
            assert getattr(alone, name)[0].tobytes() == getattr(together, name)[row].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 12])
def test_one_property_few_rows_and_other_padding(kind: str, n: int) -> None:
    model = fitted(kind, lambda inputs: linear(inputs)[:, :1], n=n)
    prediction = model.predict(some_inputs(1, seed=9))
    for values in (prediction.mean, prediction.std_aleatoric, prediction.std_epistemic):
        assert values.shape == (1, 1)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_constant_property(kind: str) -> None:
    def function(inputs: Inputs) -> Floats:
        return np.column_stack([linear(inputs)[:, 0], np.full(len(inputs), 0.1)])

    prediction = fitted(kind, function).predict(some_inputs(5, seed=9))
    np.testing.assert_allclose(prediction.mean[:, 1], 0.1, atol=1e-9)
    assert (prediction.std_aleatoric > 0).all()
    assert np.isfinite(prediction.std_epistemic).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_of_a_property_is_nothing_to_a_baseline(kind: str) -> None:
    train, validation = some_inputs(60), some_inputs(20, seed=1)
    given = [
        [Labelled(part, nonlinear(part) * unit) for part in (train, validation)]
        for unit in (1.0, JOULE)
    ]
    settings: dict[str, Any] = {"settings": BaselinesConfig(trees=10), "seed": 0, "threads": 1}
    expected, found = (
        fit_baseline(kind, Part(*parts, {}), **settings).predict(some_inputs(10, seed=2))
        for parts in given
    )
    for name in ("mean", "std_aleatoric", "std_epistemic"):
        np.testing.assert_allclose(getattr(found, name) / JOULE, getattr(expected, name), rtol=1e-6)


def test_uncertainty_of_trees_is_about_the_error() -> None:
    def noisy(inputs: Inputs) -> Floats:
        rng = np.random.default_rng(len(inputs))
        return nonlinear(inputs) + rng.normal(0, 1.0, (len(inputs), 2))

    test = some_inputs(300, seed=9)
    prediction = fitted("extra_trees", noisy, n=600).predict(test)
    std = np.hypot(prediction.std_aleatoric, prediction.std_epistemic)
    covered = np.abs(noisy(test) - prediction.mean) < 1.645 * std
    assert 0.8 < covered.mean() < 0.97
    assert 0.8 < rms(std) / rms(noisy(test) - prediction.mean) < 1.2
    assert (prediction.std_aleatoric > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_json(kind: str) -> None:
    settings = fitted(kind).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["kind"] == kind
    assert settings["rows_fitted"] == 192
    if kind in ("extra_trees", "random_forest"):
        assert settings["n_estimators"] == 20
    if kind == "ridge":
        assert settings["alpha"] > 0


def test_the_configuration_names_every_baseline() -> None:
    modules = [module.name for module in pkgutil.iter_modules(baselines.__path__)]
    found = [n for n in modules if hasattr(import_module(f"hclmp.models.baselines.{n}"), "KIND")]
    assert sorted(found) == sorted(KINDS)
