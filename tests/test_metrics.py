"""Metrics against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.config import Config
from hclmp.data.tables import Property
from hclmp.evaluation import metrics
from hclmp.evaluation.metrics import SUMMARY_COLUMNS, SYSTEM_COLUMNS, by_system, unit_of
from hclmp.evaluation.verdict import compare
from tests.conftest import Command
from tests.made_up.predictions import with_interval

WITHOUT_UNIT = {"r2", "mae_std", "mae_std_certain", "coverage90", "width90_std", "nll"}
BASIC = {"mae", "rmse", "width90"} | WITHOUT_UNIT
LINEAR = {"mae_linear", "rmse_linear", "r2_linear", "width90_linear"}
PROPERTIES = (Property("gap", "eV"), Property("rate", "1/s", "log10"))


def summarise(
    frames: dict[str, pd.DataFrame], learned: dict[str, dict[str, pd.DataFrame]] | None = None
) -> pd.DataFrame:
    return metrics.summarise(frames, PROPERTIES, learned)


def tiny() -> pd.DataFrame:
    """Two properties, three samples, two systems; `gap` is linear, `rate` is log10."""
    frame = pd.DataFrame(
        {
            "sample_id": ["a", "b", "c"] * 2,
            "system": ["Fe-Ti", "Fe-Ti", "Fe-W"] * 2,
            "fold": "fold-1",
            "property": ["gap"] * 3 + ["rate"] * 3,
            "t_true": [1.0, 2.0, 4.0, 0.0, 1.0, 2.0],
            "t_pred": [1.5, 2.0, 3.0, 0.0, 2.0, 2.0],
            "t_std_aleatoric": [0.3, 0.3, 0.3, 1.0, 1.0, 1.0],
            "t_std_epistemic": [0.4, 0.4, 0.4, 0.0, 0.0, 0.0],
            "train_std": [2.0, 2.0, 2.0, 0.5, 0.5, 0.5],
        }
    )
    decades = frame["property"] == "rate"
    for kind in ("true", "pred"):
        values = frame[f"t_{kind}"]
        frame[f"y_{kind}"] = np.where(decades, 10.0**values, values)
    frame = with_interval(frame)
    for end in ("low", "high"):
        frame[f"y_{end}"] = np.where(decades, 10.0 ** frame[f"t_{end}"], frame[f"t_{end}"])
    return frame


def noisy(seed: int, size: float, systems: int = 12) -> pd.DataFrame:
    """Errors of about one size, on the same samples whatever the seed."""
    rng = np.random.default_rng(seed)
    n = systems * 4
    true = np.random.default_rng(99).normal(size=2 * n)
    pred = true + size * rng.normal(size=2 * n)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)] * 2,
            "system": [f"Fe-X{i % systems}" for i in range(n)] * 2,
            "property": ["gap"] * n + ["rate"] * n,
            "t_true": true,
            "t_pred": pred,
            "y_true": true,
            "y_pred": pred,
            "t_std_aleatoric": size,
            "t_std_epistemic": 0.0,
            "train_std": 1.0,
        }
    )
    return with_interval(frame)


def values(summary: pd.DataFrame, variant: str, prop: str) -> dict[str, float]:
    rows = summary.query("variant == @variant and property == @prop")
    assert not rows["metric"].duplicated().any()
    return dict(zip(rows["metric"], rows["value"], strict=True))


def gaussian_nll(deviations: list[float], std: float) -> float:
    squares = [(d / std) ** 2 for d in deviations]
    return math.log(std * math.sqrt(2 * math.pi)) + sum(squares) / (2 * len(squares))


def test_metrics_of_one_property_by_hand() -> None:
    summary = summarise({"v": tiny()})
    assert list(summary) == SUMMARY_COLUMNS
    gap = values(summary, "v", "gap")
    assert set(gap) == BASIC
    assert gap["mae"] == pytest.approx(0.5)  # errors 0.5, 0 and 1
    assert gap["rmse"] == pytest.approx(math.sqrt(1.25 / 3))
    spread = sum((t - 7 / 3) ** 2 for t in (1.0, 2.0, 4.0))
    assert gap["r2"] == pytest.approx(1 - 1.25 / spread)
    assert gap["mae_std"] == pytest.approx(0.25)
    # the standard deviation is hypot(0.3, 0.4) = 0.5; its 90 % interval is 0.822 to either side
    assert gap["coverage90"] == pytest.approx(2 / 3)
    assert gap["width90"] == pytest.approx(2 * 0.5 * 1.6448536)
    assert gap["width90_std"] == pytest.approx(0.5 * 1.6448536)
    # deviation and standard deviation both over train_std = 2
    assert gap["nll"] == pytest.approx(gaussian_nll([0.25, 0.0, -0.5], 0.25))


def test_a_log10_property_is_judged_in_both_spaces_and_they_are_labelled() -> None:
    summary = summarise({"v": tiny()})
    rate = values(summary, "v", "rate")
    assert set(rate) == BASIC | LINEAR
    assert rate["mae"] == pytest.approx(1 / 3)  # one decade, once in three
    assert rate["rmse"] == pytest.approx(math.sqrt(1 / 3))
    assert rate["r2"] == pytest.approx(1 - 1 / 2)
    assert rate["mae_linear"] == pytest.approx(90 / 3)  # 100 for 10
    assert rate["rmse_linear"] == pytest.approx(math.sqrt(90**2 / 3))
    assert rate["r2_linear"] == pytest.approx(1 - 90**2 / (36**2 + 27**2 + 63**2))
    assert rate["mae_std"] == pytest.approx(1 / 0.5 / 3)
    assert rate["coverage90"] == 1.0
    assert rate["width90"] == pytest.approx(2 * 1.6448536)
    ends = [10.0 ** (t + sign * 1.6448536) for t in (0, 2, 2) for sign in (-1, 1)]
    assert rate["width90_linear"] == pytest.approx((sum(ends[1::2]) - sum(ends[::2])) / 3)
    assert rate["width90_std"] == pytest.approx(2 * 1.6448536 / 0.5)
    assert rate["nll"] == pytest.approx(gaussian_nll([0.0, 2.0, 0.0], 2.0))
    units = summary.set_index(["property", "metric"])["unit"]
    assert units["gap", "mae"] == "eV"
    assert units["rate", "mae"] == units["rate", "rmse"] == units["rate", "width90"] == "decades"
    assert units["rate", "mae_linear"] == units["rate", "rmse_linear"] == "1/s"
    assert {*units["rate"][["r2", "r2_linear", "mae_std"]], *units["all"]} == {""}


def test_all_is_the_mean_over_properties_of_what_has_no_unit() -> None:
    summary = summarise({"v": tiny()})
    gap, rate, mean = (values(summary, "v", prop) for prop in ("gap", "rate", "all"))
    assert set(mean) == WITHOUT_UNIT | {"nll_joint"}
    for name in WITHOUT_UNIT:
        assert mean[name] == pytest.approx((gap[name] + rate[name]) / 2)
    assert set(summary["n"]) == {3}


A, B = Property("a", "eV"), Property("b", "eV")
LOG, OTHER_LOG = Property("c", "1/s", "log10"), Property("d", "GPa", "log10")


@pytest.mark.parametrize(
    ("properties", "mae", "mae_linear", "r2_linear"),
    [
        ((A,), "eV", None, None),
        ((A, B), "eV", None, None),
        ((A, Property("b", "GPa")), None, None, None),
        ((A, Property("c", "eV", "log10")), None, None, None),
        ((Property("a"),), "", None, None),
        ((Property("a"), Property("b")), None, None, None),  # units that nobody knows
        ((LOG,), "decades", "1/s", ""),
        ((LOG, Property("d", "1/s", "log10")), "decades", "1/s", ""),
        ((LOG, OTHER_LOG), "decades", None, ""),
    ],
)
def test_a_mean_over_properties_needs_one_unit(
    properties: tuple[Property, ...], mae: str, mae_linear: str, r2_linear: str
) -> None:
    assert unit_of("mae", properties) == unit_of("rmse", properties) == mae
    assert unit_of("mae_linear", properties) == mae_linear
    assert unit_of("r2_linear", properties) == r2_linear
    assert unit_of("r2", properties) == unit_of("mae_std", properties) == ""


def test_properties_of_one_unit_have_a_mean_error() -> None:
    frame = tiny()
    same = (Property("gap", "eV"), Property("rate", "eV"))
    frame["y_true"], frame["y_pred"] = frame["t_true"], frame["t_pred"]
    summary = metrics.summarise({"v": frame}, same)
    assert values(summary, "v", "all")["mae"] == pytest.approx((0.5 + 1 / 3) / 2)
    table = by_system({"v": frame}, same).query("property == 'all' and metric == 'mae'")
    assert table["value"].tolist() == pytest.approx([(0.25 + 0.5) / 2, 0.5])
    assert set(table["unit"]) == {"eV"}


def correlated(r: float) -> pd.DataFrame:
    return pd.DataFrame([[1.0, r], [r, 1.0]], ["gap", "rate"], ["gap", "rate"])


def test_joint_nll_by_hand() -> None:
    """A Gaussian of two variables, written out; the third sample has one label."""
    frame = tiny().drop(index=5)  # the rate of sample c
    r = 0.6
    # deviations over the standard deviations 0.5 and 1: (1, 0), (0, 1), -2
    squares = [1 / (1 - r**2), 1 / (1 - r**2), 4]
    together = [2 * math.log(2 * math.pi) / 2 + math.log(1 - r**2) / 2 + s / 2 for s in squares[:2]]
    alone = math.log(2 * math.pi) / 2 + squares[2] / 2
    # standardised: the standard deviations over train_std are 0.25, three times, and 2, twice
    scales = 3 * math.log(0.25) + 2 * math.log(2.0)
    summary = summarise({"v": frame}, {"v": {"fold-1": correlated(r)}})
    found = values(summary, "v", "all")["nll_joint"]
    assert found == pytest.approx((sum(together) + alone + scales) / 5)


def test_joint_nll_of_independent_labels_is_nll() -> None:
    frame = tiny()
    learned = {"none": {"fold-1": correlated(0.0)}}
    summary = summarise({"baseline": frame, "none": frame}, learned)
    for variant in ("baseline", "none"):
        mean = values(summary, variant, "all")
        assert mean["nll_joint"] == pytest.approx(mean["nll"])


def test_joint_nll_is_least_for_the_true_correlation() -> None:
    rng = np.random.default_rng(0)
    frame = noisy(1, 0.7, systems=200).assign(fold="fold-1")
    drawn = rng.multivariate_normal([0, 0], 0.49 * correlated(0.8).to_numpy(), size=len(frame) // 2)
    frame["t_pred"] = frame["t_true"] + drawn.T.ravel()

    def nll(r: float) -> float:
        summary = summarise({"v": frame}, {"v": {"fold-1": correlated(r)}})
        return values(summary, "v", "all")["nll_joint"]

    assert nll(0.8) < min(nll(0.6), nll(0.9), nll(0.0))
    assert nll(0.0) == pytest.approx(values(summarise({"v": frame}), "v", "all")["nll"])


def test_joint_nll_takes_the_correlation_of_each_fold() -> None:
    """A property without a label in a fold; folds in any order."""
    frame = noisy(1, 0.7).assign(fold=lambda f: np.where(f["system"] < "Fe-X2", "fold-1", "fold-2"))
    frame = frame[~((frame["fold"] == "fold-1") & (frame["property"] == "rate"))]
    learned = {"fold-2": correlated(0.5), "fold-1": correlated(-0.9)}
    whole = values(summarise({"v": frame}, {"v": learned}), "v", "all")["nll_joint"]
    parts = [
        (values(summarise({"v": part}, {"v": learned}), "v", "all")["nll_joint"], len(part))
        for _, part in frame.groupby("fold")
    ]
    assert len(parts) == 2
    assert whole == pytest.approx(sum(v * n for v, n in parts) / len(frame))


def of_four(**uncertain: float) -> dict[str, pd.DataFrame]:
    """Four samples, two properties; the error of sample `d` is 3 and 5, of the others 1."""
    frame = pd.DataFrame(
        {
            "sample_id": list("abcd") * 2,
            "system": ["Fe-Ti", "Fe-Ti", "Fe-W", "Fe-W"] * 2,
            "property": ["gap"] * 4 + ["rate"] * 4,
            "t_true": 0.0,
            "t_pred": [1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 5.0],
            "t_std_aleatoric": 0.3,
            "t_std_epistemic": 0.4,
            "train_std": [1.0] * 4 + [0.5] * 4,
        }
    )
    frame["y_true"], frame["y_pred"] = frame["t_true"], frame["t_pred"]
    for sample, std in uncertain.items():
        row = (frame["sample_id"] == sample) & (frame["property"] == "rate")
        frame.loc[row, "t_std_epistemic"] = std
    return {"v": with_interval(frame)}


def test_the_least_certain_quarter_is_set_aside() -> None:
    knowing = summarise(of_four(d=1.2))
    assert values(knowing, "v", "gap")["mae_std"] == pytest.approx((1 + 1 + 1 + 3) / 4)
    assert values(knowing, "v", "gap")["mae_std_certain"] == pytest.approx(1.0)
    assert values(knowing, "v", "rate")["mae_std_certain"] == pytest.approx(1 / 0.5)
    assert values(knowing, "v", "all")["mae_std_certain"] == pytest.approx((1.0 + 2.0) / 2)
    mistaken = summarise(of_four(a=1.2))
    assert values(mistaken, "v", "gap")["mae_std_certain"] == pytest.approx((1 + 1 + 3) / 3)
    assert values(mistaken, "v", "rate")["mae_std_certain"] == pytest.approx((2 + 2 + 10) / 3)


def test_where_all_are_as_certain_nothing_is_set_aside() -> None:
    for summary in (summarise(of_four()), summarise(of_four(c=0.9, d=0.9))):
        found = values(summary, "v", "all")
        assert found["mae_std_certain"] == found["mae_std"]


def test_fewer_than_four_samples_have_no_quarter_to_set_aside() -> None:
    frame = tiny()
    frame.loc[0, "t_std_epistemic"] = 5.0
    gap = values(summarise({"v": frame}), "v", "gap")
    assert gap["mae_std_certain"] == gap["mae_std"]


def test_every_other_variant_is_compared_with() -> None:
    frames = {name: noisy(i, 0.5) for i, name in enumerate(("hclmp", "extra_trees", "mean"))}
    found = values(summarise(frames), "hclmp", "all")
    expected = {f"mae_std_vs_{o}_{e}" for o in ("extra_trees", "mean") for e in ("low", "high")}
    assert set(found) == WITHOUT_UNIT | {"nll_joint"} | expected


def test_all_weighs_properties_alike_whatever_their_rows() -> None:
    frame = tiny().drop(index=[4, 5])
    mean = values(summarise({"v": frame}), "v", "all")
    assert mean["mae_std"] == pytest.approx((0.25 + 0.0) / 2)


def test_coverage_counts_the_central_ninety_percent() -> None:
    frame = noisy(1, 0.7, systems=2000)
    coverage = values(summarise({"v": frame}), "v", "all")["coverage90"]
    assert coverage == pytest.approx(0.9, abs=0.01)
    wide = with_interval(frame.assign(t_std_aleatoric=7.0))
    assert values(summarise({"v": wide}), "v", "all")["coverage90"] == 1.0


def test_nll_is_least_for_the_true_spread() -> None:
    frame = noisy(1, 0.7, systems=500)

    def nll(std: float) -> float:
        return values(summarise({"v": frame.assign(t_std_aleatoric=std)}), "v", "all")["nll"]

    assert nll(0.7) < min(nll(0.5), nll(1.0))


def test_the_interval_of_a_copy_is_one() -> None:
    mean = values(summarise({"v": noisy(1, 0.5), "copy": noisy(1, 0.5)}), "v", "all")
    assert mean["mae_std_vs_copy_low"] == pytest.approx(1.0)
    assert mean["mae_std_vs_copy_high"] == pytest.approx(1.0)


def test_the_interval_of_a_fixed_multiple_is_that_multiple() -> None:
    frame = noisy(1, 0.5)
    double = frame.assign(t_pred=frame["t_true"] + 2 * (frame["t_pred"] - frame["t_true"]))
    summary = summarise({"v": frame, "double": double})
    assert values(summary, "v", "all")["mae_std_vs_double_low"] == pytest.approx(0.5)
    assert values(summary, "double", "all")["mae_std_vs_v_high"] == pytest.approx(2.0)


def test_the_interval_holds_the_ratio_and_is_reciprocal() -> None:
    summary = summarise({"good": noisy(1, 0.4), "bad": noisy(2, 0.6)})
    good, bad = values(summary, "good", "all"), values(summary, "bad", "all")
    low, high = good["mae_std_vs_bad_low"], good["mae_std_vs_bad_high"]
    assert low < good["mae_std"] / bad["mae_std"] < high < 1
    assert bad["mae_std_vs_good_low"] == pytest.approx(1 / high)
    assert bad["mae_std_vs_good_high"] == pytest.approx(1 / low)
    intervals = summary[summary["metric"].str.startswith("mae_std_vs_")]
    assert set(intervals["n"]) == {12}  # systems, not samples
    assert set(intervals["property"]) == {"all"}


def test_few_systems_have_no_interval() -> None:
    frames = {v: noisy(i, 0.5, systems=7) for i, v in enumerate(("v", "w"))}
    mean = values(summarise(frames), "v", "all")
    assert math.isnan(mean["mae_std_vs_w_low"])
    assert math.isnan(mean["mae_std_vs_w_high"])
    frames = {v: noisy(i, 0.5, systems=8) for i, v in enumerate(("v", "w"))}
    assert math.isfinite(values(summarise(frames), "v", "all")["mae_std_vs_w_low"])


def test_the_interval_does_not_depend_on_the_order_of_rows() -> None:
    frames = {"good": noisy(1, 0.4), "bad": noisy(2, 0.6)}
    shuffled = {n: f.sample(frac=1, random_state=i) for i, (n, f) in enumerate(frames.items())}
    expected = values(summarise(frames), "good", "all")
    assert values(summarise(shuffled), "good", "all") == pytest.approx(expected)


def test_systems_are_told_apart() -> None:
    table = by_system({"v": tiny()}, PROPERTIES)
    assert list(table) == SYSTEM_COLUMNS
    found = {
        (row.system, row.property, row.metric): (row.value, row.n) for row in table.itertuples()
    }
    # of two systems: mae and mae_linear where there is one, and three metrics without a unit
    assert len(found) == len(table) == 2 * ((1 + 3) + (2 + 3) + 3)
    # the intervals of gap are 0.82 to either side; the errors 0.5, 0 and, in the second system, 1
    assert [found[s, "gap", "coverage90"][0] for s in ("Fe-Ti", "Fe-W")] == [1.0, 0.0]
    assert found["Fe-W", "all", "coverage90"] == (0.5, 1)
    widths = [found["Fe-Ti", p, "width90_std"][0] for p in ("gap", "rate", "all")]
    assert widths[0] == pytest.approx(0.5 * 1.6448536)
    assert widths[2] == pytest.approx((widths[0] + widths[1]) / 2)
    assert found["Fe-Ti", "gap", "mae"] == (pytest.approx(0.25), 2)
    assert found["Fe-W", "gap", "mae_std"] == (pytest.approx(0.5), 1)
    assert found["Fe-Ti", "rate", "mae"] == (pytest.approx(0.5), 2)
    assert found["Fe-Ti", "rate", "mae_linear"] == (pytest.approx(45.0), 2)
    assert found["Fe-Ti", "all", "mae_std"] == (pytest.approx((0.125 + 1.0) / 2), 2)
    assert found["Fe-W", "all", "mae_std"] == (pytest.approx(0.25), 1)


ABOUT = {
    "simulated": True,
    "n": 48,
    "properties": ["gap", "rate"],
    "dos_of_held_out_systems": "keep",
}


def results(workdir: Path, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Write what ``hclmp results`` reads; the summary."""
    folder = workdir / "results/metrics"
    folder.mkdir(parents=True)
    summary = summarise(frames)
    summary.to_csv(folder / "summary.csv", index=False)
    systems = next(iter(frames.values()))["system"].nunique()
    overall = summary[summary["property"] == "all"]
    overall = overall.pivot(index="variant", columns="metric", values="value")
    found = compare(Config(variants=list(frames)), overall, systems=systems)
    comparisons = {v: c.as_json() for v, c in found.items()}
    about = ABOUT | {"systems": systems, "comparisons": comparisons, "shown": "hclmp"}
    (folder / "metrics.json").write_text(json.dumps(about))
    return summary


@pytest.mark.parametrize("systems", [1, 7])
def test_results_of_few_systems_show_the_ratio_and_say_why_it_has_no_interval(
    workdir: Path, command: Command, systems: int
) -> None:
    frames = {"extra_trees": noisy(2, 0.6, systems), "hclmp": noisy(1, 0.4, systems)}
    summary = results(workdir, frames)
    good, trees = (values(summary, v, "all")["mae_std"] for v in ("hclmp", "extra_trees"))
    text = command("results").text
    assert f"│ {good / trees:.3f} │" in text
    assert "│ 1 │" in text, "the baseline itself"
    held_out = "1 held-out system is" if systems == 1 else "7 held-out systems are"
    assert f"{held_out} too few to say which model is better: 8 or more have" in text
    assert "nan" not in text.lower()
    assert "(95 % interval)" not in text


def test_results_are_shown_best_first(workdir: Path, command: Command) -> None:
    summary = results(workdir, {"extra_trees": noisy(2, 0.6), "hclmp": noisy(1, 0.4)})
    answer = command("results")
    assert answer.code == 0
    assert "48 simulated held-out samples, 2 properties" in answer.text
    assert "DOS of held-out systems: keep" in answer.text
    good, trees = (values(summary, v, "all") for v in ("hclmp", "extra_trees"))
    assert f"{good['mae_std'] / trees['mae_std']:.3f}" in answer.text
    first, second = (answer.text.index(f"{v['mae_std']:.3f}") for v in (good, trees))
    assert first < second
    answer = command("--quiet", "results", "--json")
    assert answer.code == 0
    printed = json.loads(answer.text)
    assert printed.items() >= ABOUT.items()
    assert printed["notes"] == []
    assert printed["comparisons"]["hclmp"]["baseline"] == "extra_trees"


def test_results_of_an_earlier_version_are_refused(workdir: Path, command: Command) -> None:
    results(workdir, {"extra_trees": noisy(2, 0.6), "hclmp": noisy(1, 0.4)})
    (workdir / "results/metrics/metrics.json").write_text(json.dumps(ABOUT))
    answer = command("results")
    assert answer.code == 2
    assert "metrics.json: of an earlier version; `hclmp aggregate` makes it again" in answer.text
