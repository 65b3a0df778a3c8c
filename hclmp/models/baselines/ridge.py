"""Ridge regression with interactions of pairs of elements."""

from collections.abc import Sequence
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

RIDGE_FOLDS = 5
RIDGE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(5, -2, 15))
PAIR_LEAST_ROWS = 3  # a pair of elements in fewer rows has no coefficient of its own
PAIR_MOST = 2000  # pairs with a coefficient, the most frequent: bounds time and memory


class Ridge:
    """Ridge regression on the descriptors and on products of the fractions of two elements.

    The products are the interactions of Scheffé's quadratic mixture model (J. R. Stat. Soc. B 20,
    344, 1958), by which binaries teach something about ternaries. They share one scale, so that
    the coefficients of rare pairs are shrunk more than those of frequent ones.

    Least squares find the coefficients; the constant is the median of the residuals. Each property
    has the penalty with the least absolute error on the validation rows and in a cross-validation
    over the training systems of as many elements: the validation systems alone may be too few to
    choose it. Leaving out single rows would choose far too small a one, because rows come in series
    of one system.
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
                errors = self._errors(fit, rows, options)
                alphas = [RIDGE_ALPHAS[i] for i in errors.argmin(axis=0)]
            self._alphas: list[float] = alphas
            self._offset, self._weights = fit.solve(self._alphas)

    def _errors(self, fit: "_Normal", rows: Standardised, options: Options) -> Floats:
        """Summed absolute errors of each penalty and property: [A, L].

        If errors are equal, as without anything to judge by, the largest penalty is the first.
        """
        errors = np.zeros((len(RIDGE_ALPHAS), rows.y.shape[1]))
        sizes = judged_sizes = rows.inputs.compositions.sizes()
        if (judges := options.validation) is not None:
            given, judged_sizes = judges.weights, judges.inputs.compositions.sizes()
            weights = np.ones(len(judges.y)) if given is None else given
            errors += fit.errors(fit.all, self._of(judges.inputs), judges.y, weights)
        folds = _system_folds(rows.inputs.compositions.systems(), options.seed)
        for fold in np.unique(folds):
            held_out = folds == fold
            out = held_out & np.isin(sizes, judged_sizes)
            if out.any():
                errors += fit.errors(~held_out, fit.x[out], fit.y[out], fit.weights[out])
        return errors

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
        self.x, self.y = x, y
        self.weights = np.ones(len(x)) if weights is None else weights
        root = np.sqrt(self.weights)[:, None]
        self._centred = tuple(
            root * (v - np.average(v, axis=0, weights=self.weights)) for v in (x, y)
        )
        self.all = np.ones(len(x), dtype=bool)
        self._gram, self._moments = self._parts(self.all)

    def _parts(self, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """What some rows add to the equations: [p, p] and [p, L]."""
        x, y = (v[rows] for v in self._centred)
        return x.T @ x, x.T @ y

    def solve(self, alphas: list[float]) -> tuple[Floats, Floats]:
        """Constant [L] and coefficients [p, L] with a penalty for each property."""
        weights = np.empty_like(self._moments)
        identity = np.eye(len(self._gram))
        for alpha in set(alphas):
            columns = [i for i, a in enumerate(alphas) if a == alpha]
            system = self._gram + alpha * identity
            weights[:, columns] = solve(system, self._moments[:, columns], assume_a="pos")
        return self._constant(self.x @ weights, self.all), weights

    def errors(self, rows: NDArray[np.bool_], x: Floats, y: Floats, weights: Floats) -> Floats:
        """Summed absolute errors on other rows of a fit to some rows, for each penalty: [A, L]."""
        gram, moments = self._parts(rows)
        values, vectors = eigh(gram)  # once for all penalties
        moments, turned, others = vectors.T @ moments, self.x[rows] @ vectors, x @ vectors
        errors = np.zeros((len(RIDGE_ALPHAS), y.shape[1]))
        for i, alpha in enumerate(RIDGE_ALPHAS):
            coefficients = moments / (values.clip(0.0) + alpha)[:, None]
            constant = self._constant(turned @ coefficients, rows)
            errors[i] = weights @ np.abs(others @ coefficients + constant - y)
        return errors

    def _constant(self, predicted: Floats, rows: NDArray[np.bool_]) -> Floats:
        """The median of the residuals of some rows, 0 if there are none: [L]."""
        if not rows.any():
            return np.zeros(self.y.shape[1])
        residuals = self.y[rows] - predicted
        constant: Floats = weighted_quantiles(residuals, self.weights[rows], [0.5])[0]
        return constant


def _system_folds(systems: Sequence[str], seed: int) -> NDArray[np.int64]:
    """A fold number per row, the same for all rows of a chemical system."""
    names, index = np.unique(np.array(systems), return_inverse=True)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    return np.asarray(order[index.reshape(-1)] % RIDGE_FOLDS, dtype=np.int64)


def _frequent_pairs(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of elements, [q, 2], that occur together in enough of the rows of [n, V]."""
    counts = present.T.astype(np.int64) @ present.astype(np.int64)
    first, second = np.triu_indices(len(counts), k=1)
    counts = counts[first, second]
    order = np.argsort(-counts, kind="stable")[:PAIR_MOST]
    kept = np.sort(order[counts[order] >= PAIR_LEAST_ROWS])
    return np.column_stack([first[kept], second[kept]]).astype(np.int64)


KIND = Kind(Ridge, found=("alpha",))
