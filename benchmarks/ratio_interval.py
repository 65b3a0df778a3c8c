"""How often the 95 % interval of the ratio of two models' errors holds the true ratio.

    python benchmarks/ratio_interval.py [--trials 4000] [--systems 4 6 8 12 20 50] [--all]

Systems are drawn with sizes, difficulties and errors of two models as real tables have them, where
the true ratio is known; a share of 0.95 of the intervals should hold it. Prints a Markdown table of
`hclmp.evaluation.ratio` alone, or (`--all`) of the methods that it was chosen from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from hclmp.data.tables import Floats
from hclmp.evaluation import ratio

SAMPLES = 12  # of a system in the middle
DRAWS = 999
# own and other sums of errors, and numbers of labels: [S, L] each
Sums = tuple[Floats, Floats, Floats]
Method = Callable[[Floats, Floats, Floats], tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """How the systems of a table differ, in standard deviations of logarithms.

    The two models are drawn alike but for the failures, so that the true ratio is `truth`.
    """

    size: float  # of the number of samples
    own: float = 0.25  # of the error of one model alone
    shared: float = 0.4  # of the difficulty for both models
    heavy_tails: bool = False  # whether the difficulty has those of Student's t with 4 degrees
    larger: float = 0.0  # how the difficulty rises with the size
    correlation: float = 0.5  # between the two models' errors of a sample
    properties: int = 1
    missing: float = 0.0  # share of the labels
    failures: float = 0.0  # share of the systems in which the first model errs four times as much

    @property
    def truth(self) -> float:
        return 1 + 3 * self.failures


SHAPES = {
    "equal sizes": Shape(0.0),
    "sizes vary by 0.5": Shape(0.5),
    "by 1": Shape(1.0),
    "by 1.5": Shape(1.5),
    "by 1, models alike": Shape(1.0, own=0.05, correlation=0.8),
    "by 1, models unlike": Shape(1.0, own=0.6),
    "by 1, heavy tails": Shape(1.0, heavy_tails=True),
    "by 1, larger ones easier": Shape(1.0, larger=-0.3),
    "by 1, larger ones harder": Shape(1.0, larger=0.3),
    "by 1, three properties, labels missing": Shape(1.0, properties=3, missing=0.4),
}
FAILING = Shape(1.0, failures=0.1)  # no interval holds its level here


def drawn(shape: Shape, systems: int, trials: int, seed: int) -> Iterator[Sums]:
    """Tables of so many systems."""
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        size = rng.normal(size=systems)
        samples = np.maximum(1, np.round(SAMPLES * np.exp(shape.size * size))).astype(int)
        # Student's t with four degrees of freedom has a variance of 2
        tails = rng.standard_t(4, systems) / np.sqrt(2)
        hard = tails if shape.heavy_tails else rng.normal(size=systems)
        hard = shape.shared * hard + shape.larger * size
        # a system is as hard, and either model as good, for all of its properties
        scales = np.exp(hard + shape.own * rng.normal(size=(2, systems)))
        if shape.failures:
            scales[0] *= np.where(rng.random(systems) < shape.failures, 4, 1)
        of = np.repeat(np.arange(systems), samples)
        shape_of_errors = (len(of), shape.properties)
        first, second = rng.normal(size=(2, *shape_of_errors))
        second = shape.correlation * first + np.sqrt(1 - shape.correlation**2) * second
        known = rng.random(shape_of_errors) >= shape.missing
        starts = np.concatenate([[0], np.cumsum(samples)[:-1]])
        own, other = (
            np.add.reduceat(np.abs(errors) * known * scale[of][:, None], starts)
            for errors, scale in zip((first, second), scales, strict=True)
        )
        yield own, other, np.add.reduceat(known.astype(float), starts)


def share_held(
    shape: Shape, systems: int, trials: int, seed: int = 0, method: Method | None = None
) -> float:
    """The share of the intervals that hold the true ratio."""
    interval = method or ratio.ratio_interval
    held = 0
    for table in drawn(shape, systems, trials, seed):
        low, high = interval(*table)
        held += low <= shape.truth <= high
    return held / trials


def percentile_bootstrap(own: Floats, other: Floats, counts: Floats) -> tuple[float, float]:
    """Quantiles of the ratio of systems drawn again."""
    low, high = np.quantile(_redrawn(own, other, counts)[0], [0.025, 0.975])
    return float(np.exp(low)), float(np.exp(high))


def studentised_bootstrap(own: Floats, other: Floats, counts: Floats) -> tuple[float, float]:
    """Quantiles of (log ratio - that of the table) / its standard error, of systems drawn again."""
    logs, errors = _redrawn(own, other, counts)
    found, error = _log_ratio(own, other, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = np.nan_to_num((logs - found) / errors)
    low, high = np.quantile(standard, [0.025, 0.975])
    return float(np.exp(found - high * error)), float(np.exp(found - low * error))


def plain_jackknife(own: Floats, other: Floats, counts: Floats) -> tuple[float, float]:
    """The jackknife with one degree of freedom less than there are systems."""
    low, high = np.log(ratio.ratio_interval(own, other, counts))
    systems = len(counts)
    used = student.ppf(0.975, max(1.0, ratio.effective_number(counts) - 1))
    half = (high - low) / 2 * student.ppf(0.975, systems - 1) / used
    return float(np.exp((low + high) / 2 - half)), float(np.exp((low + high) / 2 + half))


METHODS: dict[str, Method] = {
    "percentile bootstrap": percentile_bootstrap,
    "studentised bootstrap": studentised_bootstrap,
    "jackknife, t of S - 1": plain_jackknife,
    "jackknife, t of the effective number - 1": ratio.ratio_interval,
}


def _log_ratio(own: Floats, other: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """The log ratio and its linearised standard error over S systems: [...] of [..., S, L]."""
    labels = counts.sum(axis=-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = [np.nanmean(x.sum(axis=-2) / labels[..., 0, :], axis=-1) for x in (own, other)]
        parts = [
            np.nanmean((x - x.sum(axis=-2, keepdims=True) * counts / labels) / labels, axis=-1)
            / mean[..., None]
            for x, mean in zip((own, other), means, strict=True)
        ]
    systems = counts.shape[-2]
    error = np.sqrt(systems / (systems - 1) * np.sum((parts[0] - parts[1]) ** 2, axis=-1))
    return np.log(means[0] / means[1]), error


def _redrawn(own: Floats, other: Floats, counts: Floats) -> tuple[Floats, Floats]:
    systems = len(counts)
    rows = np.random.default_rng(0).integers(0, systems, (DRAWS, systems))
    return _log_ratio(own[rows], other[rows], counts[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--systems", type=int, nargs="+", default=[4, 6, 8, 12, 20, 50])
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    ratio.FEWEST_SYSTEMS = 2  # also where the package says nothing
    methods = METHODS if arguments.all else {"": ratio.ratio_interval}
    print("| systems that differ |", *(f" {n} |" for n in arguments.systems), sep="")
    print("| --- |" + " --- |" * len(arguments.systems))
    for name, shape in {**SHAPES, "a tenth fails": FAILING}.items():
        for method, interval in methods.items():
            line = f"| {name}{': ' if method else ''}{method} |"
            for n in arguments.systems:
                line += f" {share_held(shape, n, arguments.trials, method=interval):.3f} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
