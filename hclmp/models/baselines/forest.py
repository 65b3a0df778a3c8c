"""Extremely randomised trees and random forests, read as quantile regression forests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from hclmp.data.inputs import Inputs
from hclmp.models.baselines.columns import Columns
from hclmp.models.baselines.interface import Estimate, Options, Standardised
from hclmp.models.weights import QUANTILES, weighted_quantiles

# The least weight of a leaf, where a label without noise has weight 1. A very noisy row then never
# has a leaf of its own, which would predict its label as measured however small its weight.
LEAF_WEIGHT = 0.5
ROWS_AT_ONCE = 1000  # that are predicted: bounds memory
# The range repeats minimum and maximum: on some tables it helps, on others it dilutes the choice of
# splits. A leaf of one row makes the trees differ most, one of two the quantiles smoother.
GRID = tuple(
    {"with_range": with_range, "min_samples_leaf": least}
    for least in (1, 2)
    for with_range in (True, False)
)


class Forest:
    """A forest of multi-output trees: one set of trees predicts all properties.

    A prediction is not the mean over the trees but the median of the training labels that share a
    leaf with the composition, each weighted by its share of the leaves (quantile regression
    forests; Meinshausen, J. Mach. Learn. Res. 7, 983, 2006). The library `quantile-forest` does not
    know the weights of rows that were measured with noise, so the leaves are read here.

    Args:
        forest: scikit-learn's class.
        max_features: the share of the descriptors that is tried at each split.
        rows, options: as ``Kind.fit`` has them.
    """

    def __init__(
        self,
        forest: type[ExtraTreesRegressor | RandomForestRegressor],
        max_features: float,
        rows: Standardised,
        options: Options,
    ) -> None:
        y, weights = rows.y, rows.weights
        least = 0.0 if weights is None else min(0.5, LEAF_WEIGHT / weights.sum())
        with_range = options.settings["with_range"]
        self._columns = Columns.fit(rows.inputs, with_range=with_range)
        self._forest = forest(
            n_estimators=options.trees,
            random_state=options.seed,
            n_jobs=options.threads,
            max_features=max_features,
            min_weight_fraction_leaf=least,
            min_samples_leaf=options.settings["min_samples_leaf"],
        )
        x = self._of(rows.inputs)
        self._forest.fit(x, y[:, 0] if len(y.T) == 1 else y, sample_weight=weights)
        nodes = [tree.tree_.node_count for tree in self._forest.estimators_]
        self._first = np.cumsum([0, *nodes])  # number of each tree's first node
        self._y = y
        self._shares = self._rows_of_nodes(x, weights)

    def _of(self, inputs: Inputs) -> NDArray[np.float32]:
        return self._columns.of(inputs).astype(np.float32)

    def _leaves(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """The leaf of n rows in each tree, as numbers over all trees: [n, trees]."""
        return np.asarray(self._forest.apply(x) + self._first[:-1], dtype=np.int64)

    def _rows_of_nodes(
        self, x: NDArray[np.float32], weights: NDArray[np.float64] | None
    ) -> csr_array:
        """The share of each training row in the weight of its leaves: [nodes, n]."""
        leaves = self._leaves(x).T.ravel()
        rows = np.tile(np.arange(len(x)), len(self._first) - 1)
        weight = np.ones(len(rows)) if weights is None else weights[rows]
        total = np.bincount(leaves, weight, minlength=self._first[-1])
        shape = (self._first[-1], len(x))
        return csr_array((weight / total[leaves], (leaves, rows)), shape=shape)

    def predict(self, inputs: Inputs) -> Estimate:
        """Quantiles of the labels in the leaves of n compositions."""
        leaves = self._leaves(self._of(inputs))
        found = np.empty((len(QUANTILES), len(leaves), self._y.shape[1]))
        for start in range(0, len(leaves), ROWS_AT_ONCE):
            of_rows = leaves[start : start + ROWS_AT_ONCE]
            count, trees = of_rows.shape
            ends = np.arange(count + 1) * trees
            chosen = csr_array(
                (np.ones(of_rows.size), of_rows.ravel(), ends), shape=(count, self._first[-1])
            )
            shares = chosen @ self._shares
            shares.sort_indices()
            for i in range(count):
                part = slice(shares.indptr[i], shares.indptr[i + 1])
                labels, weights = self._y[shares.indices[part]], shares.data[part]
                found[:, start + i] = weighted_quantiles(labels, weights, QUANTILES)
        low, median, high = found
        return Estimate(median, (low, high))

    def settings(self) -> dict[str, Any]:
        parameters = self._forest.get_params(deep=False)
        kept = {k: v for k, v in parameters.items() if k not in ("n_jobs", "verbose")}
        return {"with_range": self._columns.with_range, **kept}
