"""Formulas to fractions of elements, which is all that a model sees of a material."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from hclmp.errors import UserError, join_some

# Fractions that agree to so many decimals are one composition: FeTi2 and Fe2Ti4, but not 0.3333 Fe.
DECIMALS = 6
# Not the compatibility form of Unicode: that would take the charge of Fe³ for an amount.
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
# Na2SO4.10H2O, which pymatgen reads as O4.10 and H2O. Not Fe0.5H2O, whose dot follows an amount of
# 0, nor O3.05H2O, nor CaSO4.H2O, which it reads well.
HYDRATE = re.compile(
    r"(?P<salt>.+?)\s*(?P<dot>[.·•⋅∙*])\s*(?P<n>[1-9]\d*|\d+\.\d+|½)?\s*(H2O|\(H2O\))"
)
NO_AMOUNT = re.compile(r"[^\d.]0+$")
ELEMENT = re.compile("[A-Z][a-z]?")
# Al2O3.2SiO2, which pymatgen reads as O3.2 and SiO2: what may be a decimal point, between elements.
JOINT = re.compile(
    r"(?P<left>[A-Z][a-z]?|\))(?:[1-9]\d*)?(?P<dot>\.)(?P<m>[1-9]\d?)(?=(?P<right>[A-Z][a-z]?|\())"
)
# Al2O3·2SiO2, MgO-Al2O3, 3CaO.SiO2: what pymatgen does not read.
JOINED = re.compile(r"^\d+\(?[A-Z]|[A-Za-z\d)]\s*[.·•⋅∙*+–—-]\s*[\d½]*\(?[A-Z]")


Fractions = dict[str, float]
"""Element symbol -> fraction; the fractions are positive and sum to 1."""


def parse_formula(formula: object, *, left_out: Sequence[str] = ()) -> Fractions:
    """Fractions of a formula's elements, less those left out, normalised to sum 1.

    Any formula that pymatgen reads: ``Fe2O3``, ``(Fe0.5Ti0.5)2O3``, ``Fe0.25Ti0.5W0.25``. Digits
    may be subscripts.

    Raises:
        ValueError: the text is no formula, may be several joined by a dot, names no real element,
            or nothing is left of it.
    """
    from pymatgen.core.composition import Composition  # a second to import
    from pymatgen.core.periodic_table import Element

    if not isinstance(formula, str) or not formula.strip():
        raise ValueError(f"{formula!r} is not a formula")
    text = formula.strip().translate(SUBSCRIPTS)
    _refuse_hydrate(text)
    try:
        amounts = Composition(text).get_el_amt_dict()
    except (ValueError, KeyError, TypeError) as error:
        one = "; write one formula: `Al2Si2O7` for `Al2O3·2SiO2`" if JOINED.search(text) else ""
        raise ValueError(f"{formula!r} does not parse as a formula ({error}){one}") from error
    if unknown := [symbol for symbol in amounts if not Element.is_valid_symbol(symbol)]:
        raise ValueError(f"{formula!r} names no real element: {join_some(unknown)}")
    if not all(np.isfinite(amount) for amount in amounts.values()):
        raise ValueError(f"{formula!r} has an amount that is not a finite number")
    _refuse_joined(text, amounts)
    kept = {e: a for e, a in amounts.items() if e not in set(left_out) and a > 0}
    total = sum(kept.values())
    if not kept:
        without = f" once {join_some(left_out)} is left out" if left_out else ""
        raise ValueError(f"{formula!r} has no element left{without}")
    return {element: kept[element] / total for element in sorted(kept)}


def _refuse_hydrate(text: str) -> None:
    """Refuse a dot before the water of a hydrate, which reads as a decimal point."""
    if not (found := HYDRATE.fullmatch(text)):
        return
    point, n = found["dot"] == ".", (found["n"] or "").replace("½", "0.5")
    if point and (not n or NO_AMOUNT.search(found["salt"])):
        return
    other = ""
    if point and "." not in n:
        water_first = f"H2O{found['salt']}.{n}"
        other = f", or, if the dot is a decimal point, the water first: `{water_first}`"
    raise ValueError(f"{text!r}: write the hydrate as `(H2O){n}`, without dot{other}")


def _refuse_joined(text: str, amounts: Fractions) -> None:
    """Refuse a dot that may join two compounds, but was read as a decimal point."""
    joints = [joint for joint in JOINT.finditer(text) if _may_join(text, joint)]
    if not joints:
        return
    ends = [*(joint.start("dot") for joint in joints[1:]), len(text)]
    one = text[: joints[0].start("dot")] + "".join(
        f"({text[j.end('m') : end]}){j['m']}" for j, end in zip(joints, ends, strict=True)
    )
    decimal = formula_text(list(amounts), amounts.values())
    raise ValueError(
        f"{text!r}: if the dot joins compounds, write `{one}`; if it is a decimal point, write "
        f"each element once: `{decimal}`"
    )


def _may_join(text: str, joint: re.Match[str]) -> bool:
    """Whether an element beside a dot is on both sides of it, or ammonia is behind it."""
    after = text[joint.end("m") :]
    left = set(ELEMENT.findall(text[: joint.start("dot")]))
    both = left & set(ELEMENT.findall(after))
    return bool({joint["left"], joint["right"]} & both) or after in ("NH3", "(NH3)")


def formula_text(elements: Sequence[str], amounts: Iterable[float]) -> str:
    """A formula of elements and their amounts, those of 0 left out: ``Fe0.25Ti0.75``."""
    # ten digits: thirds come back as thirds to the precision of `composition_key`
    texts = [f"{x:.10f}".rstrip("0").rstrip(".") for x in amounts]
    return "".join(f"{e}{text}" for e, text in zip(elements, texts, strict=True) if text != "0")


def parse_formulas(
    formulas: Sequence[object], *, left_out: Sequence[str] = (), origin: str
) -> list[Fractions]:
    """Parse a column of formulas, reporting every bad row at once.

    Args:
        formulas, origin: n formulas, and the file and column that they are from.
        left_out: elements dropped before fractions are normalised (oxygen, for cation fractions).

    Raises:
        UserError: names the rows (data rows counted from 1) whose formula cannot be used, or what
            is to be left out but is no element.
    """
    from pymatgen.core.periodic_table import Element

    if unknown := [e for e in left_out if not Element.is_valid_symbol(e)]:
        raise UserError(f"elements to be left out: {join_some(unknown)} is no element")
    parsed, bad = [], []
    for row, formula in enumerate(formulas, start=1):
        try:
            parsed.append(parse_formula(formula, left_out=left_out))
        except ValueError as error:
            bad.append(f"row {row}: {error}")
    if bad:
        raise UserError(f"{origin}: {join_some(bad)}. Correct or remove these rows.")
    return parsed


def system_of(fractions: Fractions) -> str:
    """The chemical system: elements, alphabetical, joined by ``-`` (``Fe-Ti-W``)."""
    return "-".join(sorted(fractions))


def composition_key(fractions: Fractions) -> tuple[tuple[str, float], ...]:
    """What makes two formulas the same composition, to ``DECIMALS`` decimals of each fraction."""
    return tuple((element, round(fractions[element], DECIMALS)) for element in sorted(fractions))
