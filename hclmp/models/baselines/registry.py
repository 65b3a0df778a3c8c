"""Which baseline fits a ``model:`` of the configuration."""

from hclmp.models.baselines import forest, mean, ridge
from hclmp.models.baselines.interface import Kind

KINDS: dict[str, Kind] = {
    "extra_trees": forest.EXTRA_TREES,
    "random_forest": forest.RANDOM_FOREST,
    "ridge": ridge.RIDGE,
    "mean": mean.MEAN,
}
