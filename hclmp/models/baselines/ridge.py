"""Ridge regression with interactions of pairs of elements."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, solve
from threadpoolctl import threadpool_limits

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats
from hclmp.models.baselines.columns import Columns
from hclmp.models.baselines.interface import Estimate, Kind, Options, Standardised
from hclmp.models.scaling import ROUNDING, Scaler
from hclmp.models.weights import weighted_quantiles

RIDGE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(5, -2, 15))
PAIR_LEAST_ROWS = 3  # a pair of elements in fewer rows has no coefficient of its own
PAIR_MOST = 2000  # pairs with a coefficient, the most frequent: bounds time and memory


class Ridge:
    """Ridge regression on the descriptors and on products of the fractions of two elements.

    The products are the interactions of Scheffé's quadratic mixture model (J. R. Stat. Soc. B 20,
    344, 1958), by which binaries teach something about ternaries. They share one scale, so that
    the coefficients of rare pairs are shrunk more than those of frequent ones.

    Least squares find the coefficients; the constant is the median of the residuals, and each
    property has the penalty with the least absolute error on the validation rows (the largest one
    if there are none).
    """

    def __init__(self, rows: Standardised, options: Options) -> None:
        dense = rows.inputs.compositions.dense()
        self._pairs = _frequent_pairs(dense > 0)
        self._columns = Columns.fit(rows.inputs)
        self._scaler = Scaler.fit(self._columns.of(rows.inputs), least=ROUNDING)
        products = self._products(dense)
        self._centre = products.mean(axis=0)
        deviation = np.sqrt(((products - self._centre) ** 2).mean()) if products.size else 0.0
        self._unit = float(deviation) or 1.0
        # One thread, because BLAS adds up in another order on two.
        with threadpool_limits(limits=1):
            fit = _Normal(self._of(rows.inputs), rows.y, rows.weights)
            if (alphas := options.settings.get("alpha")) is None:
                alphas = self._best_alphas(fit, options.validation)
            self._alphas: list[float] = alphas
            self._offset, self._weights = fit.solve(self._alphas)

    def _best_alphas(self, fit: "_Normal", validation: Standardised | None) -> list[float]:
        """The penalty of each property: [L]."""
        if validation is None:
            return [RIDGE_ALPHAS[0]] * fit.y.shape[1]
        errors = fit.errors(self._of(validation.inputs), validation)
        return [RIDGE_ALPHAS[i] for i in errors.argmin(axis=0)]

    def predict(self, inputs: Inputs) -> Estimate:
        """Summed column by column: the order of a matrix product depends on the number of rows."""
        median = np.tile(self._offset, (len(inputs), 1))
        for column, weight in zip(self._of(inputs).T, self._weights, strict=True):
            median += column[:, None] * weight
        return Estimate(median)

    def settings(self) -> dict[str, Any]:
        return {"alpha": self._alphas, "pairs": len(self._pairs)}

    def _of(self, inputs: Inputs) -> Floats:
        products = self._products(inputs.compositions.dense())
        scaled = (products - self._centre) / self._unit
        return np.hstack([self._scaler.scale(self._columns.of(inputs)), scaled])

    def _products(self, dense: NDArray[np.float32]) -> Floats:
        first, second = self._pairs.T
        return dense[:, first].astype(np.float64) * dense[:, second]


class _Normal:
    """The normal equations of columns x [n, p], labels y [n, L] and weights of the rows [n]."""

    def __init__(self, x: Floats, y: Floats, weights: Floats | None) -> None:
        self.x, self.y, self.weights = x, y, weights
        root = np.ones((len(x), 1)) if weights is None else np.sqrt(weights)[:, None]
        centred = (root * (v - np.average(v, axis=0, weights=weights)) for v in (x, y))
        x_centred, y_centred = centred
        self._gram, self._moments = x_centred.T @ x_centred, x_centred.T @ y_centred

    def solve(self, alphas: list[float]) -> tuple[Floats, Floats]:
        """Constant [L] and coefficients [p, L] with a penalty for each property."""
        weights = np.empty_like(self._moments)
        identity = np.eye(len(self._gram))
        for alpha in set(alphas):
            columns = [i for i, a in enumerate(alphas) if a == alpha]
            system = self._gram + alpha * identity
            weights[:, columns] = solve(system, self._moments[:, columns], assume_a="pos")
        return self._constant(self.x @ weights), weights

    def errors(self, x: Floats, rows: Standardised) -> Floats:
        """Absolute error on other rows, with columns x, of each penalty and property."""
        values, vectors = eigh(self._gram)  # once for all penalties
        moments, turned, others = vectors.T @ self._moments, self.x @ vectors, x @ vectors
        errors = np.empty((len(RIDGE_ALPHAS), self.y.shape[1]))
        for i, alpha in enumerate(RIDGE_ALPHAS):
            weights = moments / (values + alpha)[:, None]
            residuals = others @ weights + self._constant(turned @ weights) - rows.y
            errors[i] = np.average(np.abs(residuals), axis=0, weights=rows.weights)
        return errors

    def _constant(self, predicted: Floats) -> Floats:
        """The median of the residuals: [L]."""
        constant: Floats = weighted_quantiles(self.y - predicted, self.weights, [0.5])[0]
        return constant


def _frequent_pairs(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of elements, [q, 2], that occur together in enough of the rows of [n, V]."""
    counts = present.T.astype(np.int64) @ present.astype(np.int64)
    first, second = np.triu_indices(len(counts), k=1)
    counts = counts[first, second]
    order = np.argsort(-counts, kind="stable")[:PAIR_MOST]
    kept = np.sort(order[counts[order] >= PAIR_LEAST_ROWS])
    return np.column_stack([first[kept], second[kept]]).astype(np.int64)


KIND = Kind(Ridge, found=("alpha",))
