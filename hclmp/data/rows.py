"""Some rows of a table."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(n: int, most: int) -> NDArray[np.int64]:
    """Numbers of at most so many of n > 0 rows, evenly spread from the first on, or of all."""
    count = min(n, most)
    return np.arange(count, dtype=np.int64) * n // count
