"""Whether the folds of a run suit its table: said at once, not hours later in a training."""

from collections.abc import Iterable, Sequence

import numpy as np

from hclmp.config import Config
from hclmp.data.folds import FoldRows, split_fold
from hclmp.data.tables import Floats, varied
from hclmp.errors import UserError, join_some


def check_folds(
    folds: Iterable[tuple[str, FoldRows]], values: Floats, properties: Sequence[str]
) -> None:
    """Check that every fold has something to learn, and every property something to test.

    Args:
        folds: the name and the rows of each fold.
        values: [n, L], NaN where missing; each column has two different values.
        properties: the L names.

    Raises:
        UserError: names the fold and the properties.
    """
    tested = np.zeros(values.shape[1], dtype=np.int64)
    for fold, rows in folds:
        tested += (~np.isnan(values[rows.test])).sum(axis=0)
        if constant := _chosen(properties, ~varied(values[rows.train])):
            raise UserError(
                f"fold `{fold}` leaves {len(rows.train)} training samples, in which "
                f"{join_some(constant)} has fewer than two different values. Hold out fewer "
                "systems per fold, or leave the property out."
            )
    if untested := _chosen(properties, tested == 0):
        raise UserError(
            f"no held-out sample has a value of {join_some(untested)}, so that its predictions "
            "cannot be judged. Hold out other systems (--min-samples, --elements-per-system), or "
            "leave the property out."
        )


def check_sheet(
    systems: Sequence[str],
    sheet: dict[str, str],
    values: Floats | None = None,
    properties: Sequence[str] = (),
) -> None:
    """Check a new sheet of held-out systems, with the default training settings.

    Args:
        systems, sheet: the system of each of n samples, and the fold of each system.
        values, properties: [n, L] and the L names, where they are known.

    Raises:
        UserError: ``prepare-targets`` would refuse the sheet.
    """
    defaults = Config().training.model_dump(include={"validation_fraction", "seed"})
    folds = (
        (fold, split_fold(systems, [s for s in sheet if sheet[s] == fold], **defaults, fold=fold))
        for fold in sorted(set(sheet.values()))
    )
    check_folds(folds, np.empty((len(systems), 0)) if values is None else values, properties)


def _chosen(names: Sequence[str], chosen: Iterable[bool]) -> list[str]:
    return [name for name, c in zip(names, chosen, strict=True) if c]
