"""Whether a variant is better than the best baseline with the same information.

The density of states is information. A variant with `transfer` is compared with the best of all
baselines, for whoever has densities of states may use or ignore them; if none of the baselines was
given them, this is said with the ratio. A variant without is compared with those without.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.evaluation.ratio import FEWEST_SYSTEMS, too_few

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True)
class Comparison:
    """A variant beside the best baseline; the errors are ``mae_std`` on held-out systems."""

    variant: str
    baseline: str
    error: float
    baseline_error: float
    low: float | None  # the 95 % interval of the ratio of the errors; None if there is none
    high: float | None
    systems: int
    transfer: bool  # whether the variant is given the density of states
    baseline_transfer: bool
    informed: bool  # whether some baseline was given what the variant was

    @property
    def ratio(self) -> float:
        """Below 1 the variant is better; NaN if the baseline makes no error at all."""
        return self.error / self.baseline_error if self.baseline_error else float("nan")

    @property
    def against(self) -> str:
        """The baseline, and whether it had the same information, in a few words."""
        if self.informed:
            return self.baseline
        return f"{self.baseline}, {'without' if self.transfer else 'with'} the DOS"

    def verdict(self) -> tuple[str, Tone]:
        """A sentence, and whether it is good news."""
        beside = f"the best baseline, {self.baseline}"
        if not self.informed:
            was = "was not" if self.transfer else "was"
            beside += f" (which {was} given the density of states)"
        elif self.transfer:
            beside = f"the best baseline with the same information, {self.baseline}"
            if not self.baseline_transfer:
                beside += " (without the density of states it does no worse than with it)"
        size = (
            f"its error is {self.error:.3f} training standard deviations against "
            f"{self.baseline_error:.3f}"
        )
        size += (
            f", {100 * abs(self.ratio - 1):.0f} % "
            f"{'smaller' if self.ratio < 1 else 'larger'} (ratio {self.ratio:.2f}"
            if self.baseline_error
            else " (no ratio"
        )
        if self.low is None or self.high is None:
            why = "" if self.systems >= FEWEST_SYSTEMS else f". {too_few(self.systems)}"
            return f"{self.variant} beside {beside}: {size}){why}.", "plain"
        numbers = f"{size}, 95 % interval {self.low:.2f} to {self.high:.2f})."
        if self.high < 1:
            return f"{self.variant} is better than {beside}: {numbers}", "good"
        if self.low > 1:
            return f"{self.variant} is worse than {beside}: {numbers} Use {self.baseline}.", "bad"
        return f"{self.variant} and {beside}, do not differ significantly: {numbers}", "plain"

    def as_json(self) -> dict[str, Any]:
        """What ``metrics.json`` has of it; `from_json` reads it."""
        return asdict(self) | {"ratio": self.ratio if self.baseline_error else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Comparison":
        return cls(**{name: value for name, value in values.items() if name != "ratio"})


def compare(config: Config, overall: pd.DataFrame, *, systems: int) -> dict[str, Comparison]:
    """Every variant beside the best baseline; the best baselines beside themselves.

    Empty without a baseline.

    Args:
        config: which variants are baselines, and which are given the density of states.
        overall: metrics over all properties, a row per variant and a column per metric.
        systems: the number of held-out systems.
    """
    errors = overall["mae_std"].sort_values(kind="stable")
    transfer = {name: variant.transfer for name, variant in config.variants.items()}
    baselines = [str(name) for name in errors.index if name not in config.neural]
    found: dict[str, Comparison] = {}
    for variant in config.variants if baselines else ():
        allowed = [b for b in baselines if transfer[variant] or not transfer[b]]
        best = (allowed or baselines)[0]
        row = overall.loc[variant].to_dict()
        ends = [row.get(f"mae_std_vs_{best}_{end}", np.nan) for end in ("low", "high")]
        low, high = (float(end) if np.isfinite(end) else None for end in ends)
        found[variant] = Comparison(
            variant=variant,
            baseline=best,
            error=float(errors[variant]),
            baseline_error=float(errors[best]),
            low=low,
            high=high,
            systems=systems,
            transfer=transfer[variant],
            baseline_transfer=transfer[best],
            informed=any(transfer[b] == transfer[variant] for b in baselines),
        )
    return found
