"""Step ``finalize``: the model for use, trained on all samples, in a folder that stands alone."""

import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hclmp import CITATION
from hclmp.config import Config, variant_settings
from hclmp.data.composition import pad
from hclmp.data.elements import TABULATED, describable, element_vectors
from hclmp.data.folds import calibration_folds
from hclmp.data.formula import parse_formulas
from hclmp.data.inputs import ElementTable, Inputs, Labelled
from hclmp.data.splits import split_rows
from hclmp.data.tables import Targets, read_targets
from hclmp.files import atomic_write, write_csv, write_json
from hclmp.model import SCHEMA_VERSION, write_elements
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.compute import prepare
from hclmp.models.generator.network import Generator
from hclmp.models.hclmp.ensemble import Ensemble, HeldOut, distances
from hclmp.models.hclmp.fit import fit_final
from hclmp.models.interface import Part
from hclmp.models.recall import HIDDEN
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job
from hclmp.pipeline.reading import read_inputs, read_start
from hclmp.provenance import Provenance

log = logging.getLogger(__name__)
FAR = 0.99  # of the training samples, with their own system unknown, are nearer than what is far


def finalize(config: Config, job: Job, *, threads: int = 1) -> None:
    """Train the first H-CLMP variant on all samples and write it with all that a prediction needs.

    The epochs are the median of the best ones of the calibration's models; the size of the
    uncertainty makes the samples that these did not see most likely. With transfer, generator and
    encoder are those that have seen all DOS.

    Raises:
        UserError: a file of an earlier step is missing or belongs to another run.
    """
    check_inputs(job)
    variant, out, origin = job.settings["variant"], job.outputs, job.provenance()
    if cache.restore(origin, out.values()):
        return
    prepare(threads, deterministic=config.training.deterministic)
    targets, generator = job.inputs["targets"], job.inputs.get("generator")
    table = read_targets(targets)
    held_out, whole_systems = _held_out(config, job, table)
    model, training = variant_settings(config, variant)
    training = training.model_copy(update={"epochs": _epochs(config, job)})
    inputs, dos_known = _inputs(config, table, targets, generator, model.embedding)
    data = Labelled.of(table, inputs, np.arange(len(table)))
    part = Part(data, None, origin, read_start(job), whole_systems)
    copies = {"training": targets} | ({} if generator is None else {"generator": generator})
    with Checkpoints() as checkpoints:
        fitted, history = fit_final(
            part, held_out, model=model, training=training, checkpoints=checkpoints
        )
        # An old `model.json` must not stand beside new weights, if this is killed now.
        out["about"].unlink(missing_ok=True)
        far = _far(fitted, data.inputs) if whole_systems else None
        fitted.save(out["weights"], provenance=origin)
        write_elements(out["elements"], data.inputs.elements, provenance=origin)
        for name, source in copies.items():
            with atomic_write(out[name]) as temporary:
                shutil.copyfile(source, temporary)
        write_csv(out["history"], pd.DataFrame(history))
        # What names the others comes last.
        about = _about(config, data, table, job.inputs["metrics"], far, dos_known, origin)
        write_json(out["about"], about)
        cache.keep(origin, out.values())
    folder = out["about"].parent
    log.info("%s: %s on all %d samples, %d epochs", folder, variant, len(data), training.epochs)


def _held_out(config: Config, job: Job, table: Targets) -> tuple[HeldOut, bool]:
    """What the calibration's models say of their test samples; are these of other systems?"""
    parts, whole = [], True
    for fold in calibration_folds(config):
        fitted = Ensemble.from_file(job.inputs[f"weights/{fold}"])
        features = job.inputs[f"features/{fold}"]
        inputs = read_inputs(config, job.settings["variant"], features, table)
        rows = split_rows(config, fold, table)
        systems = np.array(table.system)
        whole &= set(systems[rows.train]).isdisjoint(systems[rows.validation])
        parts.append(HeldOut.of(fitted, Labelled.of(table, inputs, rows.test)))
    return HeldOut.concatenate(parts), whole


def _epochs(config: Config, job: Job) -> int:
    """The median of the best epochs over folds and members."""
    best = []
    for fold in calibration_folds(config):
        history = pd.read_csv(job.inputs[f"history/{fold}"])
        history = history.query("stage == 'selection'").reset_index(drop=True)
        rows = history.groupby("member")["validation_mae"].idxmin()
        best += history.loc[rows, "epoch"].tolist()
    return max(1, round(float(np.median(best))))


def _inputs(
    config: Config, table: Targets, path: Path, generator: Path | None, embedding: str
) -> tuple[Inputs, float | None]:
    """All samples over all elements that have vectors, so that later ones may hold any of them.

    And with transfer, the share of them whose DOS the generator knows rather than guesses.
    """
    vocabulary = describable(embedding, left_out=config.targets.left_out)
    parsed = parse_formulas(table.formula, left_out=config.targets.left_out, origin=str(path))
    compositions = pad(parsed, vocabulary)
    elements = ElementTable(
        {embedding: element_vectors(vocabulary, embedding)}, element_vectors(vocabulary, TABULATED)
    )
    inputs = Inputs(compositions, elements)
    if generator is None:
        return inputs, None
    read = Generator.from_file(generator)
    feature = read.feature(read.fractions(compositions), **config.dos_feature)
    return replace(inputs, dos=feature.dos.numpy()), float(feature.known.float().mean())


def _about(
    config: Config,
    data: Labelled,
    table: Targets,
    metrics: Path,
    far: float | None,
    dos_known: float | None,
    origin: Provenance,
) -> dict[str, Any]:
    """What ``model.json`` says of the model."""
    evaluated = json.loads(metrics.read_text())
    compositions = data.inputs.compositions
    seen = np.unique(compositions.elements[compositions.fractions > 0])
    return {
        "schema_version": SCHEMA_VERSION,
        "variant": config.final_variant,
        "properties": [asdict(p) for p in table.properties],
        "left_out": config.targets.left_out,
        "transfer": None if data.inputs.dos is None else config.dos_feature,
        "trained_on": {
            "samples": len(data),
            "systems": len(set(table.system)),
            "elements": [compositions.vocabulary[e] for e in seen],
            "simulated": table.simulated,
            "dos_known": dos_known,
        },
        "far": far,
        "held_out_evaluation": {k: v for k, v in evaluated.items() if k != "provenance"},
        "provenance": origin,
        "citation": CITATION,
    }


def _far(fitted: Ensemble, inputs: Inputs) -> float | None:
    """The distance in latent space from which on a composition is far from training."""
    nearest = distances(fitted, inputs, like_new=True)
    if nearest is None:
        return None
    nearest = nearest[nearest < HIDDEN / 2]  # some have nothing but their own system and supersets
    return float(np.quantile(nearest, FAR)) if len(nearest) else None
