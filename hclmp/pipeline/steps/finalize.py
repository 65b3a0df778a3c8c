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
from hclmp.data.features import read_features
from hclmp.data.folds import fold_names, split_rows
from hclmp.data.formula import parse_formulas
from hclmp.data.inputs import ElementTable, Inputs, Labelled
from hclmp.data.tables import Targets, read_targets
from hclmp.errors import UserError, join_some
from hclmp.files import atomic_write, write_csv, write_json
from hclmp.model import SCHEMA_VERSION, write_elements
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.compute import prepare
from hclmp.models.hclmp.ensemble import Ensemble, HeldOut, distances
from hclmp.models.hclmp.fit import fit_final
from hclmp.models.interface import Part
from hclmp.models.recall import HIDDEN
from hclmp.pipeline.origins import check_metrics, read_provenance, trained_inputs
from hclmp.pipeline.paths import Final, Trained
from hclmp.pipeline.slices import feature_settings, final_slice, train_slice
from hclmp.pipeline.steps.featurize import read_generator
from hclmp.pipeline.steps.train import labelled, start_of, without_dos
from hclmp.provenance import Provenance, differing, provenance, sha256

log = logging.getLogger(__name__)
FAR = 0.99  # of the training samples, with their own system unknown, are nearer than what is far


def finalize(
    config: Config,
    *,
    targets: Path,
    encoder: Path | None,
    generator: Path | None,
    metrics: Path,
    out: Final,
    threads: int = 1,
) -> None:
    """Train the first H-CLMP variant on all samples and write it with all that a prediction needs.

    Epochs are the median of the best ones of the folds' models; the size of the uncertainty is
    what makes the folds' held-out samples most likely.

    Args:
        config: the resolved configuration.
        targets: the targets table.
        encoder: the encoder to start from, which has seen all DOS; None if none is pretrained.
        generator: the generator of the DOS feature, which has seen all DOS; None without transfer.
        metrics: ``metrics.json`` of the held-out evaluation, which goes with the model.
        out: the files that are written.
        threads: of the computation.

    Raises:
        UserError: no variant is H-CLMP, or a file of an earlier step is missing or of other data.
    """
    variant = config.final_variant
    if variant is None:
        raise UserError(
            "no variant is H-CLMP, so there is no final model: name `hclmp_t` or `hclmp`"
        )
    made_by = {metrics: "aggregate", generator: "pretrain-gan", encoder: "pretrain-encoder"}
    for file, command in made_by.items():
        if file is not None and not file.is_file():
            raise UserError(f"{file}: no such file; `hclmp {command}` makes it")
    check_metrics(config, metrics)
    prepare(threads, deterministic=config.training.deterministic)
    table = read_targets(targets)
    start = start_of(config, None, encoder)
    origin = provenance(
        "finalize",
        config=final_slice(config),
        inputs={"targets": targets, "metrics": metrics}
        | ({} if generator is None else {"generator": generator})
        | ({} if encoder is None else {"encoder": encoder}),
    )
    held_out, whole_systems = _held_out(config, variant, table)
    model, training = variant_settings(config, variant)
    training = training.model_copy(update={"epochs": _epochs(variant, fold_names(config))})
    inputs, dos_known = _inputs(
        config, table, generator, embedding=model.embedding, origin=str(targets)
    )
    data = labelled(table, inputs, np.arange(len(table)))
    part = Part(data, None, origin, start, whole_systems)
    with Checkpoints() as checkpoints:
        fitted, history = fit_final(
            part, held_out, model=model, training=training, checkpoints=checkpoints
        )
        # An old `model.json` must not stand beside new weights, if this is killed now.
        out.about.unlink(missing_ok=True)
        far = _far(fitted, data.inputs) if whole_systems else None
        fitted.save(out.weights, provenance=origin)
        write_elements(out.elements, data.inputs.elements, provenance=origin)
        for source, copy in ((targets, out.training), (generator, out.generator)):
            if source is not None:
                with atomic_write(copy) as temporary:
                    shutil.copyfile(source, temporary)
        write_csv(out.history, pd.DataFrame(history))
        # What names the others comes last.
        write_json(out.about, _about(config, data, table, metrics, far, dos_known, origin))
    log.info("%s: %s on all %d samples, %d epochs", out.folder, variant, len(data), training.epochs)


def _held_out(config: Config, variant: str, table: Targets) -> tuple[HeldOut, bool]:
    """What the folds' models say of their test samples; and whether whole systems are held out.

    Raises:
        UserError: a model is of another configuration, or of other targets or features.
    """
    parts, whole = [], True
    for fold in fold_names(config):
        weights = Trained(variant, fold).weights
        fitted = Ensemble.from_file(weights)
        found, read = read_provenance(weights), trained_inputs(config, variant, fold)
        for path in read.values():
            if not path.is_file():
                raise UserError(
                    f"{path}: no such file, which a model of fold {fold} is made with: run "
                    "`snakemake --cores all` or `dvc repro`"
                )
        wanted = {
            "config": train_slice(config, variant, fold),
            "inputs": {name: sha256(path) for name, path in read.items()},
        }
        if other := differing(found, wanted):
            raise UserError(
                f"{weights}: made with other {join_some(other)} than this run's. Train it again: "
                f"`hclmp train --variant {variant} --fold {fold}`."
            )
        inputs = read_features(read["features"])[0]
        keep = config.variants[variant].transfer
        inputs = without_dos(inputs, keep=keep, features=read["features"])
        rows = split_rows(config, fold, systems=table.system, given=table.split)
        systems = np.array(table.system)
        whole &= set(systems[rows.train]).isdisjoint(systems[rows.validation])
        parts.append(HeldOut.of(fitted, labelled(table, inputs, rows.test)))
    return HeldOut.concatenate(parts), whole


def _epochs(variant: str, folds: list[str]) -> int:
    """The median of the best epochs over folds and members."""
    best = []
    for fold in folds:
        file = Trained(variant, fold).history
        if not file.is_file():
            raise UserError(f"{file}: no such file; `hclmp train` makes it")
        history = pd.read_csv(file).query("stage == 'selection'").reset_index(drop=True)
        rows = history.groupby("member")["validation_mae"].idxmin()
        best += history.loc[rows, "epoch"].tolist()
    return max(1, round(float(np.median(best))))


def _inputs(
    config: Config, table: Targets, generator: Path | None, *, embedding: str, origin: str
) -> tuple[Inputs, float | None]:
    """All samples over all elements that have vectors, so that later ones may hold any of them.

    And with transfer, the share of them whose DOS the generator knows rather than guesses.
    """
    vocabulary = describable(embedding, left_out=config.targets.left_out)
    parsed = parse_formulas(table.formula, left_out=config.targets.left_out, origin=origin)
    compositions = pad(parsed, vocabulary)
    elements = ElementTable(
        {embedding: element_vectors(vocabulary, embedding)}, element_vectors(vocabulary, TABULATED)
    )
    inputs = Inputs(compositions, elements)
    if generator is None:
        return inputs, None
    read = read_generator(config, generator, None)
    feature = read.feature(read.fractions(compositions), **feature_settings(config))
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
        "transfer": None if data.inputs.dos is None else feature_settings(config),
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
