"""What every model is given and gives back, whether it is a forest or H-CLMP(T).

``fit(train, validation, ...) -> Model`` and ``Model.predict(inputs) -> Prediction``; both are in
the transformed space of the properties, in their order.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats, correlation_of


@dataclass(frozen=True)
class Prediction:
    """A prediction with its uncertainty, in the transformed space.

    Attributes:
        mean: [n, L].
        std_aleatoric: [n, L], the scatter that stays however much is learned.
        std_epistemic: [n, L], the disagreement between members or trees; 0 for a single model.
        covariance: [L, L] of the aleatoric scatter, for models that learn one.
    """

    mean: Floats
    std_aleatoric: Floats
    std_epistemic: Floats
    covariance: Floats | None = None

    def samples(self, draws: int, *, seed: int) -> Floats:
        """Joint samples over the properties: [n, draws, L], in the transformed space.

        Each row scatters by its own standard deviation, aleatoric and epistemic, with the
        correlation of ``covariance``; without one the properties are independent. Answers what
        no single property can: how likely it is that one is high *and* another low.

        Args:
            draws: samples of each row.
            seed: of the draws; every row gets the same ones, so that it does not depend on others.
        """
        properties = self.mean.shape[1]
        factor = np.eye(properties)
        if self.covariance is not None:
            # by eigenvalues: properties that always go together leave no Cholesky factor
            values, vectors = np.linalg.eigh(correlation_of(self.covariance))
            factor = vectors * np.sqrt(values.clip(min=0))
        noise = np.random.default_rng(seed).normal(size=(draws, properties)) @ factor.T
        std = np.hypot(self.std_aleatoric, self.std_epistemic)
        out: Floats = self.mean[:, None] + std[:, None] * noise
        return out


class Model(Protocol):
    """A fitted model."""

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions; the same inputs give the same bytes."""
        ...
