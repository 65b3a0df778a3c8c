"""``hclmp screen``: from what a user asks to a ranking on the terminal or in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd
from rich.table import Table
from rich.text import Text

from hclmp.cli.predict import check_out, print_json, records, write_frame
from hclmp.cli.terminal import listed, note, say, show_table
from hclmp.data.tables import Property
from hclmp.errors import UserError, join_some
from hclmp.model import Model
from hclmp.progress import progress
from hclmp.screening.grid import Grid
from hclmp.screening.question import Question
from hclmp.screening.search import RankBy, Reference, Screened, read_measured
from hclmp.screening.search import screen as run

WORDS = {
    "improvement": "expected improvement on what has been measured",
    "probability": "probability of surpassing what has been measured",
    "predicted": "predicted value",
    "feasible": "probability of meeting the conditions",
}
SPREAD = {"identity": "± one standard deviation", "log10": "(low to high): 90 % interval"}
DOUBTFUL = "!"
UNLIKELY = 0.01  # a note is printed if the best candidate has less
MOST_OF_FRONT = 10  # rows that are shown beside the best


def screen(
    model: Path,
    elements: str,
    cations: int,
    step: float,
    samples: int | None,
    seed: int | None,
    maximize: list[str] | None,
    minimize: list[str] | None,
    where: list[str] | None,
    top: int,
    rank_by: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rank candidates and show the best; the arguments are the options of the command.

    Raises:
        UserError: something asked for does not exist or makes no sense, by name and value; or no
            candidate is left.
    """
    if seed is not None and samples is None:
        raise UserError(
            f"--seed {seed} is that of --samples, which is not given: leave it out or give both"
        )
    trained, named, where = Model.load(model), listed(elements), where or []
    question = Question.of(
        trained.properties, maximize=maximize or [], minimize=minimize or [], where=where
    )
    ranked = _rank_by(rank_by, question)
    used = _elements(named, trained, cations)
    grid = Grid.of(used, cations=cations, step=step)
    measured = read_measured(model, trained)
    if out is not None:
        check_out(out, model)
    with progress("screening", samples or grid.size) as advance:
        found = run(
            trained,
            question,
            grid,
            measured=measured,
            parts=grid.parts(samples=samples, seed=seed or 0),
            top=top,
            rank_by=ranked,
            advance=advance,
        )
    if not len(found.frame):
        raise UserError(_nothing_left(found, where))
    if out is not None:
        write_frame(out, found.frame)
    notes = _notes(question, found, ranked, where, sorted(set(named) - set(used)))
    doubtful = _doubtful_notes(found)
    if as_json:
        counts = {name: getattr(found, name) for name in ("candidates", "known", "feasible")}
        content = {**counts, "notes": notes + doubtful, "compositions": records(found.frame)}
        print_json(trained, content, units=found.frame.attrs["units"])
        return
    has_record = len(found.reference.record.front)
    by: str = ranked if has_record or ranked == "predicted" else "feasible"
    _show(trained, question, grid, found, by, top)
    if (more := len(found.frame) - top - MOST_OF_FRONT) > 0:
        notes.append(f"{more} more on the front: write all with --out FILE")
    for line in notes:
        note(line)
    for line in doubtful:
        say(line)
    if out is not None:
        note(f"{out}: {len(found.frame)} compositions, all {len(trained.properties)} properties")


def _rank_by(asked: str | None, question: Question) -> RankBy:
    """The ranking that was asked for, or the default; two goals have only one."""
    if asked is None:
        return "improvement" if len(question.goals) == 1 else "probability"
    if asked not in get_args(RankBy):
        raise UserError(f"--rank-by {asked}: choose one of {join_some(get_args(RankBy))}")
    if len(question.goals) == 2 and asked != "probability":
        raise UserError(f"--rank-by {asked}: two goals are ranked by probability")
    return cast(RankBy, asked)


def _nothing_left(found: Screened, where: Sequence[str]) -> str:
    if not found.candidates:
        has = "the only one has" if found.known == 1 else f"all {found.known} have"
        return f"no candidate is left: {has} been measured: finer --step or other --elements"
    return f"no candidate is left: {_infeasible(where)}, or another --rank-by"


def _infeasible(where: Sequence[str]) -> str:
    return f"no candidate is likelier than not to meet {join_some(where)}: relax --where"


def _elements(elements: Sequence[str], model: Model, cations: int) -> list[str]:
    """The elements that candidates are made of: those named, less what the model leaves out."""
    used = [e for e in elements if e not in model.about["left_out"]]
    if unknown := [e for e in used if e not in model.known_elements]:
        raise UserError(
            f"--elements: the model knows nothing of {join_some(unknown)}. It knows "
            f"{' '.join(model.known_elements)}"
        )
    left_out = sorted(set(elements) - set(used))
    if left_out and len(used) < cations:
        raise UserError(
            f"--elements: {join_some(left_out)} is left out of compositions, as in training; too "
            f"few remain for --cations {cations} ({join_some(used) or 'none'})"
        )
    if not used:
        raise UserError("--elements names none: such as --elements Fe,Co,W,Ti")
    return used


def _notes(
    question: Question, found: Screened, ranked: RankBy, where: list[str], left_out: list[str]
) -> list[str]:
    notes = [_record_note(question, found.reference, bool(where))]
    notes += _unlikely_notes(question, found, ranked, where)
    if found.known:
        notes.append(f"passed over, since measured already: {found.known}")
    if found.feasible and where:
        notes.append(
            f"likelier than not to meet {join_some(where)}: {found.feasible} of {found.candidates}"
        )
    if left_out:
        notes.append(f"left out of compositions, as in training: {join_some(left_out)}")
    return notes


def _doubtful_notes(found: Screened) -> list[str]:
    """A warning, if any is due."""
    if not (doubtful := int((found.frame["warning"] != "").sum())):
        return []
    return [
        f"{DOUBTFUL} doubtful: {doubtful} of {len(found.frame)}; the column `warning` of --out "
        "says why"
    ]


def _unlikely_notes(
    question: Question, found: Screened, ranked: RankBy, where: Sequence[str]
) -> list[str]:
    """Notes on a record out of reach, and on what ranks the candidates then."""
    if ranked == "predicted":
        return []
    notes, has_record = [], bool(len(found.reference.record.front))
    if where and not found.feasible:
        notes.append(_infeasible(where))
    elif has_record and (most := found.frame["probability"].max()) < UNLIKELY:
        notes.append(
            f"none of these is likely to surpass it (at most {_share(most)}): "
            + ("see --rank-by predicted" if len(question.goals) == 1 else "see the front")
        )
    score = ranked if has_record else "probability"
    if not found.frame[score].any():
        goal = question.properties[question.goals[0].column].name
        first = "`feasible`, then by " if where and has_record else ""
        notes.append(f"`{score}` is 0 for all: ranked by {first}predicted {goal}")
    return notes


def _record_note(question: Question, reference: Reference, asked: bool) -> str:
    """The record that candidates are to surpass."""
    record, meeting = reference.record, " that meets the conditions" if asked else ""
    if not len(record.front):
        return f"nothing measured{meeting}: `probability` is that of meeting them"
    among = "" if reference.same_elements else " (of other elements: none of these alone is)"
    if len(question.goals) == 2:
        which = " of those that meet the conditions" if asked else ""
        return f"to surpass{among}: the front{which}, {len(record.front)} measured compositions"
    row, goal = record.rows[0], question.goals[0]
    prop, value = question.properties[goal.column], reference.measured.values[row, goal.column]
    formula = reference.measured.formulas[row]
    return f"best measured{meeting}{among}: {formula}, {prop.name} {value:.4g} {prop.unit}"


def _show(model: Model, question: Question, grid: Grid, found: Screened, by: str, top: int) -> None:
    """The best candidates, and those of the front."""
    data = "simulated" if model.about["trained_on"]["simulated"] else "measured"
    goals = [question.properties[g.column] for g in question.goals]
    asked = [question.properties[c.column] for c in question.conditions]
    others = [p for p in asked if p not in goals]
    table = Table(
        title=f"{min(top, len(found.frame))} of {found.candidates:,} candidates in "
        f"{grid.systems:,} systems, by {WORDS[by]}\n(trained on {data} values)",
        caption="\n".join(SPREAD[transform] for transform in sorted({p.transform for p in goals})),
    )
    for heading in ("", "composition"):
        table.add_column(heading, justify="left" if heading else "right", no_wrap=True)
    for prop in (*goals, *others):
        table.add_column(Text(f"{prop.name}\n{prop.unit}"), justify="right", no_wrap=True)
    shown = [n for n in ("feasible", "probability", "improvement") if n in found.frame]
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    if "on_front" in found.frame:
        table.add_column("front")
    table.add_column("")
    for _, row in found.frame.head(top + MOST_OF_FRONT).iterrows():
        table.add_row(*_cells(row, goals, others, shown))
    show_table(table)


def _cells(
    row: "pd.Series[Any]", goals: list[Property], others: list[Property], shown: list[str]
) -> list[Text]:
    cells = ["" if pd.isna(row["rank"]) else str(row["rank"]), str(row["formula"])]
    cells += [_with_spread(row, p) for p in goals]
    cells += [f"{row[p.name]:.3g}" for p in others]
    for name in shown:
        value = row[name]
        text = f"{value:.3g}" if name == "improvement" else _share(value)
        cells.append("" if pd.isna(value) else text)
    if "on_front" in row:
        cells.append("yes" if row["on_front"] else "")
    return [Text(cell) for cell in (*cells, DOUBTFUL if row["warning"] else "")]


def _with_spread(row: "pd.Series[Any]", prop: Property) -> str:
    """A value and its uncertainty."""
    value, std, low, high = (row[f"{prop.name}{end}"] for end in ("", "_std", "_low", "_high"))
    if prop.transform == "log10":  # a standard deviation would reach below 0
        return f"{value:.3g} ({low:.2g} to {high:.2g})"
    return f"{value:.3g} ± {std:.2g}"


def _share(value: float) -> str:
    return "<0.001" if 0 < value < 0.001 else f"{value:.3f}"
