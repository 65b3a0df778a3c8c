"""Step ``prepare-targets``: measured properties of a source to one checked table."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hclmp.composition import (
    Fractions,
    composition_key,
    parse_formulas,
    system_of,
    vocabulary_of,
)
from hclmp.config import Config
from hclmp.elements import TABULATED, check_elements
from hclmp.errors import UserError, listed
from hclmp.folds import RANDOM_FOLD, read_systems, split
from hclmp.provenance import Provenance, provenance, write_json
from hclmp.slices import embeddings, targets_slice
from hclmp.sources.raw import RawTargets
from hclmp.sources.registry import TARGETS
from hclmp.tables import Targets, write_targets

log = logging.getLogger(__name__)


def prepare_targets(config: Config, *, table: Path, record: Path) -> None:
    """Read, check and merge the labelled compositions.

    Rows of one composition (after ``left_out`` elements are dropped) are merged by the median.

    Args:
        config: the resolved configuration.
        table: the targets table that is written.
        record: the JSON file with its origin and counts.

    Raises:
        UserError: bad input; nothing is written then.
    """
    raw = TARGETS[config.targets.source](config.targets)
    parsed = parse_formulas(
        raw.formula, left_out=config.targets.left_out, origin=f"{raw.origin}, formulas"
    )
    _check_values(raw)
    check_elements(parsed, raw.formula, (*embeddings(config), TABULATED), origin=raw.origin)
    origin = provenance("prepare_targets", config=targets_slice(config), inputs={})
    targets, facts = _merged(raw, parsed, origin)
    _check_spread(raw.origin, targets)
    _check_folds(config, targets)
    facts["notes"] = _sentences(raw, facts)
    for line in facts["notes"]:
        log.info(line)
    write_targets(table, targets)
    write_json(record, {"provenance": targets.provenance, "facts": facts})


def _check_values(raw: RawTargets) -> None:
    """Values must suit their transform; measurement noise must not be negative."""
    for i, prop in enumerate(raw.properties):
        values, noise = raw.values[:, i], raw.noise[:, i]
        bad = np.flatnonzero(values <= 0)
        if prop.transform == "log10" and len(bad):
            named = listed(f"row {j + 1} ({values[j]:g})" for j in bad)
            raise UserError(
                f"{raw.origin}: column `{prop.name}` is to be learned as log10, but is not "
                f"positive in {named}. Correct these rows, or set its `transform: identity`."
            )
        if len(bad := np.flatnonzero(noise < 0)):
            raise UserError(
                f"{raw.origin}: column `{prop.name}_std` is a standard deviation, but negative in "
                f"{listed(f'row {j + 1} ({noise[j]:g})' for j in bad)}. Correct or remove these "
                "rows, or leave the column out."
            )


def _merged(
    raw: RawTargets, parsed: list[Fractions], origin: Provenance
) -> tuple[Targets, dict[str, Any]]:
    """One row per composition, and what there is to say about it."""
    index: dict[tuple[tuple[str, float], ...], int] = {}
    groups = np.array([index.setdefault(composition_key(f), len(index)) for f in parsed])
    first = np.unique(groups, return_index=True)[1]  # groups are numbered as they first appear
    values = pd.DataFrame(raw.values).groupby(groups).median().to_numpy()
    noise = pd.DataFrame(raw.noise).groupby(groups).median().to_numpy()
    names = raw.sample_id or [f"row-{i}" for i in range(1, len(parsed) + 1)]
    targets = Targets(
        sample_id=[names[i] for i in first],
        formula=[str(raw.formula[i]) for i in first],
        system=[system_of(parsed[i]) for i in first],
        properties=raw.properties,
        values=values,
        noise=noise,
        simulated=raw.simulated,
        provenance=origin | {"origin": raw.facts},
    )
    facts = raw.facts | {
        "rows": len(parsed),
        "samples": len(targets),
        "merged_rows": len(parsed) - len(targets),
        "elements": list(vocabulary_of(parsed)),
        "systems": len(set(targets.system)),
        "simulated": raw.simulated,
    }
    return targets, facts


def _check_spread(origin: str, targets: Targets) -> None:
    constant = [
        p.name for i, p in enumerate(targets.properties) if np.ptp(targets.values[:, i]) == 0
    ]
    if constant:
        raise UserError(
            f"{origin}: {listed(constant)} has one value in every row: there is nothing to learn. "
            "Leave it out (`targets.properties` names the columns to use)."
        )


def _check_folds(config: Config, targets: Targets) -> None:
    """Every fold must be possible, said now rather than hours later in the training of one."""
    folds = None if config.split == "random" else read_systems(config.systems)
    for fold in folds or [RANDOM_FOLD]:
        rows = split(
            targets.system,
            folds,
            fold,
            validation_fraction=config.training.validation_fraction,
            seed=config.training.seed,
        )
        still = np.ptp(targets.values[rows.train], axis=0) == 0
        if still.any():
            names = listed(p.name for p, s in zip(targets.properties, still, strict=True) if s)
            raise UserError(
                f"fold `{fold}` leaves {len(rows.train)} training rows, in which {names} has one "
                "value: there is nothing to learn. Hold out fewer systems per fold."
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
    if "system" in facts.get("ignored_columns", []):
        lines.append("the table's `system` column is ignored: systems follow from formulas")
    others = [c for c in facts.get("ignored_columns", []) if c != "system"]
    if others:
        lines.append(f"columns not used: {listed(others, most=10)}")
    return lines
