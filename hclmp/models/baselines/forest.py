"""Extremely randomised trees and random forests."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats
from hclmp.models.baselines.interface import Options
from hclmp.models.descriptors import descriptors

# The least weight of a leaf, where a label without noise has weight 1. A very noisy row then never
# has a leaf of its own, which would predict its label as measured however small its weight.
LEAF_WEIGHT = 0.5


class Forest:
    """A forest of fully grown multi-output trees: one set of trees predicts all properties.

    Args:
        forest: scikit-learn's class.
        max_features: the share of the descriptors that is tried at each split.
        inputs, y, weights, options: as ``Kind.fit`` has them.
    """

    def __init__(
        self,
        forest: type[ExtraTreesRegressor | RandomForestRegressor],
        max_features: float,
        inputs: Inputs,
        y: Floats,
        weights: Floats | None,
        options: Options,
    ) -> None:
        least = 0.0 if weights is None else min(0.5, LEAF_WEIGHT / weights.sum())
        self._forest = forest(
            n_estimators=options.trees,
            random_state=options.seed,
            n_jobs=options.threads,
            max_features=max_features,
            min_weight_fraction_leaf=least,
            min_samples_leaf=1,
        )
        self._labels, self._with_range = y.shape[1], options.with_range
        columns = self._columns(inputs)
        self._forest.fit(columns, y[:, 0] if len(y.T) == 1 else y, sample_weight=weights)

    def _columns(self, inputs: Inputs) -> NDArray[np.float32]:
        return descriptors(inputs, with_range=self._with_range).astype(np.float32)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Mean and standard deviation over the trees.

        Summed tree by tree, because scikit-learn's own `predict` adds up in the order in which
        threads finish, which changes the last bits.
        """
        shape = (len(inputs), self._labels)
        x = self._columns(inputs)
        total, squares = np.zeros(shape), np.zeros(shape)
        for tree in self._forest.estimators_:
            value = np.asarray(tree.predict(x), dtype=np.float64).reshape(shape)
            total += value
            squares += value**2
        mean = total / len(self._forest.estimators_)
        variance = squares / len(self._forest.estimators_) - mean**2
        return mean, np.sqrt(np.maximum(variance, 0.0))

    def settings(self) -> dict[str, Any]:
        parameters = self._forest.get_params(deep=False)
        kept = {k: v for k, v in parameters.items() if k not in ("n_jobs", "verbose")}
        return {"with_range": self._with_range, **kept}
