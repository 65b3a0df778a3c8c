"""What both networks recall by: attention over what they were trained on, by learned keys."""

import torch
from torch import Tensor

from hclmp.config import MOST_REMEMBERED

HIDDEN = 1e4  # added to the distance of what a query must not recall


def evenly_spread(n: int, most: int) -> Tensor:
    """So many of n rows, evenly spread: all of them up to ``most``."""
    kept = min(n, most)
    return torch.arange(kept) * n // kept


def remembered(n: int) -> Tensor:
    """Of n rows those that are remembered."""
    return evenly_spread(n, MOST_REMEMBERED)


def is_superset_of(queries: Tensor, others: Tensor) -> Tensor:
    """Whether others hold all elements of a query, so are of its system or a superset of it.

    Those a model never sees of a held-out system, and so must not recall in training either.

    Args:
        queries, others: [..., b, V] and [..., n, V], positive where an element is present.

    Returns:
        [..., b, n].
    """
    return _held(queries, others).bool()


def _held(queries: Tensor, others: Tensor) -> Tensor:
    """``is_superset_of`` as numbers, 1 or 0."""
    first, second = (queries > 0).float(), (others > 0).float()
    held = first @ second.mT
    # In place, as this is the size of the largest tensors of a step: 1 where no element is missing.
    return held.sub_(first.sum(dim=-1, keepdim=True) - 1).clamp_min_(0)


def hidden_in_training(queries: Tensor, others: Tensor, *, whole_systems: bool = True) -> Tensor:
    """What is hidden of others of which the first are the queries: most of all themselves.

    Args:
        queries, others: as ``is_superset_of``.
        whole_systems: whether supersets of a query's elements are hidden from it too.

    Returns:
        [..., b, n]: 0, 1, or 2 for itself, as ``attention`` takes it.
    """
    hidden = _held(queries, others).mul_(whole_systems)
    hidden.diagonal(dim1=-2, dim2=-1).add_(1)
    return hidden


def attention(queries: Tensor, keys: Tensor, sharpness: Tensor, hidden: Tensor | None) -> Tensor:
    """Softmax of minus the distances between keys, times a sharpness: [..., b, n].

    Args:
        queries, keys: [..., b, k] and [..., n, k].
        sharpness: of the distances.
        hidden: [..., b, n], positive for keys that a query must not recall, the larger the less;
            where that is all of them, it recalls the least hidden. Infinite: none of it.
    """
    # The sharpness goes into the keys, which are small: every pass over [b, n] costs time.
    nearness = torch.cdist(queries * sharpness, keys * sharpness).neg()
    if hidden is not None:
        nearness = torch.add(nearness, hidden, alpha=-HIDDEN)
    return torch.softmax(nearness, dim=-1)
