"""Formulas: what they mean does not depend on how they are written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.data.composition import pad, vocabulary_of
from hclmp.data.formula import composition_key, parse_formula, parse_formulas, system_of
from hclmp.errors import UserError

ELEMENTS = ("Al", "Co", "Cu", "Fe", "H", "Mn", "N", "Na", "O", "S", "Sc", "Si", "Ti", "W", "Zr")
AMOUNTS = st.dictionaries(
    st.sampled_from(ELEMENTS), st.integers(min_value=1, max_value=40), min_size=1, max_size=5
)


def formula(amounts: dict[str, int], scale: int = 1) -> str:
    return "".join(f"{element}{scale * amount}" for element, amount in amounts.items())


@given(AMOUNTS)
@settings(max_examples=60, deadline=None)
def test_fractions_are_amounts_over_their_sum(amounts: dict[str, int]) -> None:
    fractions = parse_formula(formula(amounts))
    total = sum(amounts.values())
    assert fractions == pytest.approx({e: a / total for e, a in amounts.items()})
    assert sum(fractions.values()) == pytest.approx(1.0)
    assert list(fractions) == sorted(amounts)


@given(AMOUNTS, st.randoms(use_true_random=False), st.integers(min_value=2, max_value=7))
@settings(max_examples=60, deadline=None)
def test_order_and_scale_change_nothing(amounts: dict[str, int], random: object, k: int) -> None:
    shuffled = list(amounts.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    written = parse_formula(formula(amounts))
    for other in (formula(dict(shuffled)), formula(amounts, scale=k)):
        assert composition_key(parse_formula(other)) == composition_key(written)
        assert system_of(parse_formula(other)) == system_of(written)


@given(AMOUNTS.filter(lambda amounts: set(amounts) - {"O", "H"}))
@settings(max_examples=40, deadline=None)
def test_left_out_elements_do_not_matter(amounts: dict[str, int]) -> None:
    rest = {e: a for e, a in amounts.items() if e not in ("O", "H")}
    fractions = parse_formula(formula(amounts), left_out=["O", "H"])
    assert fractions == pytest.approx(parse_formula(formula(rest)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fe2O3", {"Fe": 0.4, "O": 0.6}),
        (" Fe2O3 ", {"Fe": 0.4, "O": 0.6}),
        ("(Fe0.5Ti0.5)2O3", {"Fe": 0.2, "O": 0.6, "Ti": 0.2}),
        ("Fe0.25Ti0.5W0.25", {"Fe": 0.25, "Ti": 0.5, "W": 0.25}),
        ("Fe0Ti", {"Ti": 1.0}),
        ("NaN", {"Na": 0.5, "N": 0.5}),
        ("Fe₂O₃", {"Fe": 0.4, "O": 0.6}),
        ("Fe₀.₅Ti₁.₅", {"Fe": 0.25, "Ti": 0.75}),
        ("Na2SO4(H2O)10", {"Na": 2 / 37, "S": 1 / 37, "O": 14 / 37, "H": 20 / 37}),
        ("Fe0.5H2O0.5", {"Fe": 1 / 6, "H": 4 / 6, "O": 1 / 6}),
        ("Ni0.5H2O", {"Ni": 1 / 7, "H": 4 / 7, "O": 2 / 7}),
        ("Fe0.5Ni0.5H2O", {"Fe": 1 / 8, "Ni": 1 / 8, "H": 4 / 8, "O": 2 / 8}),
        ("FeO3.05H2O", {"Fe": 1 / 7.05, "O": 4.05 / 7.05, "H": 2 / 7.05}),
        ("CaSO4.H2O", {"Ca": 1 / 9, "S": 1 / 9, "O": 5 / 9, "H": 2 / 9}),
        ("H2OFe2O3.5", {"Fe": 2 / 8.5, "O": 4.5 / 8.5, "H": 2 / 8.5}),
        ("Fe70.2Si29.8", {"Fe": 0.702, "Si": 0.298}),
        (
            "LaSr0.4Co0.2Fe0.8O3.2",
            {"La": 1 / 5.6, "Sr": 0.4 / 5.6, "Co": 0.2 / 5.6, "Fe": 0.8 / 5.6, "O": 3.2 / 5.6},
        ),
        ("Fe.5Ti.5O3", {"Fe": 1 / 8, "Ti": 1 / 8, "O": 6 / 8}),
        ("Ca10(PO4)5.5(OH)2", {"Ca": 10 / 41.5, "P": 5.5 / 41.5, "O": 24 / 41.5, "H": 2 / 41.5}),
    ],
)
def test_formulas_as_people_write_them(text: str, expected: dict[str, float]) -> None:
    assert parse_formula(text) == pytest.approx(expected)


def test_equal_compositions_have_equal_keys_and_others_do_not() -> None:
    key = composition_key(parse_formula("FeTi2"))
    assert key == composition_key(parse_formula("Ti4Fe2"))
    assert key != composition_key(parse_formula("Fe0.3333Ti0.6667"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Xx2O3", "no real element: Xx"),
        ("X2O", "no real element: X"),
        ("fe2o3", "does not parse"),
        ("FeOe", "does not parse"),
        ("Fe(", "does not parse"),
        ("Fe-2O3", "negative"),
        ("123", "does not parse"),
        ("", "is not a formula"),
        ("  ", "is not a formula"),
        (None, "is not a formula"),
        (float("nan"), "is not a formula"),
        ("Fe1e500", "not a finite number"),
        ("Fe0", "'Fe0' has no element left"),
    ],
)
def test_what_is_no_formula_is_refused(text: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_formula(text)


@pytest.mark.parametrize(
    ("text", "water", "otherwise"),
    [
        ("Na2SO4.10H2O", "(H2O)10", "H2ONa2SO4.10"),
        ("Na2SO4.10 (H2O)", "(H2O)10", "H2ONa2SO4.10"),
        ("Ba(OH)2.8H2O", "(H2O)8", "H2OBa(OH)2.8"),
        ("Fe2O3.5H2O", "(H2O)5", "H2OFe2O3.5"),
        ("FeO.5H2O", "(H2O)5", "H2OFeO.5"),
        ("Fe10.5H2O", "(H2O)5", "H2OFe10.5"),
        ("Na₂SO₄.10H₂O", "(H2O)10", "H2ONa2SO4.10"),
        ("CaSO4.0.5H2O", "(H2O)0.5", None),
        ("CuSO4·5H2O", "(H2O)5", None),
        ("CuSO4 * 5 H2O", "(H2O)5", None),
        ("CuSO4·H2O", "(H2O)", None),
        ("CaSO4·½H2O", "(H2O)0.5", None),
    ],
)
def test_a_dot_before_water_is_no_decimal_point(
    text: str, water: str, otherwise: str | None
) -> None:
    """pymatgen reads Na2SO4.10H2O as O4.10 and H2O."""
    with pytest.raises(ValueError, match="write the hydrate as") as caught:
        parse_formula(text)
    assert f"`{water}`" in str(caught.value)
    assert ("decimal point" in str(caught.value)) == (otherwise is not None)
    if otherwise is not None:
        assert f"`{otherwise}`" in str(caught.value)
        parse_formula(otherwise)


@pytest.mark.parametrize(
    ("text", "one", "decimal"),
    [
        ("Al2O3.2SiO2", "Al2O3(SiO2)2", "Al2O5.2Si1"),
        ("K2O.2TiO2", "K2O(TiO2)2", "K2O2.2Ti1"),
        ("Fe2O3.3TiO2", "Fe2O3(TiO2)3", "Fe2O5.3Ti1"),
        ("CaCl2.2NH3", "CaCl2(NH3)2", "Ca1Cl2.2N1H3"),
        ("Al₂O₃.2SiO₂", "Al2O3(SiO2)2", "Al2O5.2Si1"),
        ("CaSO4.2CaCl2", "CaSO4(CaCl2)2", "Ca2S1O4.2Cl2"),
        ("Al2O3.2(SiO2)", "Al2O3((SiO2))2", "Al2O5.2Si1"),
        ("Ca2O2.2TiO2.3SiO2", "Ca2O2(TiO2)2(SiO2)3", "Ca2O6.5Ti1Si1"),
    ],
)
def test_a_dot_before_a_compound_is_no_decimal_point(text: str, one: str, decimal: str) -> None:
    """pymatgen reads Al2O3.2SiO2 as Al2, O3.2 and SiO2."""
    with pytest.raises(ValueError, match="the dot joins compounds") as caught:
        parse_formula(text)
    for written in (one, decimal):
        assert f"`{written}`" in str(caught.value)
        parse_formula(written)


@pytest.mark.parametrize(
    "text", ["Al2O3·2SiO2", "MgO.Al2O3", "3CaO.SiO2", "MgO-Al2O3", "Li2O–SiO2", "2(Fe2O3)"]
)
def test_compounds_that_are_joined_are_to_be_written_as_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not parse.*write one formula: `Al2Si2O7`"):
        parse_formula(text)


def test_a_charge_is_no_amount() -> None:
    with pytest.raises(ValueError, match="does not parse"):
        parse_formula("Fe³")


def test_a_message_does_not_speak_of_leaving_out_nothing() -> None:
    with pytest.raises(ValueError, match=r"has no element left once O is left out$"):
        parse_formula("O2", left_out=["O"])
    with pytest.raises(ValueError, match=r"has no element left$"):
        parse_formula("O0", left_out=[])


def test_all_bad_rows_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_formulas(["Fe", "Xx", "Ti", "?"], origin="file.csv")
    message = str(caught.value)
    assert message.startswith("file.csv: row 2: ")
    assert "row 4: " in message
    assert "row 1" not in message


def test_what_is_left_out_must_be_an_element() -> None:
    with pytest.raises(UserError, match="ox is no element"):
        parse_formulas(["Fe2O3"], left_out=["ox"], origin="file.csv")


def test_padded_arrays_hold_what_was_parsed() -> None:
    parsed = [parse_formula(f) for f in ("Fe2O3", "Ti", "Fe0.25Ti0.5W0.25")]
    vocabulary = vocabulary_of(parsed)
    padded = pad(parsed, vocabulary)
    assert vocabulary == ("Fe", "O", "Ti", "W")
    assert padded.elements.shape == padded.fractions.shape == (3, 3)
    expected = [[fractions.get(e, 0.0) for e in vocabulary] for fractions in parsed]
    np.testing.assert_allclose(padded.dense(), expected, rtol=1e-6)
    assert padded.systems() == [system_of(fractions) for fractions in parsed]
    taken = padded.take(np.array([2, 0]))
    np.testing.assert_array_equal(taken.dense(), padded.dense()[[2, 0]])


def test_an_element_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="elements W are unknown here; known are: Fe Ti"):
        pad([{"W": 1.0}], ("Fe", "Ti"))
