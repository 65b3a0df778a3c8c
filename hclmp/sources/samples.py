"""From the rows of a source to samples: one per composition, each with a label."""

from dataclasses import replace

import numpy as np
import pandas as pd

from hclmp.data.formula import Fractions, composition_key, system_of
from hclmp.data.tables import Targets
from hclmp.errors import UserError
from hclmp.provenance import Provenance
from hclmp.sources.raw import RawTargets, row_names


def labelled_rows(
    raw: RawTargets, parsed: list[Fractions]
) -> tuple[RawTargets, list[Fractions], int]:
    """The rows that have any label, and how many have none.

    Raises:
        UserError: no row has one.
    """
    kept = np.flatnonzero(~np.isnan(raw.values).all(axis=1))
    if (unlabelled := len(parsed) - len(kept)) == 0:
        return raw, parsed, 0
    if not len(kept):
        raise UserError(f"{raw.origin}: no row has a value of any property")
    labelled = replace(
        raw,
        # rows are named by their place in the file, also when others are left out
        sample_id=[(raw.sample_id or row_names(len(parsed)))[i] for i in kept],
        formula=[raw.formula[i] for i in kept],
        values=raw.values[kept],
        noise=raw.noise[kept],
        split=None if raw.split is None else [raw.split[i] for i in kept],
    )
    return labelled, [parsed[i] for i in kept], unlabelled


def merge_rows(raw: RawTargets, parsed: list[Fractions], origin: Provenance) -> Targets:
    """Merge the rows of one composition by the median of the values and of their noise.

    Rows that the source puts into different parts of its split are not merged.

    Args:
        raw, parsed: n rows, each with a label, and their fractions.
        origin: the provenance of the table.
    """
    index: dict[tuple[object, str], int] = {}
    parts = raw.split or [""] * len(parsed)
    keys = [(composition_key(f), part) for f, part in zip(parsed, parts, strict=True)]
    groups = np.array([index.setdefault(key, len(index)) for key in keys])
    first = np.unique(groups, return_index=True)[1]  # groups are numbered as they first appear
    # The noise of a missing value is of no interest. That of a merged value is not divided by the
    # root of the number of rows: nobody knows whether their errors are independent.
    of_values = np.where(np.isnan(raw.values), np.nan, raw.noise)
    values, noise = (
        pd.DataFrame(rows).groupby(groups).median().to_numpy() for rows in (raw.values, of_values)
    )
    names = raw.sample_id or row_names(len(parsed))
    return Targets(
        sample_id=[names[i] for i in first],
        formula=[str(raw.formula[i]) for i in first],
        system=[system_of(parsed[i]) for i in first],
        properties=raw.properties,
        values=values,
        noise=noise,
        simulated=raw.simulated,
        provenance=origin | {"origin": raw.facts},
        split=None if raw.split is None else [raw.split[i] for i in first],
    )
