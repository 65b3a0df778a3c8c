"""Which of many compositions to make next: candidates stream through a model, the best stay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hclmp.data.formula import Fractions, parse_formulas
from hclmp.data.tables import Floats, read_targets
from hclmp.errors import UserError
from hclmp.files import ModelFiles
from hclmp.model import AGAIN, Model
from hclmp.progress import Advance, silent
from hclmp.provenance import sha256
from hclmp.screening.acquisition import Record, chances, on_front
from hclmp.screening.grid import Grid, Numbers
from hclmp.screening.question import Question

RankBy = Literal["improvement", "probability", "predicted"]
LIKELY = 0.5  # a candidate with a larger probability counts as meeting the conditions


@dataclass(frozen=True)
class Measured:
    """What the model was trained on: n compositions."""

    formulas: list[str]
    fractions: list[Fractions]  # without what is left out
    values: Floats  # [n, L], in property units, NaN where not measured

    def take(self, rows: Sequence[int]) -> "Measured":
        return Measured(
            [self.formulas[i] for i in rows], [self.fractions[i] for i in rows], self.values[rows]
        )


def read_measured(folder: Path, model: Model) -> Measured:
    """The training table in the folder of a final model.

    Raises:
        UserError: it is missing, or not the one that the model was trained on.
    """
    path = ModelFiles(folder).training
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. It holds what was measured, which a screen is to surpass. "
            f"{AGAIN}"
        )
    if sha256(path) != model.about["provenance"]["inputs"]["targets"]:
        raise UserError(f"{path}: not the table that the model was trained on. {AGAIN}")
    table = read_targets(path)
    fractions = parse_formulas(table.formula, left_out=model.about["left_out"], origin=str(path))
    return Measured(table.formula, fractions, table.values)


@dataclass(frozen=True)
class Reference:
    """The record that candidates are to surpass.

    It is that of compositions of the screened elements (``same_elements``), or of all compositions
    where none of those meets the conditions. Its rows are of the table ``measured``.
    """

    record: Record
    measured: Measured
    same_elements: bool

    @classmethod
    def of(cls, question: Question, measured: Measured, elements: Sequence[str]) -> "Reference":
        """The record among compositions of these elements, of any number of cations."""
        rows = [i for i, f in enumerate(measured.fractions) if f.keys() <= set(elements)]
        same = measured.take(rows)
        if len((record := Record.of(question, same.values)).front):
            return cls(record, same, same_elements=True)
        return cls(Record.of(question, measured.values), measured, same_elements=False)


def known_numbers(grid: Grid, measured: Measured, question: Question) -> Numbers:
    """The numbers of the grid's compositions of which every goal has been measured, ascending."""
    rows = np.flatnonzero(~np.isnan(question.directed(measured.values)).any(axis=1))
    numbers = (grid.number(measured.fractions[row]) for row in rows)
    return np.array(sorted({n for n in numbers if n is not None}), dtype=np.int64)


@dataclass(frozen=True)
class Screened:
    """What came of a screen.

    Attributes:
        frame: a row per composition that was kept, best first. ``rank`` (1 is the best, blank for
            one that is kept only for the front); the columns of ``Model.predict``; ``feasible``
            with conditions; ``probability`` and, with one goal, ``improvement`` as in
            ``acquisition.Chances``; ``on_front`` with two goals: of the candidates that likely meet
            the conditions none beats it. ``attrs["units"]`` has the units.
    """

    frame: pd.DataFrame
    candidates: int  # how many were predicted
    known: int  # how many were passed over because their goals have been measured
    feasible: int  # how many are likelier than not to meet the conditions
    reference: Reference


class _Kept:
    """The best of all candidates so far, and the front; both are exact, whatever the parts."""

    def __init__(self, top: int, goals: int) -> None:
        self.top, self.two = top, goals == 2
        self.best, self.front = pd.DataFrame(), pd.DataFrame()

    def add(self, part: pd.DataFrame) -> None:
        """Take in more candidates."""
        # Of equal scores (all are 0 where the record is out of reach) the likelier come first.
        together = pd.concat([self.best, part[part["score"] > -np.inf]])
        order = ["score", "feasible", "goal_0", "number"]
        together = together.sort_values(order, ascending=[False, False, False, True])
        self.best = together.head(self.top)
        if self.two:
            together = pd.concat([self.front, part[part["feasible"] > LIKELY]])
            kept = on_front(together[["goal_0", "goal_1"]].to_numpy())
            self.front = together[kept].sort_values("number")


def screen(
    model: Model,
    question: Question,
    grid: Grid,
    *,
    measured: Measured,
    parts: Iterable[Numbers],
    top: int = 20,
    rank_by: RankBy = "improvement",
    advance: Advance = silent,
) -> Screened:
    """Predict candidates part by part and keep the best; memory holds one part.

    Args:
        model, question, grid: what predicts, what is asked, and the candidates.
        measured: what the model was trained on. Candidates whose goals are in it are passed over.
        parts: numbers of candidates on the grid.
        top: how many are kept.
        rank_by: ``improvement`` (one goal, and a measured composition meets the conditions; else
            as ``probability``), ``probability``, or ``predicted``: the predicted value (one goal),
            of the candidates that are likelier than not to meet the conditions.
        advance: is told how many candidates were taken.
    """
    reference = Reference.of(question, measured, grid.elements)
    known = known_numbers(grid, measured, question)
    kept, taken, passed, feasible = _Kept(top, len(question.goals)), 0, 0, 0
    for numbers in parts:
        taken += len(numbers)
        new = numbers[~np.isin(numbers, known)]
        passed += len(numbers) - len(new)
        if len(new):
            part = _scored(model, question, grid, reference.record, new, rank_by)
            feasible += int((part["feasible"] > LIKELY).sum())
            kept.add(part)
        advance(taken)
    frame = _frame(model, question, grid, kept)
    return Screened(frame, taken - passed, passed, feasible, reference)


def _scored(
    model: Model, question: Question, grid: Grid, record: Record, numbers: Numbers, rank_by: RankBy
) -> pd.DataFrame:
    """Some candidates with their chances and their score."""
    predicted = model.outputs(grid.compositions(numbers, model.ensemble.vocabulary))
    found, goals = chances(question, record, predicted), question.directed(predicted.mean)
    columns = {"number": numbers, **found._asdict()}
    columns |= {f"goal_{i}": column for i, column in enumerate(goals.T)}
    if rank_by == "predicted":
        score = np.where(found.feasible > LIKELY, goals[:, 0], -np.inf)
    elif rank_by == "improvement" and len(record.front):
        score = found.improvement
    else:
        score = found.probability
    return pd.DataFrame(columns | {"score": score})


def _frame(model: Model, question: Question, grid: Grid, kept: _Kept) -> pd.DataFrame:
    """The kept candidates as a table, with all columns of a prediction."""
    best = kept.best.assign(rank=np.arange(1, len(kept.best) + 1))
    rows = best
    if kept.two:
        others = kept.front[~kept.front["number"].isin(best["number"])] if len(best) else kept.front
        rows = pd.concat([best, others.sort_values("goal_0", ascending=False)])
        rows = rows.assign(on_front=rows["number"].isin(kept.front["number"]))
    if not len(rows):
        return pd.DataFrame()
    numbers = rows["number"].to_numpy()
    predicted = model.predict(grid.formulas(numbers))
    units = dict(predicted.attrs["units"])
    shown = ["rank", "on_front"] if kept.two else ["rank"]
    frame = rows[shown].astype({"rank": "Int64"}).reset_index(drop=True)
    frame = pd.concat([frame, predicted], axis="columns")
    columns = ["feasible", "probability"] if question.conditions else ["probability"]
    if len(question.goals) == 1:
        columns.append("improvement")
        units["improvement"] = question.properties[question.goals[0].column].unit
    for place, name in enumerate(columns, start=len(shown) + 2):
        frame.insert(place, name, rows[name].to_numpy())
    frame.attrs["units"] = units
    return frame
