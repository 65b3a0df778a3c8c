"""How much each label counts in a fit, by the noise of its measurement."""

import numpy as np
from scipy.stats import norm, t

from hclmp.data.tables import Floats

UPPER = 0.95  # quantile: the upper end of a central 90 % interval
MODEL_ERROR = 0.3  # of a good model on held-out systems, in standard deviations of the labels


def label_weights(labels: Floats, noise: Floats | None, scale: Floats) -> Floats:
    """The weight of each label in a loss: tau^2 / (tau^2 + noise^2).

    A residual is the sum of what the model cannot know, of standard deviation tau, and of the
    measurement's noise; least squares weighs it by the inverse of its variance, here relative to a
    label without noise. 1 / noise^2 alone would be wrong: below the model's own error a smaller
    noise tells no more, and a few precise labels would rule the fit. tau is ``MODEL_ERROR`` times
    ``scale``; a label as noisy as that counts half.

    Args:
        labels: [n, L], NaN where missing.
        noise: [n, L], standard deviations in the unit of the labels, NaN where unknown; None where
            none is known.
        scale: [L], positive: the standard deviation of the training labels of each property, in
            the same unit (`Scaler.std`).

    Returns:
        [n, L]: 0 where a label is missing, 1 where its noise is unknown, else in (0, 1].
    """
    present = ~np.isnan(labels)
    if noise is None:
        return present.astype(np.float64)
    tau = MODEL_ERROR * scale
    # hypot: the square of an absurd noise would overflow
    weights = (tau / np.hypot(tau, np.nan_to_num(noise, nan=0.0))) ** 2
    return np.where(present, weights, 0.0)


def rows_counted(weights: Floats) -> Floats:
    """How many rows of weight 1 know as much as these of [n, L] (Kish's effective size): [L].

    Each property has a row of some weight.
    """
    counted: Floats = weights.sum(axis=0) ** 2 / np.square(weights).sum(axis=0)
    return counted


def few_rows(weights: Floats) -> Floats:
    """What to multiply a variance by that was measured on rows of weights [n, L]: [L].

    Of a variance known from n residuals, 90 % of further ones lie in the interval of Student's
    distribution with n degrees of freedom, not in the Gaussian's. 1.005 of 400 rows, 1.2 of 10,
    2 of 3.
    """
    ends = t.ppf(UPPER, rows_counted(weights)) / norm.ppf(UPPER)
    return np.square(np.asarray(ends, dtype=np.float64))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the rows that are not NaN, whose weight is 0: [n, L] -> [L]."""
    out: Floats = (np.nan_to_num(values) * weights).sum(axis=0) / weights.sum(axis=0)
    return out
