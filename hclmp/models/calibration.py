"""Uncertainty from residuals on the validation systems."""

import numpy as np

from hclmp.models.interface import Floats


def aleatoric_std(residuals: Floats, epistemic: Floats, *, floor: Floats) -> Floats:
    """The scatter per property that disagreement does not explain: [L].

    The mean square residual on validation rows is the whole variance; the mean epistemic variance
    is taken off. Where disagreement alone exceeds the residuals, a tenth of them is kept, so that
    no interval closes entirely.

    Args:
        residuals: [n, L] on validation rows.
        epistemic: [n, L] standard deviations there.
        floor: [L], the least that is returned.
    """
    total = np.square(residuals).mean(axis=0)
    rest = total - np.square(epistemic).mean(axis=0)
    std: Floats = np.maximum(np.sqrt(np.maximum(rest, 0.01 * total)), floor)
    return std
