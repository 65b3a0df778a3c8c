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
from hclmp.models.baselines import extra_trees
from hclmp.models.baselines.fit import Baseline, fit_baseline
from hclmp.models.baselines.interface import Options, Standardised
from hclmp.models.descriptors import descriptors
from hclmp.models.interface import Part
from hclmp.models.weights import weighted_quantiles

KINDS = [n for n in get_args(VariantConfig.model_fields["model"].annotation) if n != "hclmp"]
VOCABULARY = ("Co", "Cu", "Fe", "Mn", "Ti", "W")
PROPERTIES = np.random.default_rng(5).standard_normal((6, 3)).astype(np.float32)
TABLE = ElementTable({}, PROPERTIES)
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
    kind: str,
    function: Callable[[Inputs], Floats] = linear,
    n: int = 160,
    validation_rows: int | None = None,
    threads: int = 1,
) -> Baseline:
    train, validation = some_inputs(n), some_inputs(validation_rows or max(1, n // 5), seed=1)
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


@pytest.mark.parametrize("kind", ["boosting", "extra_trees", "random_forest"])
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
    """With interactions of pairs alone, ternaries need no more than what binaries taught.

    As in a run, the validation systems have as many elements as those that are predicted.
    """

    def pairwise(inputs: Inputs) -> Floats:
        x = inputs.compositions.dense().astype(np.float64)
        return np.column_stack([x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3], x[:, 0] * x[:, 4]])

    inputs = some_inputs(400)
    size = (inputs.compositions.fractions > 0).sum(axis=1)
    two, three = (inputs.take(np.flatnonzero(size == k)) for k in (2, 3))
    parts = [two, three.take(np.arange(50))]
    three = three.take(np.arange(50, len(three)))
    labelled = [Labelled(part, pairwise(part)) for part in parts]
    model = fit_baseline("ridge", Part(*labelled, {}), settings=FEW, seed=0, threads=1)
    truth = pairwise(three)
    assert rms(model.predict(three).mean - truth) < 0.3 * rms(truth - truth.mean(axis=0))


def test_mean_is_the_median_of_train_and_validation_rows() -> None:
    rows = np.vstack([nonlinear(some_inputs(160)), nonlinear(some_inputs(32, seed=1))])
    prediction = fitted("mean", nonlinear).predict(some_inputs(4, seed=9))
    np.testing.assert_allclose(prediction.mean, np.tile(np.median(rows, axis=0), (4, 1)), atol=1e-4)
    scatter = np.sqrt(((rows - np.median(rows, axis=0)) ** 2).mean(axis=0))
    np.testing.assert_allclose(prediction.std_aleatoric, np.tile(scatter, (4, 1)), rtol=0.02)
    assert not prediction.std_epistemic.any()


def skewed(inputs: Inputs) -> Floats:
    """A property whose scatter has a long tail: its median is 0 at all compositions, its mean 0.65.

    The scatter is drawn from the composition, so that the same one has the same label.
    """
    x = inputs.compositions.dense().astype(np.float64)
    draws = [np.random.default_rng(int(1e9 * row @ np.arange(1, 7))).normal() for row in x]
    return np.exp(np.array(draws)[:, None]) - 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_is_the_median(kind: str) -> None:
    test = some_inputs(200, seed=9)
    predicted = fitted(kind, skewed, n=300).predict(test).mean
    assert abs(predicted.mean()) < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_nine_labels_of_ten_and_are_longer_on_the_side_of_the_tail(
    kind: str,
) -> None:
    test = some_inputs(400, seed=9)
    prediction = fitted(kind, skewed, n=300, validation_rows=200).predict(test)
    low, high = prediction.interval()
    truth = skewed(test)
    assert 0.85 < ((low <= truth) & (truth <= high)).mean() < 0.97
    assert (low <= prediction.mean).all()
    assert (prediction.mean <= high).all()
    if kind in ("extra_trees", "random_forest", "mean"):  # they know quantiles
        assert (high - prediction.mean).mean() > 1.5 * (prediction.mean - low).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_and_intervals_keep_to_the_limits(kind: str) -> None:
    def above(inputs: Inputs) -> Floats:
        return np.maximum(linear(inputs), 0.0)

    limits = np.array([[0.0, 0.0], [2.5, np.inf]])
    train, validation = (
        Labelled(x, np.minimum(above(x), [2.5, np.inf]), limits=limits)
        for x in (some_inputs(160), some_inputs(60, seed=1))
    )
    model = fit_baseline(kind, Part(train, validation, {}), settings=FEW, seed=0, threads=1)
    prediction = model.predict(some_inputs(100, seed=9))
    for values in (prediction.mean, *prediction.interval()):
        assert (values >= limits[0]).all()
        assert (values <= limits[1]).all()


@pytest.mark.parametrize("unit", np.geomspace(1.0, 3.0, 20))
def test_a_label_at_a_limit_is_in_the_interval_that_ends_there(unit: float) -> None:
    """Labels are rounded when they are standardised, and a margin may be negative."""
    limits = np.array([[0.0], [np.inf]])
    x = some_inputs(60)
    y = unit * np.maximum(linear(x)[:, :1] - 1.0, 0.0)
    assert (y == 0).mean() > 0.2
    part = Part(Labelled(x, y, limits=limits), Labelled(x, y, limits=limits), {})
    prediction = fit_baseline("mean", part, settings=FEW, seed=0, threads=1).predict(x)
    low, _ = prediction.interval()
    assert (low == 0.0).all()


def test_the_validation_rows_choose_the_settings() -> None:
    """Leaves of two rows if neighbours differ by noise alone, of one if each label is true."""

    def noisy(inputs: Inputs) -> Floats:
        return nonlinear(inputs)[:, :1] + 10 * skewed(inputs)

    found = [
        fitted("extra_trees", function, n=300).settings()["fits"][0]["min_samples_leaf"]
        for function in (linear, noisy)
    ]
    assert found == [1, 2]


def test_boosting_stops_where_the_validation_rows_say() -> None:
    """Few iterations if there is nothing but noise to learn, many for a sharp function."""
    found = [
        max(f["iterations"] for f in fitted("boosting", function, n=300).settings()["fits"])
        for function in (skewed, nonlinear)
    ]
    assert found[0] < found[1] <= 3 * FEW.trees


def test_rows_that_share_leaves_answer_with_their_weights() -> None:
    """A forest of one leaf: the weighted quantiles of all labels."""
    inputs, weights = some_inputs(9), np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 30])
    same = inputs.take(np.zeros(9, dtype=np.int64))
    y = np.arange(9.0)[:, None]
    settings = {"with_range": True, "min_samples_leaf": 1}
    forest = extra_trees.KIND.fit(Standardised(same, y, weights), Options(3, 0, 1, settings))
    predicted = forest.predict(same.take(np.arange(2)))
    expected = weighted_quantiles(y, weights, [0.05, 0.5, 0.95])
    assert predicted.ends is not None
    for found, value in zip(
        (predicted.ends[0], predicted.median, predicted.ends[1]), expected, strict=True
    ):
        np.testing.assert_allclose(found, [value, value])
    assert expected[1] > 7


def test_weighted_quantiles_by_hand() -> None:
    values = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 5.0]])
    equal = weighted_quantiles(values, None, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(equal, [[1, 1], [2, 1], [3, 5]])
    # the middles of the shares: of 1 at 1/8, of 2 at 1/2, of 3 at 7/8
    weighted = weighted_quantiles(values[:, :1], np.array([1.0, 1.0, 2.0]), [0.125, 0.3125, 0.5])
    np.testing.assert_allclose(weighted, [[1.0], [1.5], [2.0]])


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


UNITS: dict[str, Callable[[Floats], Floats]] = {
    "joule": lambda y: y * 1.602176634e-19,
    "a billionth": lambda y: y * 1e-9,
    "an offset": lambda y: y + 1e3 * np.ptp(y, axis=0),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_unit_and_offset_of_a_property_are_nothing_to_a_baseline(kind: str, unit: str) -> None:
    """Labels with ties, from which rounding errors could choose other splits of a tree."""
    parts = [some_inputs(90), some_inputs(30, seed=1)]
    labels = [np.round(nonlinear(part), 1) for part in parts]
    other = np.split(UNITS[unit](np.vstack(labels)), [90])
    settings: dict[str, Any] = {"settings": BaselinesConfig(trees=10), "seed": 0, "threads": 1}
    expected, found = (
        fit_baseline(
            kind, Part(*(Labelled(*pair) for pair in zip(parts, y, strict=True)), {}), **settings
        ).predict(some_inputs(40, seed=2))
        for y in (labels, other)
    )
    scatter = np.vstack(labels).std(axis=0)
    factor = np.vstack(other).std(axis=0) / scatter
    shift = np.vstack(other).mean(axis=0) - factor * np.vstack(labels).mean(axis=0)
    values = zip(
        (found.mean, *found.interval()), (expected.mean, *expected.interval()), strict=True
    )
    for value, as_given in values:
        back = (value - shift) / factor
        np.testing.assert_allclose(back / scatter, as_given / scatter, atol=1e-6)
    for name in ("std_aleatoric", "std_epistemic"):
        np.testing.assert_allclose(
            getattr(found, name) / factor, getattr(expected, name), rtol=1e-6
        )


def test_uncertainty_of_trees_is_about_the_error() -> None:
    def noisy(inputs: Inputs) -> Floats:
        rng = np.random.default_rng(len(inputs))
        return nonlinear(inputs) + rng.normal(0, 1.0, (len(inputs), 2))

    test = some_inputs(300, seed=9)
    prediction = fitted("extra_trees", noisy, n=600).predict(test)
    std = np.hypot(prediction.std_aleatoric, prediction.std_epistemic)
    low, high = prediction.interval()
    for ends in ((low, high), (prediction.mean - 1.645 * std, prediction.mean + 1.645 * std)):
        assert 0.8 < ((ends[0] < noisy(test)) & (noisy(test) < ends[1])).mean() < 0.97
    assert 0.8 < rms(std) / rms(noisy(test) - prediction.mean) < 1.2
    assert (prediction.std_aleatoric > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_json(kind: str) -> None:
    settings = fitted(kind).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["kind"] == kind
    assert settings["rows"] == 192
    if kind in ("extra_trees", "random_forest"):
        assert settings["fits"][0]["n_estimators"] == 20
    if kind == "ridge":
        assert all(alpha > 0 for alpha in settings["fits"][0]["alpha"])


def test_the_configuration_names_every_baseline() -> None:
    modules = [module.name for module in pkgutil.iter_modules(baselines.__path__)]
    found = [n for n in modules if hasattr(import_module(f"hclmp.models.baselines.{n}"), "KIND")]
    assert sorted(found) == sorted(KINDS)
