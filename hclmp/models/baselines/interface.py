"""What a baseline is: how it is fitted, and what the fit must answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats


@dataclass(frozen=True)
class Standardised:
    """Compositions with standardised labels.

    Attributes:
        inputs: n compositions.
        y: [n, L], none missing; whole multiples of ``fit.STEP``.
        weights: [n], of the rows; None: all equal.
    """

    inputs: Inputs
    y: Floats
    weights: Floats | None = None


@dataclass(frozen=True)
class Estimate:
    """What a regressor predicts of n rows: [n, L] each.

    Attributes:
        median: the prediction; the score is the absolute error, which the median minimises.
        ends: the 5 % and the 95 % quantile; None from a regressor that knows only a median.
    """

    median: Floats
    ends: tuple[Floats, Floats] | None = None


class Regressor(Protocol):
    """A fitted regressor of standardised labels."""

    def predict(self, inputs: Inputs) -> Estimate:
        """Predict n compositions; a row's numbers must not depend on the other rows."""
        ...

    def settings(self) -> dict[str, Any]:
        """What, with the training rows, determines the fit: JSON-able."""
        ...


@dataclass(frozen=True)
class Options:
    """Options of a fit; a baseline uses those that it knows.

    Attributes:
        trees: of a forest; boosting has at most three times as many.
        seed: of all that is random.
        threads: how many; the result does not depend on it.
        settings: an entry of ``Kind.grid``, and in the last fit ``Kind.found`` too.
        validation: rows to find ``Kind.found`` with; None in the last fit, or if there are none.
    """

    trees: int
    seed: int
    threads: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: Standardised | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of baseline: each module of it has one, as ``KIND``.

    Attributes:
        fit: of training rows and options.
        grid: the settings that the validation rows choose from, by the absolute error.
        found: names in ``Regressor.settings`` that a fit finds with the validation rows; the last
            fit, to training and validation rows together, is given them.
        per_property: whether each property is fitted by itself; it is anyway if labels are missing.
        constant: whether it predicts one value for all compositions, so that its errors on
            training rows tell how large its errors are.
    """

    fit: Callable[[Standardised, Options], Regressor]
    grid: tuple[Mapping[str, Any], ...] = ({},)
    found: tuple[str, ...] = ()
    per_property: bool = False
    constant: bool = False
