"""Step ``prepare-targets``: measured properties of a source to one checked table."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from hclmp.config import Config
from hclmp.data.composition import vocabulary_of
from hclmp.data.elements import TABULATED, check_elements
from hclmp.data.folds import fold_names
from hclmp.data.formula import Fractions, composition_key, parse_formulas
from hclmp.data.near_duplicates import TOLERANCE
from hclmp.data.split_checks import check_folds
from hclmp.data.splits import near_duplicates, split_rows
from hclmp.data.tables import Targets, write_targets
from hclmp.errors import join_some
from hclmp.files import write_json
from hclmp.pipeline.jobs import Job
from hclmp.sources.checks import check_names, check_spread, check_values
from hclmp.sources.raw import RawTargets
from hclmp.sources.registry import read_targets
from hclmp.sources.samples import labelled_rows, merge_rows

log = logging.getLogger(__name__)


def prepare_targets(config: Config, job: Job) -> None:
    """Read, check and merge the labelled compositions.

    Rows of one composition (after ``left_out`` elements are dropped) are merged by the median, of
    the values and of what is known of their noise. A record holds origin and counts.

    Raises:
        UserError: bad input; nothing is written then.
    """
    raw = read_targets(config.targets)
    if not config.given_split:  # what the source says of parts plays no role
        raw = replace(raw, split=None)
    parsed = parse_formulas(
        raw.formula, left_out=config.targets.left_out, origin=f"{raw.origin}, formulas"
    )
    check_names(raw)
    check_values(raw)
    check_elements(parsed, raw.formula, (*config.embeddings, TABULATED), origin=raw.origin)
    raw, parsed, unlabelled = labelled_rows(raw, parsed)
    targets = merge_rows(raw, parsed, job.provenance())
    names = [p.name for p in targets.properties]
    check_spread(raw.origin, names, targets.values)
    folds = ((fold, split_rows(config, fold, targets)) for fold in fold_names(config))
    check_folds(folds, targets.values, names)
    facts = raw.facts | _counts(targets, parsed) | {"unlabelled_rows": unlabelled}
    if config.split != "systems":
        facts |= _nearly_equal(config, targets)
    facts["notes"] = _sentences(raw, facts)
    for line in facts["notes"]:
        log.info(line)
    write_targets(job.outputs["table"], targets)
    write_json(job.outputs["record"], {"provenance": targets.provenance, "facts": facts})


def _counts(targets: Targets, parsed: list[Fractions]) -> dict[str, Any]:
    return {
        "rows": len(parsed),
        "samples": len(targets),
        "merged_rows": len(parsed) - len(targets),
        "compositions_in_several_parts": len(targets) - len({composition_key(f) for f in parsed}),
        "missing_values": int(np.isnan(targets.values).sum()),
        "values_with_noise": int((~np.isnan(targets.noise)).sum()),
        "elements": list(vocabulary_of(parsed)),
        "systems": len(set(targets.system)),
        "simulated": targets.simulated,
    }


def _nearly_equal(config: Config, targets: Targets) -> dict[str, int]:
    """What of nearly equal compositions a split of single rows keeps together, and what it cannot.

    A given split is as it is; a random one keeps groups on one side.
    """
    near, rows = near_duplicates(config, targets), split_rows(config, config.split, targets)
    seen = np.concatenate([rows.train, rows.validation])
    return {
        "grouped_compositions": 0 if config.given_split else near.grouped(),
        "tests_nearly_seen": near.near(rows.test, seen),
    }


def _sentences(raw: RawTargets, facts: dict[str, Any]) -> list[str]:
    """What became of the rows."""
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
    percent = f"within {100 * TOLERANCE:g} at%"
    if grouped := facts.get("grouped_compositions"):
        lines.append(
            f"{grouped} compositions are nearly equal to another ({percent}): each is on the same "
            "side of the random split as its like"
        )
    if seen := facts.get("tests_nearly_seen"):
        lines.append(
            f"{seen} test compositions are nearly equal ({percent}) to one that models learn from: "
            "their errors are those of known samples"
        )
    if "system" in facts.get("ignored_columns", []):
        lines.append("the table's `system` column is ignored: systems follow from formulas")
    lines += facts.get("sentences", [])  # what the source itself has to say
    others = [c for c in facts.get("ignored_columns", []) if c != "system"]
    if others:
        lines.append(f"columns not used: {join_some(others, most=10)}")
    return lines
