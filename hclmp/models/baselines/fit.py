"""Fitting of a baseline, and its uncertainty.

Baselines see the composition alone, never the DOS feature. None of them is pickled: what is kept
is ``Baseline.settings``, and the same rows and seed give the same fit, byte for byte.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from hclmp.config import CALIBRATION_TREES, BaselinesConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.baselines.interface import Kind, Options, Regressor
from hclmp.models.calibration import LEAST, calibrate_spread
from hclmp.models.interface import Part, Prediction
from hclmp.models.scaling import Scaler
from hclmp.models.weights import label_weights, weighted_mean


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline; ``fit_baseline`` makes one."""

    kind: str  # the name of its module
    seed: int
    rows: int
    std_aleatoric: Floats  # [L], the scatter about a prediction, the same for all compositions
    std_scale: Floats  # [L], from the spread over trees to an epistemic standard deviation
    _fit: "_Fit" = field(repr=False)

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions: the same bytes for a row in any batch, on any number of cores."""
        mean, spread = self._fit.predict(inputs)
        aleatoric = np.tile(self.std_aleatoric, (len(inputs), 1))
        return Prediction(mean, aleatoric, spread * self.std_scale)

    def settings(self) -> dict[str, Any]:
        """What, with the training rows, determines this fit: JSON-able."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "rows_fitted": self.rows,
            "std_aleatoric": self.std_aleatoric.tolist(),
            "std_scale": self.std_scale.tolist(),
            **self._fit.regressor.settings(),
        }


def fit_baseline(
    kind: str, part: Part, *, settings: BaselinesConfig, seed: int, threads: int
) -> Baseline:
    """Fit a baseline on training and validation rows together.

    A baseline stops at no epoch that validation would have to choose, so it may use every row that
    is not held out. Its uncertainty comes from a fit to the training rows alone, which predicts the
    validation rows.

    The kind is named as its module. The seed is that of the trees and of the folds that choose
    ridge's penalty. The result does not depend on the number of threads.
    """
    of_kind: Kind = import_module(f"hclmp.models.baselines.{kind}").KIND
    fewer = min(settings.trees, CALIBRATION_TREES)
    with_range, aleatoric, scale = _calibrated(of_kind, part, fewer, seed, threads)
    everything = part.with_validation().train
    fit = _Fit.of(of_kind, everything, Options(settings.trees, with_range, seed, threads))
    if of_kind.constant:
        aleatoric = np.nanstd(everything.t, axis=0)
    aleatoric = np.maximum(aleatoric, LEAST * fit.labels.std)
    return Baseline(kind, seed, len(everything), aleatoric, scale, fit)


def _calibrated(
    kind: Kind, part: Part, trees: int, seed: int, threads: int
) -> tuple[bool, Floats, Floats]:
    """Fit to training rows alone: whether the range helps; aleatoric std and scale, [L] each."""
    assert part.validation is not None
    found = []
    for with_range in kind.ranges:
        fit = _Fit.of(kind, part.train, Options(trees, with_range, seed, threads))
        mean, spread = fit.predict(part.validation.inputs)
        residuals = part.validation.t - mean
        # A property without validation labels gets the uncertainty of the training mean.
        unmeasured = np.isnan(residuals).all(axis=0)
        residuals = np.where(unmeasured, fit.labels.std, residuals)
        weights = label_weights(residuals, part.validation.noise, fit.labels.std)
        error = float(weighted_mean(np.abs(residuals) / fit.labels.std, weights).mean())
        found.append((error, with_range, *calibrate_spread(residuals, spread, weights)))
    _, best, aleatoric, scale = min(found, key=lambda each: each[0])
    return best, aleatoric, scale


@dataclass(frozen=True)
class _Fit:
    """A regressor with the standardisation of the labels of the rows it was fitted on."""

    labels: Scaler
    regressor: Regressor

    @classmethod
    def of(cls, kind: Kind, rows: Labelled, options: Options) -> "_Fit":
        labels = Scaler.fit(rows.t)
        y, weights = labels.scale(rows.t), _weights(rows, labels)
        if kind.constant:
            return cls(labels, kind.fit(rows.inputs, y, weights, options))
        if np.isnan(y).any():
            return cls(labels, _PerProperty(kind, rows.inputs, y, weights, options))
        # a row has one weight for all of its labels: their mean
        of_rows = None if weights is None else weights.mean(axis=1)
        return cls(labels, kind.fit(rows.inputs, y, of_rows, options))

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Prediction and spread in the space of the labels, both [n, L]."""
        mean, spread = self.regressor.predict(inputs)
        return self.labels.unscale(mean), spread * self.labels.std


class _PerProperty:
    """One regressor per property, each fitted to the rows that have a label of it."""

    def __init__(
        self, kind: Kind, inputs: Inputs, y: Floats, weights: Floats | None, options: Options
    ) -> None:
        self._parts = []
        for i, column in enumerate(y.T):
            rows = np.flatnonzero(~np.isnan(column))
            of_rows = None if weights is None else weights[rows, i]
            self._parts.append(kind.fit(inputs.take(rows), y[rows, i : i + 1], of_rows, options))

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        means, spreads = zip(*(part.predict(inputs) for part in self._parts), strict=True)
        return np.hstack(means), np.hstack(spreads)

    def settings(self) -> dict[str, Any]:
        return {"per_property": [part.settings() for part in self._parts]}


def _weights(rows: Labelled, labels: Scaler) -> Floats | None:
    """The weights of the labels, [n, L]; None where no noise is known, and all count the same."""
    if rows.noise is None or np.isnan(rows.noise).all():
        return None
    return label_weights(rows.t, rows.noise, labels.std)
