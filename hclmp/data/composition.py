"""Compositions as padded arrays over a vocabulary of elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hclmp.data.formula import Fractions
from hclmp.errors import UserError, join_some


@dataclass(frozen=True)
class Compositions:
    """Compositions as padded arrays, indexed by row."""

    vocabulary: tuple[str, ...]  # the V element symbols that `elements` indexes, alphabetical
    elements: NDArray[np.int64]  # [n, k] index of each element; padding is 0
    fractions: NDArray[np.float32]  # [n, k] of each element; padding is 0, rows sum to 1

    def __len__(self) -> int:
        return len(self.elements)

    def take(self, rows: NDArray[np.int64]) -> "Compositions":
        """The compositions of these rows, in this order."""
        return Compositions(self.vocabulary, self.elements[rows], self.fractions[rows])

    def joined(self, other: "Compositions") -> "Compositions":
        """The rows of both, of one vocabulary; their padding may differ."""
        k = max(self.elements.shape[1], other.elements.shape[1])

        def rows(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([np.pad(x, ((0, 0), (0, k - x.shape[1]))) for x in (a, b)])

        elements = rows(self.elements, other.elements)
        return Compositions(self.vocabulary, elements, rows(self.fractions, other.fractions))

    def dense(self) -> NDArray[np.float32]:
        """Fractions over the whole vocabulary: [n, V]."""
        dense = np.zeros((len(self), len(self.vocabulary)), dtype=np.float32)
        np.add.at(dense, (np.arange(len(self))[:, None], self.elements), self.fractions)
        return dense

    def sizes(self) -> NDArray[np.int64]:
        """The number of elements of each row: [n]."""
        return np.asarray((self.fractions > 0).sum(axis=1), dtype=np.int64)

    def systems(self) -> list[str]:
        """The chemical system of each row: its elements, alphabetical, joined by ``-``."""
        return [
            "-".join(sorted(self.vocabulary[e] for e, x in zip(row, xs, strict=True) if x > 0))
            for row, xs in zip(self.elements, self.fractions, strict=True)
        ]


def vocabulary_of(compositions: Sequence[Fractions]) -> tuple[str, ...]:
    """All elements that occur, alphabetical."""
    return tuple(sorted({element for fractions in compositions for element in fractions}))


def pad(compositions: Sequence[Fractions], vocabulary: Sequence[str]) -> Compositions:
    """Padded arrays of compositions over a vocabulary.

    Raises:
        UserError: an element is not in the vocabulary.
    """
    index = {element: i for i, element in enumerate(vocabulary)}
    if missing := sorted(set(vocabulary_of(compositions)) - index.keys()):
        raise UserError(
            f"elements {join_some(missing)} are unknown here; known are: {' '.join(vocabulary)}"
        )
    width = max((len(fractions) for fractions in compositions), default=1)
    elements = np.zeros((len(compositions), width), dtype=np.int64)
    fractions_ = np.zeros((len(compositions), width), dtype=np.float32)
    for row, fractions in enumerate(compositions):
        for column, element in enumerate(sorted(fractions)):
            elements[row, column] = index[element]
            fractions_[row, column] = fractions[element]
    return Compositions(tuple(vocabulary), elements, fractions_)
