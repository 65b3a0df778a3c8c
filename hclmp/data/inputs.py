"""The inputs of every model: compositions, the properties of their elements, and labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hclmp.data.composition import Compositions
from hclmp.data.tables import Floats, Targets


@dataclass(frozen=True)
class ElementTable:
    """Vectors and properties of the V elements of the vocabulary.

    Attributes:
        vectors: embedding name -> [V, d] float32.
        properties: [V, p] float32, tabulated properties (Magpie's), standardised.
    """

    vectors: dict[str, NDArray[np.float32]]
    properties: NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """All inputs of a model for n compositions.

    Attributes:
        compositions: n compositions.
        elements: the vocabulary's vectors and properties.
        dos: [n, D] float32, the generator's DOS feature in scaled units, where there is one.
    """

    compositions: Compositions
    elements: ElementTable
    dos: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.compositions)

    def take(self, rows: NDArray[np.int64]) -> "Inputs":
        """The inputs of these rows, in this order."""
        dos = None if self.dos is None else self.dos[rows]
        return Inputs(self.compositions.take(rows), self.elements, dos)

    def joined(self, other: "Inputs") -> "Inputs":
        """The inputs of both, of one vocabulary."""
        assert (self.dos is None) == (other.dos is None)
        dos = None
        if self.dos is not None and other.dos is not None:
            dos = np.concatenate([self.dos, other.dos])
        return Inputs(self.compositions.joined(other.compositions), self.elements, dos)


@dataclass(frozen=True)
class Labelled:
    """Inputs with labels, in the transformed space.

    Attributes:
        inputs: n compositions.
        t: [n, L], NaN where missing.
        noise: [n, L], standard deviation of the measurement of each label, NaN where unknown; None
            where none is known. `hclmp.models.weights.label_weights` says what it weighs.
        limits: [2, L], the smallest and the largest possible label (infinite: none); None: none.
    """

    inputs: Inputs
    t: Floats
    noise: Floats | None = None
    limits: Floats | None = None

    @classmethod
    def of(cls, table: Targets, inputs: Inputs, rows: NDArray[np.int64]) -> "Labelled":
        """Rows of a table with their inputs (in the same order), labels and known noise."""
        noise = table.transformed_noise()
        known = None if noise is None else noise[rows]
        return cls(inputs.take(rows), table.transformed()[rows], known, table.limits())

    def __len__(self) -> int:
        return len(self.inputs)

    def joined(self, other: "Labelled") -> "Labelled":
        """The rows of both, of one vocabulary."""
        noise = None
        if self.noise is not None or other.noise is not None:
            both = (self, other)
            noise = np.concatenate(
                [np.full_like(p.t, np.nan) if p.noise is None else p.noise for p in both]
            )
        inputs, t = self.inputs.joined(other.inputs), np.concatenate([self.t, other.t])
        return Labelled(inputs, t, noise, self.limits)
