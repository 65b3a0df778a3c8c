"""The weights of labels in a fit, from the noise of their measurement."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from hclmp.data.tables import COVERAGE, Z90, Floats

QUANTILES = ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)  # ends of a 90 % interval, and the median
MODEL_ERROR = 0.3  # of a good model on held-out systems, in standard deviations of the labels


def label_weights(labels: Floats, noise: Floats | None, scale: Floats) -> Floats:
    """The weight of each label in a loss: tau^2 / (tau^2 + noise^2).

    A residual is the sum of the model's own error, of standard deviation tau, and of the noise of
    the measurement. Least squares weighs it by the inverse of its variance, here relative to a
    label without noise. Weights of 1 / noise^2 would let a few precise labels dominate, although
    noise far below the model's error makes no difference. tau is ``MODEL_ERROR`` times ``scale``;
    a label of noise tau has weight 1/2.

    Args:
        labels: [n, L], NaN where missing.
        noise: [n, L], standard deviations in the unit of the labels, NaN where unknown; or None.
        scale: [L], the standard deviation of the training labels of each property (`Scaler.std`).

    Returns:
        [n, L]: 0 where a label is missing, 1 where its noise is unknown, else in (0, 1].
    """
    present = ~np.isnan(labels)
    if noise is None:
        return present.astype(np.float64)
    tau = MODEL_ERROR * scale
    # hypot, because the square of a huge noise would overflow
    weights = (tau / np.hypot(tau, np.nan_to_num(noise, nan=0.0))) ** 2
    return np.where(present, weights, 0.0)


def effective_rows(weights: Floats) -> Floats:
    """Kish's effective number of rows of weights [n, L], of which each column has some: [L]."""
    counted: Floats = weights.sum(axis=0) ** 2 / np.square(weights).sum(axis=0)
    return counted


def few_rows_factor(weights: Floats) -> Floats:
    """Factor that enlarges a variance measured on few rows, of weights [n, L]: [L].

    If a variance is estimated from n residuals, 90 % of further ones lie in the interval of
    Student's distribution with n degrees of freedom, not in that of the Gaussian. The factor is
    1.005 for 400 rows, 1.2 for 10, 2 for 3.
    """
    ends = t.ppf((1 + COVERAGE) / 2, effective_rows(weights)) / Z90
    return np.square(np.asarray(ends, dtype=np.float64))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the rows that are not NaN, whose weight is 0: [n, L] -> [L]."""
    out: Floats = (np.nan_to_num(values) * weights).sum(axis=0) / weights.sum(axis=0)
    return out


def weighted_quantiles(values: Floats, weights: Floats | None, at: Sequence[float]) -> Floats:
    """Quantiles of n rows with weights [n] (None: all equal): [n, L] -> [len(at), L].

    A value stands in the middle of its share of the total weight; between two it is interpolated.
    """
    if weights is None:
        weights = np.ones(len(values))
    order = np.argsort(values, axis=0, kind="stable")
    sorted_values, sorted_weights = np.take_along_axis(values, order, axis=0), weights[order]
    until = np.cumsum(sorted_weights, axis=0)
    middles = (until - sorted_weights / 2) / until[-1]
    columns = [np.interp(at, m, v) for m, v in zip(middles.T, sorted_values.T, strict=True)]
    return np.stack(columns, axis=1)
