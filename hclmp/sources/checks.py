"""What a table of targets must fulfil before anything is learned from it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hclmp.data.tables import PREDICTED, RANKED, Floats, varied
from hclmp.data.units import check_unit
from hclmp.errors import UserError, join_some
from hclmp.sources.raw import RawTargets


def check_names(raw: RawTargets) -> None:
    """Raise a UserError where a property is named like another column of predictions or screens."""
    names = [p.name for p in raw.properties]
    taken = {*PREDICTED, *RANKED}
    taken |= {f"{name}{end}" for name in names for end in ("_std", "_low", "_high")}
    if bad := [name for name in names if name in taken]:
        raise UserError(
            f"{raw.origin}: a property cannot be called {join_some(bad)}, which is the name of "
            "another column of a prediction. Rename the column."
        )


def check_values(raw: RawTargets) -> None:
    """Raise a UserError where values do not suit unit or transform, or noise is negative."""
    for i, prop in enumerate(raw.properties):
        check_unit(prop.unit, f"{raw.origin}: property `{prop.name}`")
        values, noise = raw.values[:, i], raw.noise[:, i]
        if prop.transform == "log10" and (bad := _rows(values, values <= 0)):
            raise UserError(
                f"{raw.origin}: column `{prop.name}` is to be learned as log10, but is not "
                f"positive in {bad}. Correct these rows, or set its `transform: identity`."
            )
        low, high = prop.range()
        if bad := _rows(values, (values < low) | (values > high)):
            raise UserError(
                f"{raw.origin}: column `{prop.name}` is not from {low:g} to {high:g} in "
                f"{bad}. Correct these rows, or `minimum` and `maximum` in `targets.properties`."
            )
        if bad := _rows(noise, noise < 0):
            raise UserError(
                f"{raw.origin}: column `{prop.name}_std` is a standard deviation, but negative in "
                f"{bad}. Correct or remove these rows, or leave the column out."
            )


def _rows(values: Floats, wrong: NDArray[np.bool_]) -> str:
    return join_some(f"row {i + 1} ({values[i]:g})" for i in np.flatnonzero(wrong))


def check_spread(origin: str, properties: Sequence[str], values: Floats) -> None:
    """Raise a UserError where a property has less than two different values: [n, L], or NaN."""
    if constant := [p for p, v in zip(properties, varied(values), strict=True) if not v]:
        raise UserError(
            f"{origin}: {join_some(constant)} has one value in every row: there is nothing to "
            "learn. Leave it out (`targets.properties` names the columns to use)."
        )
