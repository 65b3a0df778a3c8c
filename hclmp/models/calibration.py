"""Uncertainty from residuals on the validation systems."""

import numpy as np

from hclmp.models.interface import Floats

LEAST = 1e-6  # of the spread of the labels: likelihoods stay finite


def aleatoric_std(residuals: Floats, epistemic: Floats, *, spread: Floats) -> Floats:
    """The scatter per property that disagreement does not explain: [L].

    The mean square residual on validation rows is the whole variance; the mean epistemic variance
    is taken off. Where disagreement alone exceeds the residuals, a tenth of them is kept, so that
    no interval closes entirely.

    Args:
        residuals: [n, L] on validation rows, NaN where the label is missing.
        epistemic: [n, L] standard deviations there.
        spread: [L], of the training labels: what holds where no validation row has a label.
    """
    present = ~np.isnan(residuals)
    count = present.sum(axis=0)
    squares = np.where(present, np.square(residuals), 0.0).sum(axis=0)
    explained = np.where(present, np.square(epistemic), 0.0).sum(axis=0)
    total = np.where(count > 0, squares / np.maximum(count, 1), np.square(spread))
    rest = total - explained / np.maximum(count, 1)
    std: Floats = np.maximum(np.sqrt(np.maximum(rest, 0.01 * total)), LEAST * spread)
    return std
