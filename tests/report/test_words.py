"""Sentences that follow the numbers, and numbers that are thinned out and rounded."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hclmp.data.tables import Property
from hclmp.evaluation.ratio import FEWEST_SYSTEMS, too_few
from hclmp.evaluation.report import data
from hclmp.evaluation.report.run import Run
from hclmp.evaluation.report.words import (
    Finding,
    about_dos,
    findings,
    what_is_given,
    what_is_held_out,
)
from tests.made_up.predictions import predictions
from tests.report.conftest import Made

ELEMENTS = ["Co", "Cr", "Cu", "Fe", "Mn", "Mo", "Nb", "Ni", "Ti"]


@pytest.fixture
def run(demo: Made) -> Run:
    return demo.run


def changed(run: Run, variant: str, **metrics: float) -> Run:
    """The same run with other metrics over all properties."""
    summary = run.summary.copy()
    for metric, value in metrics.items():
        rows = (summary["variant"] == variant) & (summary["property"] == "all")
        assert (rows & (summary["metric"] == metric)).any()
        summary.loc[rows & (summary["metric"] == metric), "value"] = value
    return replace(run, summary=summary)


def against_trees(run: Run, low: float, high: float, *, systems: int = FEWEST_SYSTEMS) -> Finding:
    """The first sentence where the trees are the best baseline and the interval is this one."""
    rows = [
        (v, f"Co-{i}", "all", "mae_std", 1.0, "", 1) for v in run.frames for i in range(systems)
    ]
    run = replace(run, by_system=pd.DataFrame(rows, columns=run.by_system.columns))
    run = changed(run, "mean", mae_std=9.0)
    ends = {"mae_std_vs_extra_trees_low": low, "mae_std_vs_extra_trees_high": high}
    return findings(changed(run, "hclmp_t", **ends))[0]


def test_better_worse_or_neither_as_the_interval_says(run: Run) -> None:
    better = against_trees(run, 0.6, 0.8)
    assert better.tone == "good"
    beside = "the best baseline, extra_trees (which was not given the density of states)"
    assert better.text.startswith(f"hclmp_t is better than {beside}: its")
    assert "95 % interval 0.60 to 0.80)" in better.text
    worse = against_trees(run, 1.1, 1.3)
    assert worse.tone == "bad"
    assert worse.text.startswith(f"hclmp_t is worse than {beside}: its")
    neither = against_trees(run, 0.9, 1.1)
    assert neither.tone == "plain"
    assert "do not differ significantly" in neither.text


@pytest.mark.parametrize("systems", [1, FEWEST_SYSTEMS - 1])
def test_few_systems_are_no_ground_for_a_verdict(run: Run, systems: int) -> None:
    found = against_trees(run, np.nan, np.nan, systems=systems)
    assert found.tone == "plain"
    assert found.text.startswith("hclmp_t beside the best baseline, extra_trees (which was not")
    assert too_few(systems) in found.text
    for word in ("interval ", "better than", "worse than", "nan", "significantly"):
        assert word not in found.text.replace(too_few(systems), "")


def test_a_model_without_error_has_no_interval(run: Run) -> None:
    found = against_trees(run, np.nan, np.nan)
    assert found.tone == "plain"
    assert "too few" not in found.text
    assert "nan" not in found.text


def of_intervals(run: Run, held: dict[str, tuple[int, int]]) -> Finding:
    """What is said of intervals that hold so many of so many compositions of these systems.

    Their labels are drawn in any order, so that the extremes are not special.
    """
    rows = [
        (f"{system}{i}", system, i < inside)
        for system, (inside, n) in held.items()
        for i in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["sample_id", "system", "held"])
    frame["t_true"] = np.random.default_rng(1).permutation(len(frame)).astype(float)
    frame = frame.assign(property="alpha", t_pred=frame["t_true"], y_true=frame["t_true"])
    frame["t_low"] = np.where(frame["held"], frame["t_true"] - 1, frame["t_true"] + 0.5)
    frame["t_high"] = frame["t_low"] + 2
    run = changed(run, "hclmp_t", coverage90=frame["held"].mean(), width90_std=1.23)
    run = replace(run, frames=run.frames | {"hclmp_t": frame})
    (found,) = [f for f in findings(run) if "90 % intervals" in f.text]
    assert "mean width is 1.23 standard deviations" in found.text
    return found


def test_intervals_too_narrow_right_or_wide(run: Run) -> None:
    systems = ("Co-Fe-Mo", "Co-Cu-Nb", "Fe-Mn-Ti", "Cr-Cu-Ni")
    right = of_intervals(run, dict.fromkeys(systems, (91, 100)))
    assert right.tone == "good"
    assert "contain 91 % of the values" in right.text
    assert "about right, and no property or system is clearly different" in right.text
    narrow = of_intervals(run, dict.fromkeys(systems, (70, 100)))
    assert narrow.tone == "bad"
    assert "They are too narrow: too narrow for" in narrow.text
    wide = of_intervals(run, dict.fromkeys(systems, (95, 100)))
    assert wide.tone == "plain"
    assert wide.text.endswith("They are too wide.")
    few = of_intervals(run, dict.fromkeys(systems, (4, 5)))
    assert few.tone == "plain"
    assert "20 compositions are too few to say whether that is wrong" in few.text


def test_intervals_that_are_right_on_average_alone_are_not_called_right(run: Run) -> None:
    held = dict.fromkeys(("Co-Fe-Mo", "Co-Cu-Nb", "Fe-Mn-Ti"), (100, 100)) | {"Cr-Nb-Ti": (63, 100)}
    found = of_intervals(run, held | {"Co-Ti-Zr": (2, 4)})
    assert found.tone == "bad"
    assert "contain 90 % of the values" in found.text
    assert (
        "right on average, but wrong in parts: too narrow for Cr-Nb-Ti (63 % of 100" in found.text
    )
    assert "too wide for " in found.text
    assert "Co-Ti-Zr" not in found.text, "which is chance"
    assert "about right" not in found.text


def test_the_extremes_of_the_values_are_named(run: Run) -> None:
    frame = large(run, systems=20, each=50, properties=1).frames["hclmp_t"]
    top = frame["t_true"] > frame["t_true"].quantile(0.95)
    frame = frame.assign(t_low=frame["t_true"] - 1, t_high=frame["t_true"] + 1)
    frame.loc[top & (np.arange(len(frame)) % 10 < 3), "t_low"] = 1e9
    frame.loc[~top & (np.arange(len(frame)) % 12 == 0), "t_low"] = 1e9
    coverage = float((frame["t_low"] < 1e9).mean())
    run = changed(run, "hclmp_t", coverage90=coverage)
    run = replace(run, frames=run.frames | {"hclmp_t": frame})
    (found,) = [f for f in findings(run) if "90 % intervals" in f.text]
    assert "wrong in parts: too narrow for the highest 5 % of the values (" in found.text


def test_uncertainty_that_tells_and_one_that_does_not(run: Run) -> None:
    for certain, words in ((0.5, "Do not trust"), (0.98, "says little")):
        found = findings(changed(run, "hclmp_t", mae_std=1.0, mae_std_certain=certain))
        assert any(words in f.text for f in found), certain


def test_elements_of_large_errors_are_named(run: Run) -> None:
    """Nb is in four systems of ten times the error of the others."""
    systems = [f"Co-{a}-{b}" for a, b in itertools.combinations(["Cr", "Fe", "Mn", "Nb"], 2)]
    systems += ["Cu-Nb-Ti"]
    rows = [
        (variant, system, "all", "mae_std", 1.0 if "Nb" in system else 0.1, "", 1)
        for variant in run.frames
        for system in systems
    ]
    run = replace(run, by_system=pd.DataFrame(rows, columns=run.by_system.columns))
    (warning,) = [f for f in findings(run) if f.text.startswith("Systems containing")]
    assert "Systems containing Nb (1.00) have larger errors (average: 0.61)" in warning.text


def test_what_is_held_out_follows_the_split(run: Run) -> None:
    assert "of 4 chemical systems, each predicted by a model that was trained" in (
        what_is_held_out(run)
    )
    random = replace(run, config=run.config.model_copy(update={"split": "random"}))
    assert "not hold for systems that nobody has made yet" in what_is_held_out(random)


def test_what_the_predictions_are_made_from(run: Run, eight: Made) -> None:
    assert what_is_given(eight.run) == "from the composition"
    assert about_dos(eight.run) == "no variant uses densities of states"
    kept = replace(run, own_dos=17)
    own = f"17 of the {run.samples} held-out compositions were given their own simulated"
    assert own in what_is_given(kept)
    assert about_dos(kept).startswith("the generator may have seen computed DOS of held-out")
    assert own in about_dos(kept)
    dos = run.config.dos.model_copy(update={"held_out": "drop"})
    dropped = replace(run, own_dos=None, config=run.config.model_copy(update={"dos": dos}))
    assert what_is_given(dropped).endswith("a density of states generated from it")
    assert "has seen no DOS of its held-out systems" in about_dos(dropped)


def large(run: Run, *, systems: int, each: int, properties: int) -> Run:
    """The run with made-up predictions of one variant."""
    found = tuple(Property(f"p{i}", "GPa") for i in range(properties))
    frame = predictions(found, systems=systems, each=each)
    variants = {"hclmp_t": run.config.variants["hclmp_t"]}
    config = run.config.model_copy(update={"variants": variants})
    return replace(run, config=config, properties=found, frames={"hclmp_t": frame}, covariances={})


def test_of_many_systems_the_sixty_largest(run: Run) -> None:
    many = large(run, systems=84, each=2, properties=1)
    frame = many.frames["hclmp_t"]
    system = frame["system"].mask(frame["system"] == "Cu-Mn-Ti", "Nb-Ni-Ti")  # twice as large
    frame = pd.concat([frame.assign(system=system), frame.iloc[:90].assign(system="Fe-Ti")])
    frame["sample_id"] = [f"s{i}" for i in range(len(frame))]
    chosen = data.systems_in_full(replace(many, frames={"hclmp_t": frame}))
    assert len(chosen) == data.MOST_SYSTEMS
    assert chosen == sorted(chosen)
    assert "Nb-Ni-Ti" in chosen, "the largest"
    assert "Fe-Ti" not in chosen, "those with a map come first"


def test_many_points_are_thinned_out_and_always_alike(run: Run) -> None:
    many = large(run, systems=60, each=60, properties=50)
    parity, details = data._parity(many), data._details(many)
    assert parity["of"] == 3600
    assert parity["most"] == 1500
    assert all(len(x) == 1500 for x, _ in parity["points"]["hclmp_t"])
    cells = sum(len(d["formulas"]) * 50 for d in details.values())
    assert 0.9 * data.MOST_VALUES < cells <= data.MOST_VALUES
    assert all(d["of"] == 60 for d in details.values())
    assert data._parity(many) == parity
    more = large(run, systems=60, each=60, properties=150)
    assert data._parity(more)["most"] == 1000


def test_rounding_keeps_four_digits_and_what_is_not_known() -> None:
    values = np.array([0.0, 123456.0, 0.000123456, -3.14159, np.nan, np.inf, 1e-300])
    assert data.numbers(values) == [0.0, 123500.0, 0.0001235, -3.142, None, None, 1e-300]
    drawn = np.random.default_rng(0).lognormal(0, 3, 4000)
    assert data.numbers(drawn) == pytest.approx(drawn, rel=5.1e-4)
    assert max(len(repr(v)) for v in data.numbers(drawn)) < 10
    assert data.numbers(np.array([[1.0, 2.0]])) == [[1.0, 2.0]]


def test_evenly_takes_all_or_the_first_the_last_and_between() -> None:
    assert data.evenly(3, 5).tolist() == [0, 1, 2]
    assert data.evenly(101, 3).tolist() == [0, 50, 100]
    assert data.evenly(0, 3).tolist() == []
