"""What of a composition no training sample has shown: elements, and pairs of elements."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hclmp.data.composition import Compositions
from hclmp.data.tables import Floats
from hclmp.models.descriptors import in_vocabulary_order


@dataclass(frozen=True)
class Seen:
    """The elements of training compositions, and which of them occur together.

    Attributes:
        pairs: [V, V], whether two elements of the vocabulary occur in one training composition; on
            the diagonal, whether an element occurs at all.
    """

    pairs: NDArray[np.bool_]

    @classmethod
    def of(cls, compositions: Compositions) -> "Seen":
        """What n training compositions show."""
        present = (compositions.dense() > 0).astype(np.float32)  # counts up to 2^24 are exact
        return cls(present.T @ present > 0)

    def novelty(self, compositions: Compositions) -> Floats:
        """How new n compositions are: [n, 2], from 0 to 1.

        The share of the atoms whose element is in no training composition; and, of all pairs of
        different atoms of other elements, the share whose two elements never occur together.
        """
        compositions = in_vocabulary_order(compositions)
        elements, fractions = compositions.elements, compositions.fractions.astype(np.float64)
        known = self.pairs.diagonal()[elements]
        new, together, apart = np.zeros((3, len(compositions)))
        # Added column by column: the order of a library's own sum depends on the number of rows.
        for a in range(elements.shape[1]):
            new += fractions[:, a] * ~known[:, a]
            for b in range(a):
                both = fractions[:, a] * fractions[:, b] * (known[:, a] & known[:, b])
                together += both
                apart += both * ~self.pairs[elements[:, a], elements[:, b]]
        pairs = np.divide(apart, together, out=np.zeros_like(apart), where=together > 0)
        return np.column_stack([new, pairs])
