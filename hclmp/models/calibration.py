"""The size of the uncertainty, fitted to the residuals on the validation systems."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from hclmp.data.tables import Floats, correlation_of
from hclmp.models.weights import few_rows, rows_counted, weighted_mean

PRIOR_ROWS = 20  # validation rows that outweigh the correlation learned in training
EQUAL_ROWS = 10  # validation rows that outweigh that all predictions are equally uncertain
TINY = 1e-300  # a variance that is divided by
LEAST = 1e-6  # of the spread of the labels: likelihoods stay finite
# Shares of the squared error that the spread over trees may explain. Never all of it: where all
# trees agree, some error is still to be expected.
EPISTEMIC_SHARES = np.linspace(0.0, 0.95, 20)
SMALLEST_SHARE, LARGEST_SHARE = -9.0, 4.0  # of the mean squared residual, as logarithms


@dataclass(frozen=True)
class Calibration:
    """Variance of a prediction: constant + a * spread^2 + b * disagreement^2, per property.

    Attributes:
        constant: [L], the variance that is the same for all compositions.
        spread_weight: [L] a, of the spread of the labels that were recalled (aleatoric).
        disagreement_weight: [L] b, of the disagreement between the members (epistemic).
        typical: [L], root mean square of the aleatoric part over the validation rows.
        correlation: [L, L], of the residuals of different properties, each over its standard
            deviation.
    """

    constant: Floats
    spread_weight: Floats
    disagreement_weight: Floats
    typical: Floats
    correlation: Floats

    def covariance(self) -> Floats:
        """Aleatoric covariance of a typical composition: [L, L]."""
        return self.correlation * np.outer(self.typical, self.typical)

    def stds(self, spread: Floats, disagreement: Floats) -> tuple[Floats, Floats]:
        """Aleatoric and epistemic standard deviations: [n, L] each."""
        aleatoric = np.sqrt(self.constant + self.spread_weight * spread**2)
        return aleatoric, np.sqrt(self.disagreement_weight) * disagreement

    @classmethod
    def fit(
        cls,
        residuals: Floats,
        spread: Floats,
        disagreement: Floats,
        *,
        unmeasured: Floats,
        weights: Floats,
        learned: Floats,
    ) -> "Calibration":
        """The weights that make the residuals most likely, as Gaussian ones.

        Args:
            residuals: [n, L] on validation rows, NaN where the label is missing.
            spread, disagreement: [n, L] there; all 0 where a model has none.
            unmeasured: [L], the standard deviation of a property that no validation row has.
            weights: [n, L], how much each residual counts.
            learned: [L, L], a covariance whose correlation counts like ``PRIOR_ROWS`` more rows.
        """
        shares = np.zeros((3, residuals.shape[1]))
        for i in range(residuals.shape[1]):
            there = ~np.isnan(residuals[:, i])
            if not there.any():
                shares[0, i] = unmeasured[i] ** 2
                continue
            parts = np.stack(
                [np.ones(there.sum()), spread[there, i] ** 2, disagreement[there, i] ** 2]
            )
            shares[:, i] = _most_likely(residuals[there, i] ** 2, parts, weights[there, i])
        shares[0] = np.maximum(shares[0], (LEAST * unmeasured) ** 2)
        aleatoric = shares[0] + shares[1] * (spread**2).mean(axis=0)
        # Over its own standard deviation each: a row that is very uncertain must not outvote all.
        stds = np.sqrt(shares[0] + shares[1] * spread**2 + shares[2] * disagreement**2)
        correlation = _correlation(residuals / stds, weights.mean(axis=1), learned)
        return cls(shares[0], shares[1], shares[2], np.sqrt(aleatoric), correlation)


def of_spread(residuals: Floats, spread: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Of a baseline: aleatoric std and the factor on the spread over trees, both [L].

    The spread of fully grown trees often follows the error closely from row to row, but is that
    of one tree: wider than the error of their mean. It is therefore never widened, and shrunk to
    the share of the mean squared error that makes the residuals most likely (as Gaussian ones).
    The aleatoric variance is the rest of it, so that the two add up to the measured error, a
    little widened where few rows have shown it.
    """
    total = weighted_mean(residuals**2, weights) * few_rows(weights)
    epistemic = weighted_mean(spread**2, weights)
    if not epistemic.any():
        return np.sqrt(total), np.ones_like(total)
    total = np.maximum(total, TINY)
    relative = spread**2 / np.where(epistemic > 0, epistemic, 1.0)
    widest = epistemic / total
    shares = np.minimum(EPISTEMIC_SHARES[:, None], widest)  # [candidates, L]
    surprise = np.empty_like(shares)
    for i, share in enumerate(shares):
        variance = total * (1.0 - share + share * relative)
        surprise[i] = weighted_mean(np.log(variance) + residuals**2 / variance, weights)
    share = np.take_along_axis(shares, surprise.argmin(axis=0)[None], axis=0)[0]
    scale = np.sqrt(share * total / np.where(epistemic > 0, epistemic, 1.0))
    return np.sqrt((1.0 - share) * total), np.where(epistemic > 0, scale, 1.0)


def _correlation(residuals: Floats, weights: Floats, learned: Floats) -> Floats:
    """Correlation of residuals [n, L] in the rows that have all, and of what was learned."""
    whole = ~np.isnan(residuals).any(axis=1)
    complete = residuals[whole] * np.sqrt(weights[whole, None])
    size = np.sqrt(np.square(complete).mean(axis=0)) if len(complete) else np.ones(len(learned))
    scaled = complete / np.where(size > 0, size, 1.0)
    std = np.sqrt(np.diag(learned))
    both = scaled.T @ scaled + PRIOR_ROWS * learned / np.outer(std, std)
    return correlation_of(both)


def _most_likely(squares: Floats, parts: Floats, counts: Floats) -> Floats:
    """Weights [3] >= 0 of variance parts [3, n] that make squared residuals [n] most likely.

    Each residual ``counts`` [n] as much. Of few rows some combination of the parts always looks
    right by chance, so that at first all residuals are taken for equal: as if ``EQUAL_ROWS`` more
    rows, with the parts of these, had shown the mean squared residual.
    """
    rows, widening = (float(f(counts[:, None])[0]) for f in (rows_counted, few_rows))
    counts = counts / counts.sum()
    total = max(float(counts @ squares), TINY)
    means = parts.mean(axis=1)
    used = means > 0
    scaled = parts[used] / means[used, None]  # each of mean 1, squares too: weights are shares
    ratio = (rows * squares / total + EQUAL_ROWS) / (rows + EQUAL_ROWS)

    def surprise(logs: Floats) -> tuple[float, Floats]:
        shares = np.exp(logs)
        variance = shares @ scaled
        slope = (1 / variance - ratio / variance**2) * counts
        value = float(counts @ (np.log(variance) + ratio / variance))
        return value, shares * (scaled @ slope)

    start = np.full(used.sum(), -np.log(used.sum()))
    bounds = [(SMALLEST_SHARE, LARGEST_SHARE)] * len(start)
    found = minimize(surprise, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights = np.zeros(len(parts))
    weights[used] = np.exp(found.x) * total * widening / means[used]
    return weights
