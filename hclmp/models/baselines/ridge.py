"""Ridge regression with interactions of pairs of elements."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from threadpoolctl import threadpool_limits

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats
from hclmp.models.baselines.interface import Kind, Options
from hclmp.models.descriptors import descriptors
from hclmp.models.scaling import ROUNDING, Scaler

RIDGE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(5, -2, 15))
RIDGE_FOLDS = 5
PAIR_LEAST_ROWS = 3  # a pair of elements in fewer rows has no coefficient of its own
PAIR_MOST = 2000  # pairs with a coefficient, the most frequent: bounds time and memory


class Ridge:
    """Ridge regression on the descriptors and on products of the fractions of two elements.

    The products are the interactions of Scheffé's quadratic mixture model (J. R. Stat. Soc. B 20,
    344, 1958), by which binaries teach something about ternaries. They share one scale, so that
    the coefficients of rare pairs are shrunk more than those of frequent ones. The penalty is
    chosen by cross-validation over whole chemical systems; leave-one-out would choose far too small
    a one, because rows come in series of one system.
    """

    def __init__(self, inputs: Inputs, y: Floats, weights: Floats | None, options: Options) -> None:
        dense = inputs.compositions.dense()
        self._pairs = _frequent_pairs(dense > 0)
        self._scaler = Scaler.fit(descriptors(inputs), least=ROUNDING)
        products = self._products(dense)
        self._centre = products.mean(axis=0)
        deviation = np.sqrt(((products - self._centre) ** 2).mean()) if products.size else 0.0
        self._unit = float(deviation) or 1.0
        folds = _system_folds(inputs.compositions.systems(), options.seed)
        # One thread, because BLAS adds up in another order on two.
        with threadpool_limits(limits=1):
            x = self._columns(inputs)
            if weights is None:  # x and y are centred already
                self._offset = np.zeros(y.shape[1])
                self._alpha, self._weights = _ridge(x, y, folds)
            else:
                root = np.sqrt(weights)[:, None]
                x_mean, y_mean = (np.average(v, axis=0, weights=weights) for v in (x, y))
                self._alpha, self._weights = _ridge(root * (x - x_mean), root * (y - y_mean), folds)
                self._offset = y_mean - x_mean @ self._weights

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Prediction, and a spread of 0.

        Summed column by column, because a matrix product adds up in an order that depends on the
        number of rows.
        """
        mean = np.tile(self._offset, (len(inputs), 1))
        for column, weight in zip(self._columns(inputs).T, self._weights, strict=True):
            mean += column[:, None] * weight
        return mean, np.zeros_like(mean)

    def settings(self) -> dict[str, Any]:
        return {"alpha": self._alpha, "pairs": len(self._pairs)}

    def _columns(self, inputs: Inputs) -> Floats:
        products = self._products(inputs.compositions.dense())
        scaled = (products - self._centre) / self._unit
        return np.hstack([self._scaler.scale(descriptors(inputs)), scaled])

    def _products(self, dense: NDArray[np.float32]) -> Floats:
        first, second = self._pairs.T
        return dense[:, first].astype(np.float64) * dense[:, second]


def _frequent_pairs(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of elements, [q, 2], that occur together in enough of the rows of [n, V]."""
    counts = present.T.astype(np.int64) @ present.astype(np.int64)
    first, second = np.triu_indices(len(counts), k=1)
    counts = counts[first, second]
    order = np.argsort(-counts, kind="stable")[:PAIR_MOST]
    kept = np.sort(order[counts[order] >= PAIR_LEAST_ROWS])
    return np.column_stack([first[kept], second[kept]]).astype(np.int64)


def _system_folds(systems: Sequence[str], seed: int) -> NDArray[np.int64]:
    """A fold number per row, the same for all rows of a chemical system."""
    names, index = np.unique(np.array(systems), return_inverse=True)
    order = np.random.default_rng([seed, 3]).permutation(len(names))
    return np.asarray(order[index.reshape(-1)] % RIDGE_FOLDS, dtype=np.int64)


def _ridge(x: Floats, y: Floats, folds: NDArray[np.int64]) -> tuple[float, Floats]:
    """Penalty with the smallest cross-validated squared error, and its coefficients [p, L].

    ``x`` and ``y`` are centred on all rows and multiplied by the root of the rows' weights. The
    normal equations without a fold are those of all rows minus those of the fold. If errors are
    equal, as with a single system, the largest penalty is taken.
    """
    gram, moments, identity = x.T @ x, x.T @ y, np.eye(x.shape[1])
    errors = np.zeros(len(RIDGE_ALPHAS))
    for fold in np.unique(folds):
        out, label = x[folds == fold], y[folds == fold]
        rest, target = gram - out.T @ out, moments - out.T @ label
        for i, alpha in enumerate(RIDGE_ALPHAS):
            weights = solve(rest + alpha * identity, target, assume_a="pos")
            errors[i] += ((out @ weights - label) ** 2).sum()
    alpha = RIDGE_ALPHAS[int(errors.argmin())]
    weights = solve(gram + alpha * identity, moments, assume_a="pos")
    return alpha, np.asarray(weights, dtype=np.float64)


KIND = Kind(Ridge)
