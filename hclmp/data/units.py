"""Units: text that pint understands, checked when it is read."""

import functools
import math
import re
from typing import Any

from hclmp.errors import UserError

# Things that are counted in materials science: units for us, but not for pint.
COUNTED = ("states", "atom", "cation", "cell", "formula_unit", "bin")
# Shares of different things, none of which is another; pint reads `at` as a technical atmosphere.
SHARES = {"wt%": "weight_percent", "at%": "atomic_percent", "mol%": "mole_percent"}
OTHERS = ("emu = 1e-3 * ampere * meter ** 2",)  # magnetic moment in Gaussian units


def check_unit(unit: str, where: str) -> None:
    """Check that a unit can be read; an empty one is fine.

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


def same_unit(one: str, other: str) -> bool:
    """Whether two texts mean the same unit: ``1/cm`` and ``cm^-1``, but not ``eV`` and ``meV``."""
    if one.strip() == other.strip():
        return True
    try:
        first, second = (_registry().parse_expression(u) for u in (one, other))
        ratio = (first / second).to_root_units()
        # by name: to pint, everything that is counted is one dimensionless unit
        return not ratio.unit_items() and math.isclose(ratio.magnitude, 1.0, rel_tol=1e-9)
    except Exception:  # no unit, which `check_unit` reports, or one with an offset
        return False


@functools.cache
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry()
    for definition in (*(f"{name} = []" for name in (*COUNTED, *SHARES.values())), *OTHERS):
        registry.define(definition)
    registry.preprocessors.insert(0, _with_named_shares)  # before pint's own, which splits off `%`
    return registry


def _with_named_shares(text: str) -> str:
    for share, name in SHARES.items():
        text = re.sub(rf"\b{share}", name, text)
    return text
