"""Intervals: what is new in a composition, limits of a property, and measured widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.composition import Compositions, pad
from hclmp.data.tables import Floats
from hclmp.models.intervals import KINDS, NEW_ELEMENT, Intervals, kinds_of
from hclmp.models.limits import Limits
from hclmp.models.novelty import Seen
from tests.made_up.synthetic import fit_one, labelled

SMALL = ModelConfig(message_hidden=16, latent=8, property_size=16, token_size=16)
VOCABULARY = ("Co", "Cu", "Fe", "Ti", "W")


def compositions(*fractions: dict[str, float]) -> Compositions:
    return pad(fractions, VOCABULARY)


SHOWN = compositions({"Co": 0.5, "Fe": 0.5}, {"Fe": 0.2, "Ti": 0.8}, {"Cu": 1.0})


def test_novelty_by_hand() -> None:
    asked = compositions(
        {"Co": 0.1, "Fe": 0.9},
        {"Co": 0.5, "Ti": 0.5},  # both known, never together
        {"Fe": 0.5, "Co": 0.25, "Ti": 0.25},  # of the pairs only Co-Ti is new
        {"W": 0.25, "Cu": 0.75},
        {"Cu": 1.0},
    )
    pairs = 2 * 0.25 * 0.25 / (1 - 0.5**2 - 2 * 0.25**2)
    expected = [[0, 0], [0, 1], [0, pairs], [0.25, 0], [0, 0]]
    np.testing.assert_allclose(Seen.of(SHOWN).novelty(asked), expected, rtol=1e-6)


def test_novelty_of_a_row_depends_on_nothing_else() -> None:
    rng = np.random.default_rng(0)
    rows = [
        dict(zip(rng.permutation(VOCABULARY)[:3].tolist(), rng.dirichlet(np.ones(3)), strict=True))
        for _ in range(50)
    ]
    asked, seen = compositions(*rows), Seen.of(SHOWN)
    whole = seen.novelty(asked)
    alone = np.concatenate([seen.novelty(asked.take(np.array([i]))) for i in range(50)])
    assert whole.tobytes() == alone.tobytes()
    turned = Compositions(VOCABULARY, asked.elements[:, ::-1], asked.fractions[:, ::-1])
    assert seen.novelty(turned).tobytes() == whole.tobytes()


def test_kinds_are_numbers_of_elements_or_a_new_element() -> None:
    novelty = np.array([[0.0, 0.0], [0.0, 1.0], [0.1, 0.0], [0.0, 0.0]])
    assert kinds_of(np.array([1, 3, 2, 9]), novelty).tolist() == [1, 3, NEW_ELEMENT, 5]


LIMITS = Limits(
    low=np.array([0.0, 0.0, -np.inf, -np.inf]),
    high=np.array([np.inf, 1.0, 1.0, np.inf]),
    softness=np.array([0.3, 0.125, 0.2, 0.3]),
)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 20))
def test_the_scale_of_limits_goes_both_ways(value: float, far: float) -> None:
    t = np.full((1, 4), value)
    np.testing.assert_allclose(LIMITS.unwarp(LIMITS.warp(t)), t, atol=1e-9)
    beyond = LIMITS.unwarp(np.array([[-far] * 4, [1 + far] * 4]))
    assert (beyond >= LIMITS.low).all()
    assert (beyond <= LIMITS.high).all()


def test_far_from_limits_nothing_changes() -> None:
    t = np.array([[30.0, 0.5, -30.0, 7.0]])
    found = LIMITS.warp(t)
    np.testing.assert_allclose(found, t, atol=5e-3)
    assert found[0, 3] == 7.0
    assert (
        np.diff(LIMITS.unwarp(np.linspace(-9, 9, 9999)[:, None] * np.ones(4)), axis=0) >= 0
    ).all()


def interval_of(residuals: Floats, kinds: list[int] | None = None, **more: Floats) -> Intervals:
    zero = np.zeros_like(residuals)
    of = np.full(len(residuals), 3) if kinds is None else np.array(kinds)
    limits = more.get("limits")
    at = more.get("predicted", zero)
    return Intervals.fit(at, residuals, zero + 1, of, weights=zero + 1, limits=limits)


def test_intervals_hold_nine_tenths_whatever_the_tails() -> None:
    rng = np.random.default_rng(0)
    for draw in (rng.standard_normal, lambda size: rng.standard_t(2, size=size)):
        fitted = interval_of(draw((4000, 2)))
        test = draw((20_000, 2))
        low, high = fitted.ends(np.zeros_like(test), np.ones_like(test), np.full(20_000, 3))
        assert ((low <= test) & (test <= high)).mean() == pytest.approx(0.9, abs=0.01)


def test_each_kind_has_its_width_and_unknown_kinds_the_widest() -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat([2, 3, NEW_ELEMENT], 2000)
    size = np.repeat([1.0, 2.0, 4.0], 2000)[:, None]
    fitted = interval_of(size * rng.standard_normal((6000, 1)), kinds.tolist())
    ratio = fitted.by_kind / fitted.by_kind[2]
    assert ratio[3] == pytest.approx(2, rel=0.1)
    assert ratio[NEW_ELEMENT] == pytest.approx(4, rel=0.1)
    assert len(ratio) == KINDS
    assert ratio[[1, 4, 5]].tolist() == [ratio[NEW_ELEMENT]] * 3


def test_missing_labels_count_for_nothing() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.standard_normal((500, 2))
    residuals[::2, 1] = np.nan
    fitted = interval_of(residuals)
    alone = interval_of(residuals[1::2, 1:])
    assert fitted.by_property[1] == pytest.approx(alone.by_property[0])


def test_intervals_at_a_limit_stay_within_and_hold_nine_tenths() -> None:
    """Most labels are near 0, which none can be below; some are 0 exactly."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[Floats, Floats]:
        truth = rng.exponential(0.3, size=(n, 1))
        truth[: n // 20] = 0.0
        return (truth + 0.2 * rng.standard_normal((n, 1))).clip(0), truth

    limits = np.array([[0.0], [np.inf]])
    predicted, truth = drawn(4000)
    fitted = interval_of(truth - predicted, predicted=predicted, limits=limits)
    predicted, truth = drawn(20_000)
    low, high = fitted.ends(predicted, np.ones_like(truth), np.full(len(truth), 3))
    assert low.min() >= 0
    assert (low <= predicted).all()
    assert (predicted <= high).all()
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.9, abs=0.012)


def test_a_model_predicts_within_limits_and_wider_for_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train, validation = labelled(80), labelled(30, seed=1)
    floor = float(np.quantile(np.concatenate([train.t, validation.t]), 0.3))
    limits = np.array([[floor] * train.t.shape[1], [np.inf] * train.t.shape[1]])
    parts = [replace(p, t=p.t.clip(floor), limits=limits) for p in (train, validation)]
    model, _ = fit_one(*parts, model=SMALL, training=TrainingConfig(epochs=3, members=2), key={})
    predicted = model.predict(validation.inputs)
    low, high = predicted.interval()
    for values in (low, predicted.mean, high):
        assert (values >= floor).all()
    assert (low <= predicted.mean).all()
    assert (predicted.mean <= high).all()
    assert model.seen is not None
    unseen = replace(model, seen=Seen(np.zeros_like(model.seen.pairs)))
    assert (unseen.predict(validation.inputs).std > predicted.std).all()
