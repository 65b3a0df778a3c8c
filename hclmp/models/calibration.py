"""The size of the uncertainty, fitted to the residuals on the validation systems."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from hclmp.data.tables import Floats, correlation_of
from hclmp.models.weights import effective_rows, few_rows_factor, weighted_mean

PRIOR_ROWS = 20  # weight, in validation rows, of the correlation learned in training
EQUAL_ROWS = 10  # weight, in validation rows, of equal uncertainty for all predictions
TINY = 1e-300  # least variance, where it is a divisor
LEAST = 1e-6  # least standard deviation, in those of the labels: likelihoods stay finite
# Shares of the squared error that the spread of the quantiles may explain. Never all of it, because
# predictions on which all trees agree have errors too.
EPISTEMIC_SHARES = np.linspace(0.0, 0.95, 20)
SMALLEST_SHARE, LARGEST_SHARE = -9.0, 4.0  # of the mean squared residual, as logarithms


@dataclass(frozen=True)
class Calibration:
    """Variance of a prediction, per property.

    It is constant + a * spread^2 + b * disagreement^2 + c * novelty. The spread of the recalled
    labels is aleatoric, the disagreement between the members and the novelty are epistemic.
    """

    constant: Floats  # [L], the variance that is the same for all compositions
    spread_weight: Floats  # [L], a
    disagreement_weight: Floats  # [L], b
    typical: Floats  # [L], root mean square of the aleatoric part over the validation rows
    correlation: Floats  # [L, L], between the standardised residuals of the properties
    novelty_weight: Floats  # [2, L], c, of both columns of ``Seen.novelty``

    def covariance(self) -> Floats:
        """Aleatoric covariance of a typical composition: [L, L]."""
        return self.correlation * np.outer(self.typical, self.typical)

    def stds(self, spread: Floats, disagreement: Floats, novelty: Floats) -> tuple[Floats, Floats]:
        """Aleatoric and epistemic standard deviations, [n, L] each; ``novelty`` is [n, 2]."""
        aleatoric = np.sqrt(self.constant + self.spread_weight * spread**2)
        # column by column, as ``Seen.novelty``
        new = sum(part[:, None] * c for part, c in zip(novelty.T, self.novelty_weight, strict=True))
        return aleatoric, np.hypot(np.sqrt(self.disagreement_weight) * disagreement, np.sqrt(new))

    @classmethod
    def fit(
        cls,
        residuals: Floats,
        spread: Floats,
        disagreement: Floats,
        novelty: Floats,
        *,
        unmeasured: Floats,
        weights: Floats,
        learned: Floats,
    ) -> "Calibration":
        """Maximum-likelihood weights for Gaussian residuals.

        Args:
            residuals: [n, L] on validation rows, NaN where the label is missing.
            spread, disagreement: [n, L] on these rows; all 0 if a model has none.
            novelty: [n, 2] of these rows. If none has a new element, of which nothing is known
                then, one of only new elements has the variance of the labels.
            unmeasured: [L], the standard deviation to use for a property without validation labels.
            weights: [n, L], of the residuals.
            learned: [L, L], a covariance whose correlation counts like ``PRIOR_ROWS`` more rows.
        """
        shares = np.zeros((5, residuals.shape[1]))
        for i in range(residuals.shape[1]):
            rows = ~np.isnan(residuals[:, i])
            if not rows.any():
                shares[0, i] = unmeasured[i] ** 2
                continue
            squares = spread[rows, i] ** 2, disagreement[rows, i] ** 2
            parts = np.stack([np.ones(rows.sum()), *squares, *novelty[rows].T])
            shares[:, i] = _most_likely(residuals[rows, i] ** 2, parts, weights[rows, i])
        shares[0] = np.maximum(shares[0], (LEAST * unmeasured) ** 2)
        if not novelty[:, 0].any():
            shares[3] = unmeasured**2
        typical = np.sqrt(shares[0] + shares[1] * (spread**2).mean(axis=0))
        fitted = cls(shares[0], shares[1], shares[2], typical, np.eye(len(learned)), shares[3:])
        # Each over its own standard deviation, so that very uncertain rows do not dominate.
        stds = np.hypot(*fitted.stds(spread, disagreement, novelty))
        correlation = _correlation(residuals / stds, weights.mean(axis=1), learned)
        return replace(fitted, correlation=correlation)


def calibrate_spread(residuals: Floats, spread: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Calibrate a baseline: aleatoric std and the factor on the spread, both [L].

    The spread of the quantiles of a forest often follows the error closely from row to row. It is
    shrunk to the share of the mean squared error that makes Gaussian residuals most likely, and
    never enlarged. The aleatoric
    variance is the rest, so that the two add up to the measured error, which is enlarged a little
    if it comes from few rows.
    """
    total = weighted_mean(residuals**2, weights) * few_rows_factor(weights)
    epistemic = weighted_mean(spread**2, weights)
    if not epistemic.any():
        return np.sqrt(total), np.ones_like(total)
    total = np.maximum(total, TINY)
    relative = spread**2 / np.where(epistemic > 0, epistemic, 1.0)
    widest = epistemic / total
    shares = np.minimum(EPISTEMIC_SHARES[:, None], widest)  # [candidates, L]
    loss = np.empty_like(shares)
    for i, share in enumerate(shares):
        variance = total * (1.0 - share + share * relative)
        loss[i] = weighted_mean(np.log(variance) + residuals**2 / variance, weights)
    share = np.take_along_axis(shares, loss.argmin(axis=0)[None], axis=0)[0]
    scale = np.sqrt(share * total / np.where(epistemic > 0, epistemic, 1.0))
    return np.sqrt((1.0 - share) * total), np.where(epistemic > 0, scale, 1.0)


def _correlation(residuals: Floats, weights: Floats, learned: Floats) -> Floats:
    """Correlation of residuals [n, L], of rows without a missing one, and of what was learned."""
    whole = ~np.isnan(residuals).any(axis=1)
    complete = residuals[whole] * np.sqrt(weights[whole, None])
    size = np.sqrt(np.square(complete).mean(axis=0)) if len(complete) else np.ones(len(learned))
    scaled = complete / np.where(size > 0, size, 1.0)
    std = np.sqrt(np.diag(learned))
    both = scaled.T @ scaled + PRIOR_ROWS * learned / np.outer(std, std)
    return correlation_of(both)


def _most_likely(squares: Floats, parts: Floats, counts: Floats) -> Floats:
    """Weights [3] >= 0 of variance parts [3, n] that make squared residuals [n] most likely.

    ``counts`` [n] are the weights of the rows. With few rows some combination of the parts fits by
    chance. The prior against that is equal residuals: ``EQUAL_ROWS`` more rows, with the parts of
    these rows and the mean squared residual.
    """
    rows, widening = (float(f(counts[:, None])[0]) for f in (effective_rows, few_rows_factor))
    counts = counts / counts.sum()
    total = max(float(counts @ squares), TINY)
    means = parts.mean(axis=1)
    used = means > 0
    scaled = parts[used] / means[used, None]  # of mean 1, as the ratio below: weights are shares
    ratio = (rows * squares / total + EQUAL_ROWS) / (rows + EQUAL_ROWS)

    def loss(logs: Floats) -> tuple[float, Floats]:
        shares = np.exp(logs)
        variance = shares @ scaled
        slope = (1 / variance - ratio / variance**2) * counts
        value = float(counts @ (np.log(variance) + ratio / variance))
        return value, shares * (scaled @ slope)

    start = np.full(used.sum(), -np.log(used.sum()))
    bounds = [(SMALLEST_SHARE, LARGEST_SHARE)] * len(start)
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights = np.zeros(len(parts))
    weights[used] = np.exp(fit.x) * total * widening / means[used]
    return weights
