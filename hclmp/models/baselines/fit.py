"""Fitting of a baseline, the choice of its settings, and its uncertainty.

None of the baselines is pickled: what is kept is ``Baseline.settings``, and the same rows and seed
give the same fit, byte for byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hclmp.config import CALIBRATION_TREES, BaselinesConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Z90, Floats
from hclmp.models.baselines.ends import Ends
from hclmp.models.baselines.interface import Estimate, Kind, Options, Regressor, Standardised
from hclmp.models.calibration import LEAST, calibrate_spread
from hclmp.models.interface import Part, Prediction
from hclmp.models.scaling import Scaler
from hclmp.models.weights import label_weights, weighted_quantiles

# Standardised labels are rounded to multiples of this, and weights to as many digits. Otherwise the
# rounding errors of another unit or offset of a label would choose between splits of a tree that
# are equally good, and so give other trees.
STEP = 2.0**-16


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline; ``fit_baseline`` makes one."""

    kind: str  # the name of its module
    seed: int
    rows: int
    _fits: "tuple[_Fit, ...]" = field(repr=False)  # of the properties, in their order

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions: the same bytes for a row in any batch, on any number of cores.

        The ``mean`` of the prediction is the regressor's median.
        """
        parts = [fit.predict(inputs) for fit in self._fits]
        median, aleatoric, epistemic, low, high = map(np.hstack, zip(*parts, strict=True))
        return Prediction(median, aleatoric, epistemic, ends=(low, high))

    def settings(self) -> dict[str, Any]:
        """What, with the training rows, determines this fit: JSON-able."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "rows": self.rows,
            "fits": [fit.settings() for fit in self._fits],
        }


def fit_baseline(
    kind: str, part: Part, *, settings: BaselinesConfig, seed: int, threads: int
) -> Baseline:
    """Fit a baseline on training and validation rows together.

    Fits to the training rows alone predict the validation rows: they choose its settings, by the
    absolute error, and measure its uncertainty. A table without missing labels is fitted as a
    whole, unless the kind fits each property by itself.

    The kind is named as its module. The result does not depend on the number of threads.
    """
    assert part.validation is not None
    of_kind: Kind = import_module(f"hclmp.models.baselines.{kind}").KIND
    properties = np.arange(part.train.t.shape[1])
    missing = any(np.isnan(rows.t).any() for rows in (part.train, part.validation))
    groups = properties[:, None] if of_kind.per_property or missing else properties[None]
    options = Options(settings.trees, seed, threads)
    fits = []
    for group in groups:
        train, validation = (_labelled(rows, group) for rows in (part.train, part.validation))
        fits.append(_Fit.of(of_kind, train, validation, options))
    return Baseline(kind, seed, len(part.train) + len(part.validation), tuple(fits))


def _labelled(rows: Labelled, properties: NDArray[np.int64]) -> Labelled:
    """The rows that have labels of these properties, with these labels alone."""
    kept = np.flatnonzero(~np.isnan(rows.t[:, properties]).any(axis=1))
    cells = np.ix_(kept, properties)
    noise = None if rows.noise is None else rows.noise[cells]
    limits = None if rows.limits is None else rows.limits[:, properties]
    return Labelled(rows.inputs.take(kept), rows.t[cells], noise, limits)


def _limits(rows: Labelled) -> Floats:
    """The limits of the properties, infinite where there is none: [2, L]."""
    none = np.repeat([[-np.inf], [np.inf]], rows.t.shape[1], axis=1)
    return none if rows.limits is None else rows.limits


@dataclass(frozen=True)
class _Scale:
    """The standardisation of the labels of some properties."""

    labels: Scaler

    def rows(self, rows: Labelled) -> Standardised:
        y = self._rounded(rows.t)
        known = rows.noise is not None and not np.isnan(rows.noise).all()
        # a row has one weight for all of its labels: their mean
        return Standardised(rows.inputs, y, self.weights(rows).mean(axis=1) if known else None)

    def weights(self, rows: Labelled) -> Floats:
        """The weights of the labels: [n, L]."""
        digits, power = np.frexp(label_weights(rows.t, rows.noise, self.labels.std))
        return np.asarray(np.ldexp(np.round(digits / STEP) * STEP, power), dtype=np.float64)

    def limits(self, rows: Labelled) -> Floats:
        """The limits of the properties, standardised and rounded like labels: [2, L]."""
        return self._rounded(_limits(rows))

    def _rounded(self, values: Floats) -> Floats:
        """Standardised values, as multiples of ``STEP``."""
        return np.asarray(np.round(self.labels.scale(values) / STEP) * STEP, dtype=np.float64)


@dataclass(frozen=True)
class _Fit:
    """A regressor of some properties, with its uncertainty in standardised labels."""

    scale: _Scale
    regressor: Regressor
    std_aleatoric: Floats  # [L], the scatter about a prediction, the same for all compositions
    std_scale: Floats  # [L], from the spread of the quantiles to an epistemic standard deviation
    ends: Ends
    limits: Floats  # [2, L], of the properties, in the space of the labels

    @classmethod
    def of(cls, kind: Kind, train: Labelled, validation: Labelled, options: Options) -> "_Fit":
        if not len(train):
            train, validation = validation, train
        everything = train.joined(validation)
        scale = _Scale(Scaler.fit(everything.t))
        judges = everything if kind.constant or not len(validation) else validation
        judged = scale.rows(judges)
        if len(validation):
            settings, predicted = _choose(kind, scale.rows(train), judged, options)
        else:
            settings = _found(kind, kind.grid[0], kind.fit(judged, _with(options, kind.grid[0])))
            # Nothing tells how large errors are: as large as the scatter of the labels.
            median = weighted_quantiles(judged.y, judged.weights, [0.5])
            predicted = Estimate(np.tile(median, (len(judges), 1)))
        spread = _spread(predicted) * (not kind.constant)
        weights = scale.weights(judges)
        aleatoric, factor = calibrate_spread(judged.y - predicted.median, spread, weights)
        aleatoric = np.maximum(aleatoric, LEAST)
        stds = np.hypot(aleatoric, factor * spread)
        ends = Ends.fit(predicted, judged.y, stds, weights, scale.limits(judges))
        regressor = kind.fit(scale.rows(everything), replace(options, settings=settings))
        factor = factor * (not kind.constant)
        return cls(scale, regressor, aleatoric, factor, ends, _limits(everything))

    def predict(self, inputs: Inputs) -> Sequence[Floats]:
        """Median, both standard deviations and both ends, in the space of the labels: [n, L]."""
        predicted, labels = self.regressor.predict(inputs), self.scale.labels
        median, ends = self.ends.limits.clip(predicted.median), self.ends.of(predicted)
        stds = np.tile(self.std_aleatoric, (len(inputs), 1)), _spread(predicted) * self.std_scale
        scaled = [std * labels.std for std in stds]
        median, low, high = map(self._unscaled, (median, *ends))
        return [median, *scaled, low, high]

    def _unscaled(self, values: Floats) -> Floats:
        """Values back in the space of the labels; limits as they are, which rounding had moved."""
        low, high = self.limits
        values = self.ends.limits.clip(values)
        t = np.where(values == self.ends.limits.low, low, self.scale.labels.unscale(values))
        return np.where(values == self.ends.limits.high, high, t).clip(low, high)

    def settings(self) -> dict[str, Any]:
        uncertainty = {"std_aleatoric": self.std_aleatoric, "std_scale": self.std_scale}
        uncertainty |= {"margin": self.ends.margin}
        return self.regressor.settings() | {k: v.tolist() for k, v in uncertainty.items()}


def _choose(
    kind: Kind, rows: Standardised, judged: Standardised, options: Options
) -> tuple[dict[str, Any], Estimate]:
    """The settings with the least absolute error on rows that judge, and what they predict there.

    All forests are small ones here; what a fit finds with these rows needs its full size.
    """
    options = replace(options, validation=judged)
    if not kind.found:
        options = replace(options, trees=min(options.trees, CALIBRATION_TREES))
    found = []
    for settings in kind.grid:
        fit = kind.fit(rows, _with(options, settings))
        predicted = fit.predict(judged.inputs)
        error = np.abs(judged.y - predicted.median).mean(axis=1)
        total = float(np.average(error, weights=judged.weights))
        found.append((total, _found(kind, settings, fit), predicted))
    _, chosen, predicted = min(found, key=lambda each: each[0])
    return chosen, predicted


def _with(options: Options, settings: Mapping[str, Any]) -> Options:
    return replace(options, settings=settings)


def _found(kind: Kind, settings: Mapping[str, Any], fit: Regressor) -> dict[str, Any]:
    """Settings together with what the fit found."""
    return {**settings, **{name: fit.settings()[name] for name in kind.found}}


def _spread(predicted: Estimate) -> Floats:
    """The standard deviation of a Gaussian with these quantiles, 0 where there are none: [n, L]."""
    if predicted.ends is None:
        return np.zeros_like(predicted.median)
    low, high = predicted.ends
    return (high - low) / (2 * Z90)
