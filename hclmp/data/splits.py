"""The rows of a fold of a run, however its samples are divided."""

from collections.abc import Sequence
from typing import Any

from hclmp.config import Config
from hclmp.data.folds import (
    FoldRows,
    fold_names,
    read_systems,
    split_fold,
    split_given,
    split_random,
)
from hclmp.errors import UserError, join_some


def split_rows(
    config: Config, fold: str, *, systems: Sequence[str], given: Sequence[str] | None
) -> FoldRows:
    """The rows of a fold of a run.

    Args:
        config: says how samples are divided.
        fold: one of ``fold_names``.
        systems: the system of each sample.
        given: what the table itself says, where it does.

    Raises:
        UserError: no such fold, or it cannot be made from these samples.
    """
    drawn: dict[str, Any] = config.training.model_dump(include={"validation_fraction", "seed"})
    if fold not in (folds := fold_names(config)):
        raise UserError(f"no fold `{fold}`; there are {join_some(folds)}")
    if config.split == "systems":
        return split_fold(systems, read_systems(config.systems)[fold], **drawn, fold=fold)
    if config.given_split:
        if given is None:
            raise UserError(f"`split: {config.split}`: the source does not say how rows divide")
        return split_given(systems, given, **drawn)
    return split_random(len(systems), **drawn)
