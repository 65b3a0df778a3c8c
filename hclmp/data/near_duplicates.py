"""Compositions that are nearly equal, such as FeTi2 and Fe0.33Ti0.67: one sample, written twice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from hclmp.data.formula import Fractions, system_of

TOLERANCE = 0.004
"""Compositions of the same elements are nearly equal if no fraction differs by more: 0.4 at%.

A third that is rounded to 0.33 is within it. Steps of 0.5 at%, as of a titration, are not.
"""
WITHIN = TOLERANCE + 1e-9  # the difference of fractions has a rounding error


@dataclass(frozen=True)
class NearDuplicates:
    """Which of n compositions are nearly equal, and groups of them that a split must not divide.

    Any two compositions of a group are nearly equal (complete linkage). In a series of small steps
    each composition is nearly equal to the next, but the first is not to the last. Such a chain is
    cut into several groups: otherwise it could put a whole table into one.

    Attributes:
        groups: [n] the group of each composition: the row number of its first member.
        pairs: [p, 2] the rows of all nearly equal pairs.
    """

    groups: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @classmethod
    def of(cls, compositions: Sequence[Fractions]) -> "NearDuplicates":
        """Compare n compositions, each with the others of its elements."""
        of_system: dict[str, list[int]] = {}
        for row, fractions in enumerate(compositions):
            of_system.setdefault(system_of(fractions), []).append(row)
        groups, pairs = np.arange(len(compositions)), [np.empty((0, 2), dtype=np.int64)]
        for system, members in of_system.items():
            rows, elements = np.array(members), system.split("-")
            points = np.array([[compositions[row][e] for e in elements] for row in members])
            near = KDTree(points).query_pairs(WITHIN, p=np.inf, output_type="ndarray")
            groups[rows] = rows[_first_of_group(points, near)]
            pairs.append(rows[near])
        return cls(groups, np.concatenate(pairs))

    def grouped(self) -> int:
        """How many compositions share their group with another."""
        sizes = np.bincount(self.groups)
        return int(sizes[sizes > 1].sum())

    def near(self, some: NDArray[np.int64], others: NDArray[np.int64]) -> int:
        """How many of some rows are nearly equal to any of others."""
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        found = np.isin(both[:, 0], some) & np.isin(both[:, 1], others)
        return len(np.unique(both[found, 0]))


def _first_of_group(points: NDArray[np.float64], near: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first member of the group of each of m points, of which these pairs are near: [m]."""
    first = np.arange(len(points))
    if not len(near):
        return first
    edges = coo_array((np.ones(len(near)), near.T), shape=(len(points),) * 2)
    for members in _components(edges):
        distance = linkage(points[members], method="complete", metric="chebyshev")
        number = fcluster(distance, t=WITHIN, criterion="distance")
        starts = np.unique(number, return_index=True)[1]
        first[members] = members[starts[number - 1]]
    return first


def _components(edges: coo_array) -> list[NDArray[np.int64]]:
    """The connected components of two and more nodes, each ascending."""
    _, label = connected_components(edges, directed=False)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(label))[:-1])
    return [part for part in parts if len(part) > 1]
