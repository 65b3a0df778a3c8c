"""The 95 % interval of the ratio of two models' errors, over held-out systems.

The samples of a system are alike, so the number of systems counts, not that of samples. The
standard error of the logarithm of the ratio is that of the jackknife, which leaves out one system
at a time (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 11). A percentile
bootstrap of few systems is too narrow: docs/method.md has a simulation of both.
"""

import numpy as np
from scipy.stats import t as student

from hclmp.data.tables import Floats

LEVEL = 0.95
FEWEST_SYSTEMS = 8  # of fewer there is no interval


def ratio_interval(own: Floats, other: Floats, counts: Floats) -> tuple[float, float]:
    """Both ends of the interval of the ratio of two mean errors; NaN where there is none.

    A mean error is the mean over the properties that have labels of (sum of the errors / number of
    labels). The interval is that of Student's t for the logarithm of the ratio. Its degrees of
    freedom are `effective_number` - 1: a few large systems count like few systems. There is no
    interval of fewer than `FEWEST_SYSTEMS` systems, and none if an error is zero.

    Args:
        own, other: [S, L] sums of the errors of S systems and L properties, of the same samples.
        counts: [S, L] numbers of labels.
    """
    none = (float("nan"), float("nan"))
    systems = len(counts)
    if systems < FEWEST_SYSTEMS:
        return none
    with np.errstate(divide="ignore", invalid="ignore"):  # the logarithm of zero
        log_ratio = np.log(_mean(own.sum(axis=0), counts.sum(axis=0)))
        log_ratio -= np.log(_mean(other.sum(axis=0), counts.sum(axis=0)))
        without = np.log(_mean(own.sum(axis=0) - own, counts.sum(axis=0) - counts))
        without -= np.log(_mean(other.sum(axis=0) - other, counts.sum(axis=0) - counts))
        error = np.sqrt((systems - 1) / systems * np.sum((without - without.mean()) ** 2))
        freedom = max(1.0, effective_number(counts) - 1)
        half = student.ppf((1 + LEVEL) / 2, freedom) * error
        low, high = np.exp(log_ratio - half), np.exp(log_ratio + half)
    return (float(low), float(high)) if np.isfinite([low, high]).all() else none


def effective_number(counts: Floats) -> float:
    """How many systems of equal size count as much: (sum of w)² / sum of w² (Kish 1965).

    w is the share of the labels that a system has, from the numbers of labels [S, L], averaged over
    the properties.
    """
    labels = counts.sum(axis=0)
    known = labels > 0
    shares = (counts[:, known] / labels[known]).mean(axis=1)
    return float(shares.sum() ** 2 / np.sum(shares**2))


def too_few(systems: int) -> str:
    """Why there is no interval of so many held-out systems."""
    held_out = "system is" if systems == 1 else "systems are"
    return (
        f"{systems} held-out {held_out} too few to say which model is better: "
        f"{FEWEST_SYSTEMS} or more have a 95 % interval"
    )


def _mean(sums: Floats, counts: Floats) -> Floats:
    """The mean over the properties that have labels of sum / number: [...] of [..., L]."""
    known = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=known)
    mean: Floats = means.sum(axis=-1) / known.sum(axis=-1)
    return mean
