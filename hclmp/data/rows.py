"""Some rows of a table."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(n: int, most: int) -> NDArray[np.int64]:
    """Row numbers of at most so many of n rows, evenly spread from the first on; all if n is less.

    Args:
        n: rows of the table, at least 1.
        most: how many are wanted.
    """
    count = min(n, most)
    return np.arange(count, dtype=np.int64) * n // count
