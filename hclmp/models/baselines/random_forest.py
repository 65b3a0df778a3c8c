"""A random forest."""

from functools import partial

from sklearn.ensemble import RandomForestRegressor

from hclmp.models.baselines.forest import GRID, Forest
from hclmp.models.baselines.interface import Kind

# Half of the descriptors at each split is best on held-out ternary systems.
KIND = Kind(partial(Forest, RandomForestRegressor, 0.5), GRID)
