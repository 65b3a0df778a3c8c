"""Statistics of the elements of a composition: the input of forests and ridge regression."""

import numpy as np

from hclmp.data.composition import Compositions
from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats


def descriptors(inputs: Inputs, *, with_range: bool = True) -> Floats:
    """Fractions and statistics of the elements of compositions.

    Columns, for a vocabulary of V elements with p tabulated properties each: the V fractions; for
    every property its fraction-weighted mean and standard deviation, minimum, maximum, range and
    mode (of the most abundant element, the mean over them where several are) over the elements
    present (the statistics of Ward et al., npj Comput. Mater. 2, 16028, 2016); the number of
    elements; the mixing entropy in units of k.

    They do not depend on the order of the elements in a row or on its padding. The range, which
    follows from minimum and maximum, may be omitted.

    Returns:
        [n, V + 6 p + 2], or [n, V + 5 p + 2] without the range.
    """
    compositions = in_vocabulary_order(inputs.compositions)
    weights = compositions.fractions.astype(np.float64)
    weights = weights / _over_elements(weights)[:, None]
    present = weights > 0
    most = weights == weights.max(axis=1, keepdims=True)
    values = inputs.elements.properties.astype(np.float64)[compositions.elements]  # [n, k, p]
    mean = _over_elements(weights[:, :, None] * values)
    variance = _over_elements(weights[:, :, None] * (values - mean[:, None, :]) ** 2)
    minimum = np.where(present[:, :, None], values, np.inf).min(axis=1)
    maximum = np.where(present[:, :, None], values, -np.inf).max(axis=1)
    mode = _over_elements(np.where(most[:, :, None], values, 0.0)) / most.sum(axis=1)[:, None]
    entropy = -_over_elements(weights * np.log(np.where(present, weights, 1.0)))
    ranges = [maximum - minimum] if with_range else []
    statistics = [mean, np.sqrt(variance), minimum, maximum, *ranges, mode]
    count = present.sum(axis=1)
    return np.column_stack([compositions.dense(), *statistics, count, entropy]).astype(np.float64)


def in_vocabulary_order(compositions: Compositions) -> Compositions:
    """The same compositions with each row's elements in the vocabulary's order, padding last."""
    padding = len(compositions.vocabulary)
    keys = np.where(compositions.fractions > 0, compositions.elements, padding)
    order = np.argsort(keys, axis=1, kind="stable")
    return Compositions(
        compositions.vocabulary,
        np.take_along_axis(compositions.elements, order, axis=1),
        np.take_along_axis(compositions.fractions, order, axis=1),
    )


def _over_elements(values: Floats) -> Floats:
    """Sum over axis 1 from left to right, because NumPy's own order depends on the padding."""
    total = np.zeros_like(values[:, 0])
    for column in range(values.shape[1]):
        total = total + values[:, column]
    return total
