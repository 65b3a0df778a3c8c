"""What a baseline with `transfer` sees of the DOS feature, and that it learns from it."""

from dataclasses import replace

import numpy as np
import pytest

from hclmp.config import BaselinesConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.baselines.columns import Columns
from hclmp.models.baselines.fit import fit_baseline
from hclmp.models.descriptors import descriptors
from hclmp.models.interface import Part
from tests.made_up import synthetic


def with_dos(inputs: Inputs, seed: int = 4) -> Inputs:
    """The same compositions with a feature of 9 energies that says what no fraction says."""
    rng = np.random.default_rng(seed)
    peak = rng.uniform(-1, 1, len(inputs))
    dos = np.exp(-((np.linspace(-1, 1, 9) - peak[:, None]) ** 2) / 0.3)
    return replace(inputs, dos=dos.astype(np.float32))


def of_dos(inputs: Inputs) -> Floats:
    """A label that hangs on the feature alone: the place of its peak."""
    assert inputs.dos is not None
    return np.linspace(-1, 1, 9)[inputs.dos.argmax(axis=1)][:, None]


@pytest.mark.parametrize("kind", ["boosting", "extra_trees", "random_forest", "ridge"])
def test_a_baseline_with_the_dos_feature_learns_from_it(kind: str) -> None:
    parts = [with_dos(synthetic.inputs(n, seed=n), seed=n) for n in (160, 40, 60)]
    blind = [replace(part, dos=None) for part in parts]
    errors = []
    for given in (parts, blind):
        rows = [Labelled(x, of_dos(full)) for x, full in zip(given, parts, strict=True)]
        model = fit_baseline(
            kind, Part(*rows[:2], {}), settings=BaselinesConfig(trees=20), seed=0, threads=1
        )
        prediction = model.predict(given[2])
        errors.append(np.abs(prediction.mean - rows[2].t).mean())
        alone = model.predict(given[2].take(np.array([13])))
        assert alone.mean[0].tobytes() == prediction.mean[13].tobytes()
    assert errors[0] < 0.5 * errors[1]


def test_columns_of_the_dos_feature_by_hand() -> None:
    inputs = with_dos(synthetic.inputs(30))
    columns = Columns.fit(inputs)
    assert inputs.dos is not None
    dos = inputs.dos.astype(np.float64)
    of_dos = columns.of(inputs)[:, descriptors(inputs).shape[1] :]
    assert of_dos.shape == (30, 4 + 9 + 1 + 3)  # moments, components, deviation, quantiles
    x = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(of_dos[:, 0], dos.mean(axis=1))
    np.testing.assert_allclose(of_dos[:, 1], (dos * x).mean(axis=1))
    np.testing.assert_allclose(of_dos[:, 2], (dos * (1.5 * x**2 - 0.5)).mean(axis=1))
    np.testing.assert_allclose(of_dos[:, 13], dos.std(axis=1))
    np.testing.assert_allclose(of_dos[:, 15], np.median(dos, axis=1))
    variances = of_dos[:, 4:13].var(axis=0)
    assert (np.diff(variances) <= 1e-12).all()
    np.testing.assert_allclose(variances.sum(), dos.var(axis=0).sum())


def test_the_components_are_those_of_the_training_rows() -> None:
    inputs, others = with_dos(synthetic.inputs(30)), with_dos(synthetic.inputs(20, seed=8), seed=9)
    columns = Columns.fit(inputs)
    together = columns.of(inputs.joined(others))
    assert together[:30].tobytes() == columns.of(inputs).tobytes()
    assert together[30:].tobytes() == columns.of(others).tobytes()
    assert not np.allclose(Columns.fit(others).of(others), together[30:])
