"""What baselines see of a composition: descriptors, and with transfer statistics of its DOS."""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats
from hclmp.models.descriptors import descriptors

COMPONENTS = 12  # leading principal components, as many as the pretrained encoder of H-CLMP learns
MOMENTS = 4  # over the energies: Legendre polynomials of degree 0 (the mean) to 3
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Columns:
    """The columns of baselines.

    With a DOS feature these are, beside the descriptors: its moments over the energies (products
    with Legendre polynomials), its standard deviation and quantiles over the energies, and its
    leading principal components, which are those of the training rows.

    Attributes:
        with_range: whether the descriptors hold the range of each element property.
        projection: [D, moments and components], of the DOS feature; None without one.
    """

    with_range: bool
    projection: Floats | None

    @classmethod
    def fit(cls, inputs: Inputs, *, with_range: bool = True) -> "Columns":
        """The columns for a regressor that is fitted to these rows."""
        if inputs.dos is None:
            return cls(with_range, None)
        dos = inputs.dos.astype(np.float64)
        energies = dos.shape[1]
        moments = legvander(np.linspace(-1.0, 1.0, energies), MOMENTS - 1) / energies
        # One thread, because LAPACK adds up in another order on two.
        with threadpool_limits(limits=1):
            pca = PCA(min(COMPONENTS, *dos.shape), svd_solver="full").fit(dos)
        return cls(with_range, np.hstack([moments, pca.components_.T]))

    def of(self, inputs: Inputs) -> Floats:
        """The columns of n compositions: [n, columns]."""
        columns = descriptors(inputs, with_range=self.with_range)
        if self.projection is None:
            return columns
        assert inputs.dos is not None
        return np.hstack([columns, _statistics(inputs.dos, self.projection)])


def _statistics(dos: NDArray[np.float32], projection: Floats) -> Floats:
    """Projections, standard deviation and quantiles of DOS features [n, D].

    Summed energy by energy, because the order of a matrix product depends on the number of rows.
    """
    values = dos.astype(np.float64)
    projected = np.zeros((len(values), projection.shape[1]))
    squares, total = np.zeros((2, len(values)))
    for column, weights in zip(values.T, projection, strict=True):
        projected += column[:, None] * weights
        total += column
        squares += column**2
    variance = squares / values.shape[1] - (total / values.shape[1]) ** 2
    quantiles = np.quantile(values, QUANTILES, axis=1).T
    return np.column_stack([projected, np.sqrt(np.maximum(variance, 0.0)), quantiles])
