"""What there are jobs for: variants, folds, and what a generator of DOS may serve."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from hclmp.config import Config
from hclmp.data.folds import CALIBRATION, calibration_folds, fold_names, held_out_systems

Scope = tuple[str, ...]
"""What one job of a step is for: () the whole run, (fold,), or (variant, fold)."""


def own_calibration_folds(config: Config) -> list[str]:
    """The folds of the final variant beside those of the evaluation."""
    return [fold for fold in calibration_folds(config) if fold in CALIBRATION]


def _final(config: Config) -> list[str]:
    """The final variant, if there is one."""
    return [] if config.final_variant is None else [config.final_variant]


def evaluated(config: Config) -> list[Scope]:
    """The trainings whose held-out samples are the evaluation: every variant on every fold."""
    return list(product(config.variants, fold_names(config)))


def trained(config: Config) -> list[Scope]:
    """All trainings: those of the evaluation, and of the final variant's calibration."""
    return evaluated(config) + list(product(_final(config), own_calibration_folds(config)))


def training_batches(config: Config) -> list[tuple[list[str], list[str]]]:
    """Variants of H-CLMP with the folds that are one job of each, as ``training.folds_per_job``."""
    own = own_calibration_folds(config)
    parts = ((config.neural, fold_names(config)), (_final(config), own))
    size = config.training.folds_per_job
    return [
        (variants, folds[start : start + size])
        for variants, folds in parts
        for start in range(0, len(folds), size)
    ]


def evaluation_scopes(config: Config) -> list[Scope]:
    """What the evaluation has generators, encoders and features for: each fold, or all together.

    With `dos.held_out: drop` those of a fold are made without the DOS of its systems. Those of the
    final model have seen all DOS.
    """
    return list(dict.fromkeys(config.scope_of(fold) for fold in fold_names(config)))


def calibration_scopes(config: Config) -> list[Scope]:
    """What the calibration needs beside them."""
    if not (config.final_transfers and config.generator_per_fold):
        return []
    return [(fold,) for fold in own_calibration_folds(config)]


def shared_scopes(config: Config) -> list[Scope]:
    """What there are features for."""
    return evaluation_scopes(config) + calibration_scopes(config)


def dos_scopes(config: Config, users: Sequence[str]) -> list[Scope]:
    """What a generator or encoder is trained for, that serves these variants."""
    if not users:
        return []
    if config.final_variant not in users:
        return evaluation_scopes(config)
    return list(dict.fromkeys([*shared_scopes(config), ()]))  # the final model has seen all DOS


def features_scope(config: Config, variant: str, fold: str) -> Scope:
    """Whose features and encoder a training reads."""
    if fold in CALIBRATION and not config.variants[variant].transfer:
        fold = fold_names(config)[0]  # but for the DOS feature all features are equal
    return config.scope_of(fold)


def held_out_by(config: Config, fold: str) -> dict[str, Any]:
    """The settings that determine what a fold holds out: systems of the sheet, or drawn ones."""
    if fold in CALIBRATION:
        return {"fold": fold, "systems": [], "drawn_by": config.training.seed}
    return {"fold": fold, "systems": list(held_out_systems(config)[fold])}


def dos_seen(config: Config, scope: Scope) -> dict[str, Any]:
    """The settings that determine which DOS are learned from: all, or those a fold may see."""
    seen = {"held_out": config.dos.held_out, "left_out": config.targets.left_out}
    return seen | (held_out_by(config, *scope) if scope else {})


def split_of_rows(config: Config) -> dict[str, Any]:
    """The settings that determine what a table says of its split.

    That is which nearly equal compositions a split of single rows divides; none of systems.
    """
    given = {"given_split": config.given_split}
    if config.split == "systems":
        return given
    drawn = {} if config.given_split else {"split_seed": config.training.seed}
    return given | {"split": config.split} | drawn
