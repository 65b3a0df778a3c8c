"""Recall: attention over training rows by the distance of learned keys, in both networks.

This is retrieval as in TabR (Gorishniy et al., arXiv:2307.14338, 2023) and ModernNCA (Ye et al.,
arXiv:2407.03257, 2024), which go back to neighbourhood components analysis (Goldberger et al.,
NeurIPS 17, 2004).
"""

import torch
from torch import Tensor

from hclmp.config import MOST_REMEMBERED
from hclmp.data.rows import evenly_spread

HIDDEN = 1e4  # added to the distance of a row that a query must not recall


def remembered_rows(n: int) -> Tensor:
    """The row numbers that are remembered of n rows."""
    return torch.from_numpy(evenly_spread(n, MOST_REMEMBERED))


def is_superset_of(queries: Tensor, others: Tensor) -> Tensor:
    """Whether others have all elements of a query, so belong to its system or a superset of it.

    A model sees no such row of a held-out system, so in training it must not recall one either.
    Queries [..., b, V] and others [..., n, V] are positive where an element is present; gives
    [..., b, n].
    """
    return _superset(queries, others).bool()


def _superset(queries: Tensor, others: Tensor) -> Tensor:
    """``is_superset_of`` as numbers, 1 or 0."""
    first, second = (queries > 0).float(), (others > 0).float()
    shared = first @ second.mT
    # In place, because no tensor of a step is larger. 1 if all elements are shared.
    return shared.sub_(first.sum(dim=-1, keepdim=True) - 1).clamp_min_(0)


def hidden_in_training(queries: Tensor, others: Tensor, *, whole_systems: bool = True) -> Tensor:
    """What queries must not recall of others, the first of which are the queries themselves.

    As ``is_superset_of``, but 0, 1, or 2 for the query itself, as ``attention`` takes it. Without
    ``whole_systems`` only the query itself is hidden.
    """
    hidden = _superset(queries, others).mul_(whole_systems)
    hidden.diagonal(dim1=-2, dim2=-1).add_(1)
    return hidden


def attention(queries: Tensor, keys: Tensor, sharpness: Tensor, hidden: Tensor | None) -> Tensor:
    """Softmax of minus the distances between keys, times a sharpness: [..., b, n].

    Args:
        queries, keys: [..., b, k] and [..., n, k].
        sharpness: of the distances.
        hidden: [..., b, n], positive for keys that a query must not recall. If that is all keys, it
            recalls those with the smallest number. Infinite: never.
    """
    # The sharpness multiplies the keys, because a further pass over [b, n] would cost more time.
    nearness = torch.cdist(queries * sharpness, keys * sharpness).neg()
    if hidden is not None:
        nearness = torch.add(nearness, hidden, alpha=-HIDDEN)
    return torch.softmax(nearness, dim=-1)
