"""What every model is given and gives back, whether it is a forest or H-CLMP(T).

A fit takes a ``Part`` and gives a ``Model``, whose ``predict(inputs)`` gives a ``Prediction``.
Labels and predictions are in the transformed space of the properties, in their order.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Z90, Floats, correlation_of

if TYPE_CHECKING:
    from hclmp.models.hclmp.pretrained import Pretrained


@dataclass(frozen=True)
class Part:
    """The samples that a model of one fold is fitted to.

    Validation samples choose the best epoch and measure the uncertainty; there are none where the
    number of epochs is given.
    """

    train: Labelled
    validation: Labelled | None
    key: dict[str, Any]  # what else determines the result (its provenance); names the checkpoint
    start: "Pretrained | None" = None  # the pretrained encoder that H-CLMP starts from, if any
    whole_systems: bool | None = None  # as ``holds_out_systems``; None: as validation has it

    def holds_out_systems(self) -> bool:
        """Whether the model is to predict systems that it has no training sample of."""
        if self.whole_systems is not None:
            return self.whole_systems
        assert self.validation is not None
        systems = (data.inputs.compositions.systems() for data in (self.train, self.validation))
        return set(next(systems)).isdisjoint(next(systems))

    def with_validation(self) -> "Part":
        """Training and validation samples as training samples."""
        assert self.validation is not None
        return replace(
            self,
            train=self.train.joined(self.validation),
            validation=None,
            whole_systems=self.holds_out_systems(),
        )


@dataclass(frozen=True)
class Prediction:
    """A prediction with its uncertainty, in the transformed space: [n, L] each."""

    mean: Floats  # the predicted value: of H-CLMP the mean of its members, of baselines a median
    std_aleatoric: Floats  # the scatter that more training data would not reduce
    std_epistemic: Floats  # the disagreement between members, or of quantiles; 0 for a single model
    covariance: Floats | None = None  # [L, L] of the aleatoric scatter, for models that learn one
    ends: tuple[Floats, Floats] | None = None  # of the 90 % intervals, where they are not Gaussian

    def interval(self) -> tuple[Floats, Floats]:
        """Lower and upper ends of the intervals that are to hold 90 % of the labels."""
        half = Z90 * self.std
        return self.ends or (self.mean - half, self.mean + half)

    @property
    def std(self) -> Floats:
        """[n, L], aleatoric and epistemic together."""
        return np.hypot(self.std_aleatoric, self.std_epistemic)

    def samples(self, draws: int, *, seed: int) -> Floats:
        """Joint samples over the properties: [n, draws, L], in the transformed space.

        Each row has its own standard deviation, and all rows have the correlation of
        ``covariance``; without one the properties are independent. Joint samples answer what single
        properties cannot: how likely one is high *and* another low. All rows get the same random
        numbers, so that a row does not depend on others.
        """
        properties = self.mean.shape[1]
        factor = np.eye(properties)
        if self.covariance is not None:
            # eigenvalues, because perfectly correlated properties have no Cholesky factor
            values, vectors = np.linalg.eigh(correlation_of(self.covariance))
            factor = vectors * np.sqrt(values.clip(min=0))
        noise = np.random.default_rng(seed).normal(size=(draws, properties)) @ factor.T
        out: Floats = self.mean[:, None] + self.std[:, None] * noise
        return out


class Model(Protocol):
    """A fitted model."""

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions; the same inputs give the same bytes."""
        ...
