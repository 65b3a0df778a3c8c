"""Gradient boosting of trees on the absolute error (Friedman, Ann. Stat. 29, 1189, 2001)."""

from itertools import islice
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from hclmp.data.inputs import Inputs
from hclmp.models.baselines.columns import Columns
from hclmp.models.baselines.interface import Estimate, Kind, Options, Standardised

MOST = 3  # iterations, a tree each, for each tree of a forest
PATIENCE = 30  # iterations without a smaller error, after which the fit stops
WITHOUT_VALIDATION = 100  # iterations where no validation row has a label
# A third of the descriptors at each split had the smaller error on the validation systems for five
# of six properties of elastic and transport, and trees of 63 leaves for four of them. On small
# tables smaller trees may be better.
FIXED = {"learning_rate": 0.1, "max_features": 0.3}
GRID = (
    {"max_leaf_nodes": 15, "min_samples_leaf": 10},
    {"max_leaf_nodes": 63, "min_samples_leaf": 5},
)


class Boosting:
    """Histogram-based gradient boosting of one property.

    The validation rows choose the number of iterations. The range of the element properties, which
    minimum and maximum tell too, is no column.
    """

    def __init__(self, rows: Standardised, options: Options) -> None:
        settings, validation = dict(options.settings), options.validation
        self._threads = options.threads
        self._columns = Columns.fit(rows.inputs, with_range=False)
        self._iterations = settings.pop("iterations", None)
        judged: dict[str, Any] = {}
        if self._iterations is None and validation is not None:
            judged = {
                "X_val": self._columns.of(validation.inputs),
                "y_val": validation.y[:, 0],
                "sample_weight_val": validation.weights,
            }
        most = MOST * options.trees
        most = self._iterations or (most if judged else min(most, WITHOUT_VALIDATION))
        self._model = HistGradientBoostingRegressor(
            loss="absolute_error",
            max_iter=most,
            early_stopping=bool(judged),
            n_iter_no_change=PATIENCE,
            scoring="loss",
            random_state=options.seed,
            **FIXED,
            **settings,
        )
        x = self._columns.of(rows.inputs)
        with threadpool_limits(limits=options.threads, user_api="openmp"):
            self._model.fit(x, rows.y[:, 0], sample_weight=rows.weights, **judged)
        if judged:  # the first score is that before any iteration
            self._iterations = max(1, int(np.argmax(self._model.validation_score_)))
        self._iterations = self._iterations or most

    def predict(self, inputs: Inputs) -> Estimate:
        """The prediction after the best iteration."""
        x = self._columns.of(inputs)
        with threadpool_limits(limits=self._threads, user_api="openmp"):
            stages = self._model.staged_predict(x)
            median = next(islice(stages, self._iterations - 1, None))
        return Estimate(np.asarray(median, dtype=np.float64)[:, None])

    def settings(self) -> dict[str, Any]:
        parameters = self._model.get_params(deep=False)
        kept = {k: v for k, v in parameters.items() if k not in ("max_iter", "verbose")}
        return {**kept, "iterations": self._iterations}


KIND = Kind(Boosting, GRID, found=("iterations",), per_property=True)
