"""Step ``pretrain-encoder``: train the material encoder on computed densities of states."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.data.composition import pad
from hclmp.data.elements import TABULATED, describable, element_vectors
from hclmp.data.formula import Fractions, composition_key, parse_formulas, system_of
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.data.tables import Floats, read_dos
from hclmp.errors import UserError, join_some
from hclmp.files import write_csv
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.compute import prepare
from hclmp.models.generator.network import DosScaler
from hclmp.models.hclmp.fit import pretrain
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job
from hclmp.pipeline.seen_dos import seen_dos

log = logging.getLogger(__name__)

FEWEST = 10  # compositions: of fewer neither a scale nor a correlation can be learned


def pretrain_encoder(config: Config, job: Job, *, threads: int = 1) -> None:
    """Train the encoder of the variants with transfer to predict DOS from composition.

    The scope of the job is the fold whose systems the encoder must not see, if any.

    Raises:
        UserError: no DOS is left to learn from, or the training diverged.
    """
    check_inputs(job)
    dos, files = job.inputs["dos"], job.outputs
    table, origin = read_dos(dos), job.provenance()
    if cache.restore(origin, files.values()):
        return
    prepare(threads, deterministic=config.training.deterministic)
    parsed = parse_formulas(table.formula, left_out=config.targets.left_out, origin=str(dos))
    vocabulary = describable(config.model.embedding, left_out=config.targets.left_out)
    rows = _rows(config, parsed, vocabulary, job)
    if not rows:
        raise UserError(
            f"{dos}: none of {len(parsed)} DOS is left for the encoder to learn from: bring more, "
            "or set `encoder.epochs: 0`"
        )
    kept = table.dos[rows]  # alone also for the scale: nothing of the others is to be seen
    scaled = DosScaler.fit(kept).scale(kept).double().numpy()
    compositions, values = _by_composition([parsed[r] for r in rows], scaled)
    if len(compositions) < FEWEST:
        raise UserError(
            f"{dos}: {len(rows)} of {len(parsed)} DOS, of {len(compositions)} compositions, are "
            f"left for the encoder to learn from; it takes {FEWEST} compositions. Bring more, or "
            "set `encoder.epochs: 0`."
        )
    embedding = config.model.embedding
    elements = ElementTable(
        {embedding: element_vectors(vocabulary, embedding)}, element_vectors(vocabulary, TABULATED)
    )
    log.info("%d DOS of %d compositions", len(rows), len(compositions))
    with Checkpoints() as checkpoints:
        trained, epochs = pretrain(
            Inputs(pad(compositions, vocabulary), elements),
            values,
            model=config.model,
            training=config.encoder.training(config.training),
            key=origin,
            checkpoints=checkpoints,
        )
        write_csv(files["history"], pd.DataFrame(epochs))
        trained.save(files["encoder"], provenance=origin)
        cache.keep(origin, files.values())


def _rows(
    config: Config, parsed: Sequence[Fractions], vocabulary: Sequence[str], job: Job
) -> list[int]:
    """The rows of the DOS table that may be learned from; what is left out is counted."""
    seen = seen_dos(config, job, [system_of(fractions) for fractions in parsed])
    known = set(vocabulary)
    strange = [e for fractions in parsed for e in fractions if e not in known]
    rows = [i for i, f in enumerate(parsed) if seen[i] and known.issuperset(f)]
    if strange:
        log.warning(
            "%d DOS are left out: no tabulated properties of %s",
            sum(not known.issuperset(f) for f in parsed),
            join_some(sorted(set(strange))),
        )
    if dropped := seen.count(False):
        log.info("%d DOS of held-out systems are left out", dropped)
    return rows


def _by_composition(parsed: Sequence[Fractions], dos: Floats) -> tuple[list[Fractions], Floats]:
    """Each composition once, with the mean of its DOS."""
    groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for row, fractions in enumerate(parsed):
        groups.setdefault(composition_key(fractions), []).append(row)
    first = [parsed[rows[0]] for rows in groups.values()]
    return first, np.stack([dos[rows].mean(axis=0) for rows in groups.values()])
