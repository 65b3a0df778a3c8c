"""Step ``prepare-targets``: measured properties of a source to one checked table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.data.composition import vocabulary_of
from hclmp.data.elements import TABULATED, check_elements
from hclmp.data.folds import fold_names, split_rows
from hclmp.data.formula import Fractions, composition_key, parse_formulas, system_of
from hclmp.data.tables import PREDICTED, RANKED, Floats, Targets, varied, write_targets
from hclmp.data.units import check_unit
from hclmp.errors import UserError, join_some
from hclmp.files import write_json
from hclmp.pipeline.jobs import Job
from hclmp.provenance import Provenance
from hclmp.sources.raw import RawTargets, row_names
from hclmp.sources.registry import TARGETS

log = logging.getLogger(__name__)


def prepare_targets(config: Config, job: Job) -> None:
    """Read, check and merge the labelled compositions.

    Rows of one composition (after ``left_out`` elements are dropped) are merged by the median, of
    the values and of what is known of their noise.

    Args:
        config: the resolved configuration.
        job: writes the targets ``table``, and a ``record`` of its origin and counts.

    Raises:
        UserError: bad input; nothing is written then.
    """
    raw = TARGETS[config.targets.source](config.targets)
    if not config.given_split:  # what the source says of parts plays no role
        raw = replace(raw, split=None)
    parsed = parse_formulas(
        raw.formula, left_out=config.targets.left_out, origin=f"{raw.origin}, formulas"
    )
    check_names(raw)
    check_values(raw)
    check_elements(parsed, raw.formula, (*config.embeddings, TABULATED), origin=raw.origin)
    raw, parsed, unlabelled = _labelled(raw, parsed)
    targets, facts = _merged(raw, parsed, job.provenance())
    facts["unlabelled_rows"] = unlabelled
    check_spread(raw.origin, [p.name for p in targets.properties], targets.values)
    _check_folds(config, targets)
    facts["notes"] = _sentences(raw, facts)
    for line in facts["notes"]:
        log.info(line)
    write_targets(job.outputs["table"], targets)
    write_json(job.outputs["record"], {"provenance": targets.provenance, "facts": facts})


def check_names(raw: RawTargets) -> None:
    """Predictions and screens have other columns beside the properties: none has two meanings.

    Raises:
        UserError: names those that have.
    """
    names = [p.name for p in raw.properties]
    taken = {*PREDICTED, *RANKED}
    taken |= {f"{name}{end}" for name in names for end in ("_std", "_low", "_high")}
    if bad := [name for name in names if name in taken]:
        raise UserError(
            f"{raw.origin}: a property cannot be called {join_some(bad)}, which is what a "
            "prediction calls something else. Rename the column."
        )


def check_values(raw: RawTargets) -> None:
    """Values must suit unit and transform; measurement noise must not be negative.

    Raises:
        UserError: names the rows.
    """
    for i, prop in enumerate(raw.properties):
        check_unit(prop.unit, f"{raw.origin}: property `{prop.name}`")
        values, noise = raw.values[:, i], raw.noise[:, i]
        bad = np.flatnonzero(values <= 0)
        if prop.transform == "log10" and len(bad):
            named = join_some(f"row {j + 1} ({values[j]:g})" for j in bad)
            raise UserError(
                f"{raw.origin}: column `{prop.name}` is to be learned as log10, but is not "
                f"positive in {named}. Correct these rows, or set its `transform: identity`."
            )
        if len(bad := np.flatnonzero(noise < 0)):
            raise UserError(
                f"{raw.origin}: column `{prop.name}_std` is a standard deviation, but negative in "
                f"{join_some(f'row {j + 1} ({noise[j]:g})' for j in bad)}. Correct or remove these "
                "rows, or leave the column out."
            )


def _labelled(raw: RawTargets, parsed: list[Fractions]) -> tuple[RawTargets, list[Fractions], int]:
    """The rows that have any label, and how many have none."""
    kept = np.flatnonzero(~np.isnan(raw.values).all(axis=1))
    if (unlabelled := len(parsed) - len(kept)) == 0:
        return raw, parsed, 0
    if not len(kept):
        raise UserError(f"{raw.origin}: no row has a value of any property")
    labelled = replace(
        raw,
        # rows are named by where they stand in the file, also when others are left out
        sample_id=[(raw.sample_id or row_names(len(parsed)))[i] for i in kept],
        formula=[raw.formula[i] for i in kept],
        values=raw.values[kept],
        noise=raw.noise[kept],
        split=None if raw.split is None else [raw.split[i] for i in kept],
    )
    return labelled, [parsed[i] for i in kept], unlabelled


def _merged(
    raw: RawTargets, parsed: list[Fractions], origin: Provenance
) -> tuple[Targets, dict[str, Any]]:
    """One row per composition, and what there is to say about it."""
    index: dict[tuple[object, str], int] = {}
    # Rows that the source puts into different parts stay apart: the split is its own.
    parts = raw.split or [""] * len(parsed)
    keys = [(composition_key(f), part) for f, part in zip(parsed, parts, strict=True)]
    groups = np.array([index.setdefault(key, len(index)) for key in keys])
    first = np.unique(groups, return_index=True)[1]  # groups are numbered as they first appear
    values = pd.DataFrame(raw.values).groupby(groups).median().to_numpy()
    # The noise of a value that is not there is of no interest. That of a merged value is the median
    # too, not that over the root of their number: whether errors are independent is not known.
    of_values = np.where(np.isnan(raw.values), np.nan, raw.noise)
    noise = pd.DataFrame(of_values).groupby(groups).median().to_numpy()
    names = raw.sample_id or row_names(len(parsed))
    targets = Targets(
        sample_id=[names[i] for i in first],
        formula=[str(raw.formula[i]) for i in first],
        system=[system_of(parsed[i]) for i in first],
        properties=raw.properties,
        values=values,
        noise=noise,
        simulated=raw.simulated,
        provenance=origin | {"origin": raw.facts},
        split=None if raw.split is None else [raw.split[i] for i in first],
    )
    facts = raw.facts | {
        "rows": len(parsed),
        "samples": len(targets),
        "merged_rows": len(parsed) - len(targets),
        "compositions_in_several_parts": len(index) - len({key for key, _ in index}),
        "missing_values": int(np.isnan(targets.values).sum()),
        "values_with_noise": int((~np.isnan(targets.noise)).sum()),
        "elements": list(vocabulary_of(parsed)),
        "systems": len(set(targets.system)),
        "simulated": raw.simulated,
    }
    return targets, facts


def check_spread(origin: str, columns: Sequence[str], values: Floats) -> None:
    """Of each property there must be two different values.

    Raises:
        UserError: names those of which there are not.
    """
    constant = [c for c, s in zip(columns, varied(values), strict=True) if not s]
    if constant:
        raise UserError(
            f"{origin}: {join_some(constant)} has one value in every row: there is nothing to "
            "learn. Leave it out (`targets.properties` names the columns to use)."
        )


def _check_folds(config: Config, targets: Targets) -> None:
    """Every fold must be possible, said now rather than hours later in the training of one."""
    judged = np.zeros(len(targets.properties), dtype=np.int64)
    for fold in fold_names(config):
        rows = split_rows(config, fold, systems=targets.system, given=targets.split)
        judged += (~np.isnan(targets.values[rows.test])).sum(axis=0)
        still = ~varied(targets.values[rows.train])
        if still.any():
            names = join_some(p.name for p, s in zip(targets.properties, still, strict=True) if s)
            raise UserError(
                f"fold `{fold}` leaves {len(rows.train)} training rows, in which {names} has one "
                "value: there is nothing to learn. Hold out fewer systems per fold."
            )
    if not judged.all():
        names = join_some(p.name for p, n in zip(targets.properties, judged, strict=True) if not n)
        raise UserError(
            f"no held-out sample has a value of {names}, which therefore cannot be judged. Hold "
            "out other systems, or leave it out (`targets.properties`)."
        )


def _sentences(raw: RawTargets, facts: dict[str, Any]) -> list[str]:
    """What the user should know about what became of the rows."""
    kind = "simulated " if raw.simulated else ""
    lines = [
        f"{raw.origin}: {facts['rows']} rows -> {facts['samples']} {kind}compositions of "
        f"{len(facts['elements'])} elements in {facts['systems']} systems"
    ]
    if facts["merged_rows"]:
        lines.append(f"{facts['merged_rows']} rows merged by composition (median of the values)")
    if facts["unlabelled_rows"]:
        lines.append(f"{facts['unlabelled_rows']} rows without any property left out")
    if facts["missing_values"]:
        lines.append(f"{facts['missing_values']} values missing: losses and metrics pass over them")
    if facts["values_with_noise"]:
        lines.append(
            f"{facts['values_with_noise']} values with measurement noise: noisier ones weigh less"
        )
    if facts["compositions_in_several_parts"]:
        lines.append(
            f"{facts['compositions_in_several_parts']} compositions stand in more than one part of "
            "the given split: its test is not of unseen compositions alone"
        )
    if "system" in facts.get("ignored_columns", []):
        lines.append("the table's `system` column is ignored: systems follow from formulas")
    lines += facts.get("sentences", [])  # what the source itself has to say
    others = [c for c in facts.get("ignored_columns", []) if c != "system"]
    if others:
        lines.append(f"columns not used: {join_some(others, most=10)}")
    return lines
