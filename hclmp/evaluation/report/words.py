"""What the numbers say, in sentences for someone who wants to use the predictions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from hclmp.errors import join_some
from hclmp.evaluation.metrics import COVERAGE, SET_ASIDE
from hclmp.evaluation.report.run import Run

FEW_SYSTEMS = 8  # a bootstrap over fewer is no ground for a verdict
RIGHT_COVERAGE = 0.03  # so far from 90 % is about right
TELLING = 0.9  # the certain ones' share of the error from which on the uncertainty tells little
NOTABLE = 1.25  # times the mean error, from which on an element is worth a warning
FEWEST_SYSTEMS_OF_ELEMENT = 3
DOS = {
    "not used": "no variant uses densities of states",
    "keep": "the generator may have seen computed DOS of held-out systems, as in the paper",
    "drop": "every fold has a generator of its own, which has seen no DOS of its held-out systems",
}


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is good news."""

    text: str
    tone: Literal["good", "bad", "plain"] = "plain"


def findings(run: Run) -> list[Finding]:
    """Is the model better than the baselines, and where not to trust it."""
    found = [_against_baseline(run), _by_property(run), _by_system(run), _elements(run)]
    return [finding for finding in (*found, _coverage(run), _certainty(run)) if finding]


def what_is_held_out(run: Run) -> str:
    """What the errors are errors of."""
    labels = "simulated" if run.simulated else "measured"
    samples = f"{run.samples:,} {labels} compositions"
    return {
        "systems": f"{samples} of {len(run.errors):,} chemical systems, each predicted by a model "
        "that was trained without any composition of that system",
        "random": f"{samples} drawn at random. Their systems are in the training data, so the "
        "errors say nothing of systems that nobody has made yet",
        "column": f"{samples} that the table itself sets aside. Whether their systems are in the "
        "training data is the table's affair",
    }[run.config.split]


def _against_baseline(run: Run) -> Finding:
    shown, baseline = run.shown, run.baseline
    error = run.overall["mae_std"]
    if baseline is None:
        return Finding("There is no baseline in this run: how good the model is cannot be said.")
    if not run.neural:
        return Finding(f"There is no H-CLMP in this run; {baseline} is the best of its baselines.")
    ratio, low, high = run.ratio(shown, baseline)
    systems = len(run.errors)
    size = (
        f"its error is {error[shown]:.3f} training standard deviations against "
        f"{error[baseline]:.3f}, {ratio:.2f} times as large"
    )
    if systems < 2:
        return Finding(
            f"Whether {shown} is better than the best baseline, {baseline}, cannot be said from "
            f"one system: {size}."
        )
    numbers = f"{size} (95 % interval {low:.2f} to {high:.2f})."
    if systems < FEW_SYSTEMS:
        return Finding(
            f"{shown} beside the best baseline, {baseline}: {numbers} That rests on {systems} "
            "systems alone, which are too few to say which is better."
        )
    if high < 1:
        return Finding(f"{shown} is better than the best baseline, {baseline}: {numbers}", "good")
    if low > 1:
        return Finding(
            f"{shown} is worse than the best baseline, {baseline}: {numbers} Use that one.", "bad"
        )
    return Finding(f"{shown} and the best baseline, {baseline}, cannot be told apart: {numbers}")


def _by_property(run: Run) -> Finding | None:
    if run.baseline is None or not run.neural or len(run.properties) == 1:
        return None
    table = run.by_property["mae_std"]
    worse = [
        p.name for p in run.properties if table[(run.shown, p.name)] > table[(run.baseline, p.name)]
    ]
    if not worse:
        return Finding(
            f"Its error is the smaller for each of the {len(run.properties)} properties.", "good"
        )
    return Finding(
        f"{run.baseline} is better for {len(worse)} of {len(run.properties)} properties: "
        f"{join_some(worse, most=8)}.",
        "bad",
    )


def _by_system(run: Run) -> Finding | None:
    errors = run.errors[run.shown].sort_values(ascending=False, kind="stable")
    if len(errors) < 2:
        return None
    worst = join_some(
        (f"{system} ({error:.2f})" for system, error in errors.head(3).items()), most=3
    )
    text = f"The largest errors are those of {worst}; the median system has {errors.median():.2f}."
    if run.baseline is not None and run.neural:
        better = int((run.errors[run.shown] < run.errors[run.baseline]).sum())
        text = f"It beats {run.baseline} in {better:,} of {len(errors):,} systems. {text}"
    return Finding(text)


def _elements(run: Run) -> Finding | None:
    errors = run.errors[run.shown]
    pairs = [(e, error) for system, error in errors.items() for e in str(system).split("-")]
    grouped = pd.DataFrame(pairs, columns=["element", "error"]).groupby("element")["error"]
    means = grouped.mean()[grouped.size() >= FEWEST_SYSTEMS_OF_ELEMENT]
    notable = means[means > NOTABLE * errors.mean()].sort_values(ascending=False, kind="stable")
    if notable.empty:
        return None
    names = join_some((f"{element} ({error:.2f})" for element, error in notable.items()), most=6)
    return Finding(f"Take care with systems that hold {names}: mean errors in brackets.", "bad")


def _coverage(run: Run) -> Finding:
    found = float(run.overall["coverage90"][run.shown])
    text = f"The 90 % intervals of {run.shown} hold {100 * found:.0f} % of the values"
    if abs(found - COVERAGE) <= RIGHT_COVERAGE:
        return Finding(f"{text}: about right.", "good")
    if found < COVERAGE:
        return Finding(
            f"{text}: they are too narrow, the truth is outside more often than they say.", "bad"
        )
    return Finding(f"{text}: they are wider than need be.")


def _certainty(run: Run) -> Finding:
    row = run.overall.loc[run.shown].to_dict()
    share = float(row["mae_std_certain"] / row["mae_std"])
    set_aside = (
        f"without the least certain {100 / SET_ASIDE:.0f} % of the compositions the error is "
        f"{row['mae_std_certain']:.3f} instead of {row['mae_std']:.3f}."
    )
    if np.isfinite(share) and share < TELLING:
        return Finding(f"A wide interval is a warning worth heeding: {set_aside}", "good")
    return Finding(f"The widths of the intervals hardly tell good predictions apart: {set_aside}")
