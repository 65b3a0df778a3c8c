"""Units: text that pint understands, checked where it enters."""

import functools
from typing import Any

from hclmp.errors import UserError

# What is counted in materials science, and is no physical unit.
COUNTED = ("states", "atom", "cation", "cell", "formula_unit", "bin")


def check_unit(unit: str, where: str) -> None:
    """Check that a unit can be read; none at all is fine.

    Args:
        unit: such as ``GPa``, ``1/cm``, ``states/eV/atom``, ``W/m/K``, ``1e5/cm``.
        where: what has that unit, for the message.

    Raises:
        UserError: pint does not know it.
    """
    if not unit:
        return
    try:
        _registry().parse_expression(unit)
    except Exception as error:  # pint's parser lets errors of many kinds through
        raise UserError(
            f"{where}: unit {unit!r} cannot be read{f' ({error})' if str(error) else ''}. Write it "
            "as pint reads it (`GPa`, `1/cm`, `W/m/K`, `states/eV/atom`), or leave it empty."
        ) from error


@functools.cache
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry()
    for name in COUNTED:
        registry.define(f"{name} = []")
    return registry
