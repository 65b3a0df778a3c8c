"""The results in sentences, for someone who wants to use the predictions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hclmp.errors import join_some
from hclmp.evaluation.coverage import EXTREME, RIGHT_COVERAGE, Part, is_chance, parts, wrong
from hclmp.evaluation.metrics import SET_ASIDE
from hclmp.evaluation.report.run import Run
from hclmp.evaluation.verdict import Tone

MOST_NAMED = 3  # parts of one kind whose intervals are wrong
INFORMATIVE = 0.9  # largest ratio of the certain samples' error to that of all samples
NOTABLE = 1.25  # an element is named if its mean error is so many times that of all systems
FEWEST_SYSTEMS_OF_ELEMENT = 3
DOS = {
    "not used": "no variant uses densities of states",
    "keep": "the generator may have seen computed DOS of held-out systems, as in the paper",
    "drop": "every fold has a generator of its own, which has seen no DOS of its held-out systems",
    "pretrained": "the generator was pretrained elsewhere: what it has seen is not known here",
}


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is good news."""

    text: str
    tone: Tone = "plain"


def findings(run: Run) -> list[Finding]:
    """Whether the model is better than the baselines, and where not to trust it."""
    found = [_against_baseline(run), _by_property(run), _by_system(run), _elements(run)]
    return [finding for finding in (*found, _coverage(run), _certainty(run)) if finding]


def what_is_held_out(run: Run) -> str:
    """Which samples the errors are of."""
    labels = "simulated" if run.simulated else "measured"
    samples = f"{run.samples:,} {labels} compositions"
    return {
        "systems": f"{samples} of {len(run.errors):,} chemical systems, each predicted by a model "
        "that was trained without any composition of that system",
        "random": f"{samples} drawn at random. Their systems are in the training data, so the "
        "errors do not hold for systems that nobody has made yet",
        "column": f"{samples} that the table itself sets aside. Whether their systems are in the "
        "training data depends on the table",
    }[run.config.split]


def what_is_given(run: Run) -> str:
    """What the predictions are made from."""
    if not run.config.transfers:
        return "from the composition"
    if run.own_dos is None:
        return "from the composition and, with transfer, a density of states generated from it"
    return f"from the composition and, with transfer, a density of states ({_own_dos(run)})"


def about_dos(run: Run) -> str:
    """What the generator has seen of the held-out systems."""
    config = run.config
    seen = config.dos.held_out if config.pretrains else "pretrained"
    text = DOS[seen if config.transfers else "not used"]
    return text if run.own_dos is None else f"{text}; {_own_dos(run)}"


def _own_dos(run: Run) -> str:
    kind = "simulated" if run.dos and run.dos["facts"].get("simulated") else "computed"
    return (
        f"{run.own_dos:,} of the {run.samples:,} held-out compositions were given their own {kind} "
        "one"
    )


def _against_baseline(run: Run) -> Finding:
    if run.baseline is None:
        return Finding("There is no baseline in this run to compare the model with.")
    if not run.config.neural:
        text = f"There is no H-CLMP in this run; {run.baseline} is the best of its baselines."
        return Finding(text)
    return Finding(*run.comparisons[run.shown].verdict())


def _by_property(run: Run) -> Finding | None:
    if run.baseline is None or not run.config.neural or len(run.properties) == 1:
        return None
    table = run.by_property["mae_std"]
    worse = [
        p.name for p in run.properties if table[(run.shown, p.name)] > table[(run.baseline, p.name)]
    ]
    if not worse:
        return Finding(
            f"Its error is smaller for each of {len(run.properties)} properties.", "good"
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
    text = f"{worst} have the largest errors; the median system has {errors.median():.2f}."
    if run.baseline is not None and run.config.neural:
        better = int((run.errors[run.shown] < run.errors[run.baseline]).sum())
        text = f"It beats {run.baseline} in {better:,} of {len(errors):,} systems. {text}"
    return Finding(text)


def _elements(run: Run) -> Finding | None:
    errors = run.errors[run.shown]
    pairs = [(e, error) for system, error in errors.items() for e in str(system).split("-")]
    grouped = pd.DataFrame(pairs, columns=["element", "error"]).groupby("element")["error"]
    mean = errors.mean()
    means = grouped.mean()[grouped.size() >= FEWEST_SYSTEMS_OF_ELEMENT]
    notable = means[means > NOTABLE * mean].sort_values(ascending=False, kind="stable")
    if notable.empty:
        return None
    names = join_some((f"{element} ({error:.2f})" for element, error in notable.items()), most=6)
    return Finding(f"Systems containing {names} have larger errors (average: {mean:.2f}).", "bad")


def _coverage(run: Run) -> Finding:
    row = run.overall.loc[run.shown].to_dict()
    frame = run.frames[run.shown]
    whole = Part("values", "all", float(row["coverage90"]), run.samples)
    text = (
        f"The 90 % intervals of {run.shown} contain {100 * whole.coverage:.0f} % of the values; "
        f"their mean width is {row['width90_std']:.2f} standard deviations of the training labels."
    )
    in_parts = wrong(parts(frame[frame["y_true"].notna()]))
    names = _named(in_parts)
    narrow = any(part.difference < 0 for part in in_parts)
    if abs(whole.difference) <= RIGHT_COVERAGE:
        if not in_parts:
            right = "about right, and no property or system is clearly different"
            return Finding(f"{text} That is {right}.", "good")
        right = f"right on average, but wrong in parts: {names}"
        return Finding(f"{text} That is {right}.", "bad" if narrow else "plain")
    if is_chance(whole) and not in_parts:
        return Finding(f"{text} {whole.n:,} compositions are too few to say whether that is wrong.")
    side = "narrow" if whole.difference < 0 else "wide"
    text += f" They are too {side}{': ' if names else ''}{names}."
    return Finding(text, "bad" if whole.difference < 0 or narrow else "plain")


def _named(found: list[Part]) -> str:
    """Where the intervals are too narrow and where too wide, the worst of each kind of part."""
    texts = []
    for side, sign in (("narrow", -1), ("wide", 1)):
        worst = sorted(found, key=lambda part: -abs(part.difference))
        chosen = [part for part in worst if sign * part.difference > 0]
        kinds = [
            [part for part in chosen if part.kind == k] for k in ("values", "property", "system")
        ]
        names = [join_some(map(_described, kind), most=MOST_NAMED) for kind in kinds if kind]
        if names:
            texts.append(f"too {side} for {'; for '.join(names)}")
    return "; ".join(texts)


def _described(part: Part) -> str:
    share = f"{100 * part.coverage:.0f} % of {part.n:,} compositions"
    if part.kind == "values":
        return f"the {part.name} {100 * EXTREME:.0f} % of the values ({share})"
    return f"{part.name} ({share})"


def _certainty(run: Run) -> Finding:
    row = run.overall.loc[run.shown].to_dict()
    share = float(row["mae_std_certain"] / row["mae_std"])
    set_aside = (
        f"without the least certain {100 / SET_ASIDE:.0f} % of the compositions the error is "
        f"{row['mae_std_certain']:.3f} instead of {row['mae_std']:.3f}."
    )
    if np.isfinite(share) and share < INFORMATIVE:
        return Finding(f"Do not trust predictions with a wide interval: {set_aside}", "good")
    return Finding(f"The width of an interval says little about the error: {set_aside}")
