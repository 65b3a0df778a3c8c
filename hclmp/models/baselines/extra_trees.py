"""Extremely randomised trees (Geurts et al., Mach. Learn. 63, 3, 2006)."""

from functools import partial

from sklearn.ensemble import ExtraTreesRegressor

from hclmp.models.baselines.forest import GRID, Forest
from hclmp.models.baselines.interface import Kind

# All descriptors at each split, as Geurts et al. recommend for regression.
KIND = Kind(partial(Forest, ExtraTreesRegressor, 1.0), GRID)
