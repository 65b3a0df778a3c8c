"""The questions that a screen can be asked, and those that it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from hclmp.data.tables import Property
from hclmp.errors import UserError
from hclmp.screening.question import Question

PROPERTIES = (
    Property("gap", "eV"),
    Property("rate", "1/s", "log10"),
    Property("alpha", "1/cm"),
    Property("cost", "", "log10"),
)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "0 goals"),
        ({"maximize": ("gap", "rate"), "minimize": ("alpha",)}, "3 goals .gap, rate, alpha."),
        ({"maximize": ("gap",), "minimize": ("gap",)}, "`gap` is a goal twice"),
        ({"maximize": ("gpa",)}, "no property `gpa`; the model predicts gap, rate, alpha, cost"),
        ({"maximize": ("gap",), "where": ("alpha=2",)}, "--where 'alpha=2': write PROPERTY<VALUE"),
        ({"maximize": ("gap",), "where": ("alpha==2",)}, "--where 'alpha==2'"),
        ({"maximize": ("gap",), "where": ("alpha!=2",)}, "--where 'alpha!=2'"),
        ({"maximize": ("gap",), "where": ("alpha",)}, "--where 'alpha'"),
        ({"maximize": ("gap",), "where": ("<2",)}, "--where '<2'"),
        ({"maximize": ("gap",), "where": ("0.1<gap<0.2",)}, "property first; two conditions for"),
        ({"maximize": ("gap",), "where": ("0.1<gap",)}, "property first; two conditions for"),
        ({"maximize": ("gap",), "where": ("gap>0.1<0.2",)}, "property first; two conditions for"),
        ({"maximize": ("gap",), "where": ("-1e-3<gap",)}, "property first; two conditions for"),
        ({"maximize": ("gap",), "where": ("beta<2",)}, "no property `beta`"),
        ({"maximize": ("gap",), "where": ("2theta<2",)}, "no property `2theta`"),
        ({"maximize": ("gap",), "where": ("alpha<two",)}, "'two' is not a finite number"),
        ({"maximize": ("gap",), "where": ("alpha<nan",)}, "'nan' is not a finite number"),
        ({"maximize": ("gap",), "where": ("rate<0",)}, "always positive"),
        ({"maximize": ("gap",), "where": ("alpha<1", "alpha>2")}, "no value is left"),
    ],
)
def test_what_makes_no_question_is_named(asked: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Question.of(PROPERTIES, **asked)


def test_conditions_may_be_written_with_blanks_and_equal_signs() -> None:
    asked = Question.of(
        PROPERTIES, maximize=("gap",), where=(" alpha <= 2.5 ", "rate >=1e-3", "alpha>-1")
    )
    bounds = {PROPERTIES[c.column].name: (c.low, c.high) for c in asked.conditions}
    assert bounds["alpha"] == pytest.approx((-1.0, 2.5))
    assert bounds["rate"] == pytest.approx((1e-3, np.inf))
