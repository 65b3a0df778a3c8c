"""How much each label counts in a fit, by the noise of its measurement."""

import numpy as np

from hclmp.models.interface import Floats

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
