"""Which baseline a variant is compared with, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from hclmp.config import Config, VariantConfig
from hclmp.evaluation.ratio import FEWEST_SYSTEMS
from hclmp.evaluation.verdict import Comparison, compare

ERRORS = {
    "hclmp_t": 0.25,
    "hclmp": 0.29,
    "trees_t": 0.28,
    "ridge_t": 0.4,
    "trees": 0.3,
    "mean": 0.7,
}


def of(
    errors: dict[str, float], *, low: float = 0.8, high: float = 0.9, systems: int = 20
) -> dict[str, Comparison]:
    """Variants whose name ends in `_t` have the DOS; those that start with `hclmp` are H-CLMP."""
    variants = {
        name: VariantConfig.model_construct(
            model="hclmp" if name.startswith("hclmp") else "extra_trees",
            transfer=name.endswith("_t"),
        )
        for name in errors
    }
    config = Config().model_copy(update={"variants": variants})
    rows = {name: {"mae_std": error} for name, error in errors.items()}
    for name in errors:
        ends = {f"mae_std_vs_{o}_{e}": v for o in errors for e, v in (("low", low), ("high", high))}
        rows[name] |= {} if systems < FEWEST_SYSTEMS else ends
    return compare(config, pd.DataFrame(rows).T, systems=systems)


def test_a_variant_is_compared_with_the_best_baseline_of_the_same_information() -> None:
    found = of(ERRORS)
    baselines = {v: c.baseline for v, c in found.items()}
    assert baselines == {
        "hclmp_t": "trees_t",
        "hclmp": "trees",
        "trees_t": "trees_t",
        "ridge_t": "trees_t",
        "trees": "trees",
        "mean": "trees",
    }
    assert found["hclmp_t"].ratio == pytest.approx(0.25 / 0.28)
    assert found["hclmp_t"].against == "trees_t"
    text, tone = found["hclmp_t"].verdict()
    assert tone == "good"
    assert text.startswith(
        "hclmp_t is better than the best baseline with the same information, trees_t: its error is "
        "0.250 training standard deviations against 0.280, 11 % smaller (ratio 0.89, 95 % interval "
        "0.80 to 0.90)."
    )
    assert found["hclmp"].verdict()[0].startswith("hclmp is better than the best baseline, trees:")


def test_a_baseline_that_was_not_given_the_dos_is_said_to_lack_it() -> None:
    found = of({v: e for v, e in ERRORS.items() if v not in ("trees_t", "ridge_t")})
    assert found["hclmp_t"].baseline == "trees"
    assert found["hclmp_t"].against == "trees, without the DOS"
    assert "trees (which was not given the density of states): its" in found["hclmp_t"].verdict()[0]
    assert "information" not in found["hclmp_t"].verdict()[0]
    assert found["hclmp"].against == "trees"
    more = of({"hclmp": 0.29, "trees_t": 0.28})["hclmp"]
    assert more.against == "trees_t, with the DOS"
    assert "trees_t (which was given the density of states): its" in more.verdict()[0]


def test_the_bar_is_the_best_of_all_even_if_it_ignores_the_dos() -> None:
    found = of({**ERRORS, "trees": 0.22})["hclmp_t"]
    assert found.baseline == found.against == "trees"
    text, _ = found.verdict()
    assert "trees (without the density of states it does no worse than with it): its" in text
    assert of({**ERRORS, "trees_t": 0.2})["hclmp"].baseline == "trees", "it has no DOS to use"


def test_better_worse_or_neither() -> None:
    found = of(ERRORS)["hclmp"]
    for low, high, words, tone in (
        (0.8, 0.9, "hclmp is better than the best baseline, trees: its", "good"),
        (1.1, 1.3, "hclmp is worse than the best baseline, trees: its", "bad"),
        (0.9, 1.1, "hclmp and the best baseline, trees, do not differ significantly: its", "plain"),
    ):
        text = replace(found, low=low, high=high).verdict()
        assert text[0].startswith(words)
        assert text[1] == tone
        assert f"95 % interval {low:.2f} to {high:.2f})." in text[0]
    assert replace(found, low=1.1, high=1.3).verdict()[0].endswith(" Use trees.")


def test_without_an_interval_there_is_no_verdict() -> None:
    text, tone = of(ERRORS, systems=FEWEST_SYSTEMS - 1)["hclmp"].verdict()
    assert tone == "plain"
    assert "(ratio 0.97). 7 held-out systems are too few to say which model is better: 8" in text
    assert "nan" not in text
    assert "better than" not in text


def test_without_a_baseline_there_is_nothing_to_compare_with() -> None:
    assert of({"hclmp": 0.3, "hclmp_t": 0.2}) == {}


def test_metrics_json_has_it() -> None:
    for systems in (4, 20):
        for found in of(ERRORS, systems=systems).values():
            text = json.dumps(found.as_json(), allow_nan=False)
            assert Comparison.from_json(json.loads(text)) == found
            assert json.loads(text)["ratio"] == pytest.approx(found.ratio)


def test_a_baseline_without_any_error_has_no_ratio_to_it() -> None:
    """As a median of 0 of held-out metals, which have no gap."""
    found = of({"hclmp": 0.3, "mean": 0.0}, systems=5)["hclmp"]
    text, tone = found.verdict()
    assert "0.300 training standard deviations against 0.000 (no ratio)" in text
    assert tone == "plain"
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["ratio"] is None
