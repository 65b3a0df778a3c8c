"""Baselines that every report shows beside H-CLMP: forests, ridge regression and the mean.

They see the composition alone, never the DOS feature. Nothing of them is pickled: what is kept is
`Baseline.settings`, and a fit is repeated byte for byte from the same rows and seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from threadpoolctl import threadpool_limits

from hclmp.config import CALIBRATION_TREES, BaselinesConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.calibration import LEAST, of_spread
from hclmp.models.descriptors import descriptors
from hclmp.models.interface import Prediction
from hclmp.models.scaling import ROUNDING, Scaler
from hclmp.models.weights import label_weights, weighted_mean

# Shares of the descriptors tried at each split, and fully grown trees. Measured on held-out
# ternary systems: extra trees want all descriptors (Geurts et al., Mach. Learn. 63, 3, 2006,
# recommend that for regression too), and larger leaves only cost accuracy.
FOREST_SETTINGS: dict[str, dict[str, Any]] = {
    "extra_trees": {"max_features": 1.0, "min_samples_leaf": 1},
    "random_forest": {"max_features": 0.5, "min_samples_leaf": 1},
}
RIDGE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(5, -2, 15))
# What a leaf must hold, in labels without noise. A very noisy row then never stands alone in one,
# where its label would be predicted as measured however small its weight; one without noise can.
LEAF_WEIGHT = 0.5
RIDGE_FOLDS = 5
PAIR_LEAST_ROWS = 3  # a pair of elements seen less often has no coefficient of its own
PAIR_MOST = 2000  # pairs with a coefficient, the most frequent: bounds time and memory


class _Regressor(Protocol):
    """A regressor of standardised labels, without an uncertainty of its own but its spread."""

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Prediction and spread (std over trees), both [n, L], row by row independent."""
        ...

    def settings(self) -> dict[str, Any]:
        """What, with the rows, makes the fit: JSON-able."""
        ...


class _Forest:
    """A forest of multi-output trees: one set of trees predicts all properties."""

    def __init__(
        self,
        kind: str,
        inputs: Inputs,
        y: Floats,
        weights: Floats | None,
        *,
        trees: int,
        with_range: bool,
        seed: int,
        threads: int,
    ) -> None:
        forest = {"extra_trees": ExtraTreesRegressor, "random_forest": RandomForestRegressor}[kind]
        least = 0.0 if weights is None else min(0.5, LEAF_WEIGHT / weights.sum())
        self._forest = forest(
            n_estimators=trees,
            random_state=seed,
            n_jobs=threads,
            min_weight_fraction_leaf=least,
            **FOREST_SETTINGS[kind],
        )
        self._labels, self._with_range = y.shape[1], with_range
        columns = self._columns(inputs)
        self._forest.fit(columns, y[:, 0] if len(y.T) == 1 else y, sample_weight=weights)

    def _columns(self, inputs: Inputs) -> NDArray[np.float32]:
        return descriptors(inputs, with_range=self._with_range).astype(np.float32)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Mean and standard deviation over the trees.

        Summed tree by tree: scikit-learn's own `predict` adds up in the order in which threads
        finish, which changes the last bits.
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


class _Ridge:
    """Ridge regression on the descriptors and on products of the fractions of two elements.

    The products are the interactions of Scheffé's quadratic mixture model (J. R. Stat. Soc. B 20,
    344, 1958): what a third element adds is then learned from binaries. They share one scale, so
    that a pair of few rows is held closer to zero than a frequent one. The penalty is chosen by
    cross-validation over whole chemical systems: leave-one-out takes far too small a one where
    rows come in series of one system.
    """

    def __init__(self, inputs: Inputs, y: Floats, weights: Floats | None, *, seed: int) -> None:
        dense = inputs.compositions.dense()
        self._pairs = _frequent_pairs(dense > 0)
        self._scaler = Scaler.fit(descriptors(inputs), least=ROUNDING)
        products = self._products(dense)
        self._centre = products.mean(axis=0)
        deviation = np.sqrt(((products - self._centre) ** 2).mean()) if products.size else 0.0
        self._unit = float(deviation) or 1.0
        folds = _system_folds(inputs.compositions.systems(), seed)
        # One thread: BLAS adds up in another order on two.
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

        Summed column by column: a matrix product adds up in an order that depends on the number
        of rows.
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

    ``x`` and ``y`` are centred on all rows, and times the root of the rows' weights. The normal
    equations without a fold are those of all rows less the fold's own. Of equal errors (a single
    system) the largest penalty is taken.
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


class _Mean:
    """The mean of the rows: 0 in standardised labels, unless they are weighted."""

    def __init__(self, y: Floats, weights: Floats | None) -> None:
        self._mean = np.zeros(y.shape[1])
        if weights is not None:
            self._mean = (weights * np.nan_to_num(y)).sum(axis=0) / weights.sum(axis=0)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        mean = np.tile(self._mean, (len(inputs), 1))
        return mean, np.zeros_like(mean)

    def settings(self) -> dict[str, Any]:
        return {}


class _PerProperty:
    """One regressor per property, each of the rows that have a label of it."""

    def __init__(
        self,
        inputs: Inputs,
        y: Floats,
        weights: Floats | None,
        fit: Callable[[Inputs, Floats, Floats | None], _Regressor],
    ) -> None:
        present = [np.flatnonzero(~np.isnan(column)) for column in y.T]
        self._parts = [
            fit(
                inputs.take(rows), y[rows, i : i + 1], None if weights is None else weights[rows, i]
            )
            for i, rows in enumerate(present)
        ]

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        means, spreads = zip(*(part.predict(inputs) for part in self._parts), strict=True)
        return np.hstack(means), np.hstack(spreads)

    def settings(self) -> dict[str, Any]:
        return {"per_property": [part.settings() for part in self._parts]}


@dataclass(frozen=True)
class _Fit:
    """A regressor with the standardisation of the labels of the rows it was fitted on."""

    labels: Scaler
    regressor: _Regressor

    @classmethod
    def of(
        cls,
        kind: str,
        rows: Labelled,
        *,
        trees: int,
        with_range: bool,
        seed: int,
        threads: int,
    ) -> "_Fit":
        labels = Scaler.fit(rows.t)
        y, weights = labels.scale(rows.t), _weights(rows, labels)

        def fitted(inputs: Inputs, y: Floats, weights: Floats | None) -> _Regressor:
            if kind in FOREST_SETTINGS:
                return _Forest(
                    kind,
                    inputs,
                    y,
                    weights,
                    trees=trees,
                    with_range=with_range,
                    seed=seed,
                    threads=threads,
                )
            if kind == "ridge":
                return _Ridge(inputs, y, weights, seed=seed)
            raise ValueError(f"no baseline `{kind}`")

        if kind == "mean":
            return cls(labels, _Mean(y, weights))
        if np.isnan(y).any():  # neither takes rows with some labels missing
            return cls(labels, _PerProperty(rows.inputs, y, weights, fitted))
        # a row has one weight for all of its labels: that of the mean one
        of_rows = None if weights is None else weights.mean(axis=1)
        return cls(labels, fitted(rows.inputs, y, of_rows))

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Prediction and spread in the space of the labels, both [n, L]."""
        mean, spread = self.regressor.predict(inputs)
        return self.labels.unscale(mean), spread * self.labels.std


def _weights(rows: Labelled, labels: Scaler) -> Floats | None:
    """The weights of the labels, [n, L]; None where no noise is known, and all count alike."""
    if rows.noise is None or np.isnan(rows.noise).all():
        return None
    return label_weights(rows.t, rows.noise, labels.std)


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline; `fit_baseline` makes one.

    Attributes:
        kind: ``extra_trees``, ``random_forest``, ``ridge`` or ``mean``.
        std_aleatoric: [L], the scatter about a prediction, the same for all compositions.
        std_scale: [L], what the spread over trees is multiplied by to be an epistemic std.
    """

    kind: str
    seed: int
    rows: int
    std_aleatoric: Floats
    std_scale: Floats
    _fit: _Fit = field(repr=False)

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions: the same bytes for a row in any batch, on any number of cores."""
        mean, spread = self._fit.predict(inputs)
        aleatoric = np.tile(self.std_aleatoric, (len(inputs), 1))
        return Prediction(mean, aleatoric, spread * self.std_scale)

    def settings(self) -> dict[str, Any]:
        """What makes this fit again from the same rows: JSON-able."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "rows_fitted": self.rows,
            "std_aleatoric": self.std_aleatoric.tolist(),
            "std_scale": self.std_scale.tolist(),
            **self._fit.regressor.settings(),
        }


def fit_baseline(
    kind: str,
    train: Labelled,
    validation: Labelled,
    *,
    settings: BaselinesConfig,
    seed: int,
    threads: int,
) -> Baseline:
    """Fit a baseline on training and validation rows together.

    A baseline has no early stopping to protect, and the strongest honest one uses every row that
    is not held out. Its uncertainty is measured before that, by a fit to the training rows alone
    that predicts the validation systems.

    Args:
        kind: ``extra_trees``, ``random_forest``, ``ridge`` or ``mean``.
        train: rows of the training systems.
        validation: rows of the validation systems.
        settings: the size of the forests.
        seed: of the trees and of the folds that choose ridge's penalty.
        threads: trees fitted at a time; the result does not depend on it.
    """
    fewer = min(settings.trees, CALIBRATION_TREES)
    best, aleatoric, scale = _calibrated(
        kind, train, validation, trees=fewer, seed=seed, threads=threads
    )
    everything = train.joined(validation)
    fit = _Fit.of(
        kind, everything, trees=settings.trees, with_range=best, seed=seed, threads=threads
    )
    if kind == "mean":
        aleatoric = np.nanstd(everything.t, axis=0)
    aleatoric = np.maximum(aleatoric, LEAST * fit.labels.std)
    return Baseline(kind, seed, len(everything), aleatoric, scale, fit)


def _calibrated(
    kind: str, train: Labelled, validation: Labelled, *, trees: int, seed: int, threads: int
) -> tuple[bool, Floats, Floats]:
    """Fit to the training rows alone: whether the range helps, aleatoric std and scale, both [L].

    The range repeats minimum and maximum: it helps forests on some tables and dilutes their choice
    of splits on others, so the validation systems decide.
    """
    found = []
    for with_range in (True, False) if kind in FOREST_SETTINGS else (True,):
        fit = _Fit.of(kind, train, trees=trees, with_range=with_range, seed=seed, threads=threads)
        mean, spread = fit.predict(validation.inputs)
        residuals = validation.t - mean
        # a property that no validation row has: as if the training mean were all that is known
        unmeasured = np.isnan(residuals).all(axis=0)
        residuals = np.where(unmeasured, fit.labels.std, residuals)
        weights = label_weights(residuals, validation.noise, fit.labels.std)
        error = float(weighted_mean(np.abs(residuals) / fit.labels.std, weights).mean())
        found.append((error, with_range, *of_spread(residuals, spread, weights)))
    _, best, aleatoric, scale = min(found, key=lambda each: each[0])
    return best, aleatoric, scale
