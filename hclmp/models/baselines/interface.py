"""What a baseline is: how it is fitted, and what the fit must answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats


class Regressor(Protocol):
    """A fitted regressor of standardised labels."""

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Prediction and spread (over trees; 0 for a single model): [n, L] each.

        A row's numbers must not depend on the other rows.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """What, with the training rows, determines the fit: JSON-able."""
        ...


@dataclass(frozen=True)
class Options:
    """Options of a fit; a baseline uses those that it knows."""

    trees: int
    with_range: bool  # whether the descriptors hold the range of each element property
    seed: int
    threads: int  # the result does not depend on it


@dataclass(frozen=True)
class Kind:
    """A kind of baseline: each module of it has one, as ``KIND``.

    Attributes:
        fit: of inputs, standardised labels [n, L], weights of the rows [n] (None: all equal) and
            options. No label is missing: where some are, each property is fitted by itself.
        ranges: values of ``Options.with_range`` that the validation rows choose from.
        constant: whether it predicts one value for all compositions. Labels may then be missing,
            weights are [n, L], and the uncertainty is the standard deviation of the labels.
    """

    fit: Callable[[Inputs, Floats, Floats | None, Options], Regressor]
    ranges: tuple[bool, ...] = (True,)
    constant: bool = False
