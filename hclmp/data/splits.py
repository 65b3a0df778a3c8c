"""The rows of a fold of a run, however its samples are divided."""

from typing import TYPE_CHECKING, Any

from hclmp.config import Config
from hclmp.data.calibration_folds import split_calibration
from hclmp.data.folds import (
    CALIBRATION,
    FoldRows,
    calibration_folds,
    fold_names,
    read_systems,
    split_fold,
    split_given,
    split_random,
)
from hclmp.data.formula import parse_formulas
from hclmp.data.tables import Targets
from hclmp.errors import UserError, join_some

if TYPE_CHECKING:
    from hclmp.data.near_duplicates import NearDuplicates


def split_rows(config: Config, fold: str, table: Targets) -> FoldRows:
    """The rows of a fold of a run.

    Args:
        config: says how samples are divided.
        fold: one of ``fold_names`` or ``calibration_folds``.
        table: the samples.

    Raises:
        UserError: no such fold, or it cannot be made from these samples.
    """
    drawn: dict[str, Any] = config.training.model_dump(include={"validation_fraction", "seed"})
    if fold not in (folds := [*fold_names(config), *calibration_folds(config)]):
        raise UserError(f"no fold `{fold}`; there are {join_some(folds)}")
    if fold in CALIBRATION:
        return split_calibration(table.system, table.values, fold=fold, **drawn)
    if config.split == "systems":
        return split_fold(table.system, read_systems(config.systems)[fold], **drawn, fold=fold)
    groups = near_duplicates(config, table).groups
    if config.given_split:
        if table.split is None:
            raise UserError(f"`split: {config.split}`: the source does not say how rows divide")
        return split_given(table.system, table.split, groups, **drawn)
    return split_random(table.formula, groups, **drawn)


def near_duplicates(config: Config, table: Targets) -> "NearDuplicates":
    """The nearly equal compositions of a table."""
    from hclmp.data.near_duplicates import NearDuplicates  # half a second to import, for SciPy

    left_out = config.targets.left_out
    return NearDuplicates.of(parse_formulas(table.formula, left_out=left_out, origin="targets"))
