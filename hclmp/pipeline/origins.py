"""Whether the results on disk are those of a configuration, of their inputs and of this source.

Every result carries its provenance; here it is held against what it would be if the result were
made now. Times of change play no role, so that copies from elsewhere are judged rightly too.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from hclmp.config import Config, DosConfig, TargetsConfig
from hclmp.data.folds import fold_names
from hclmp.data.tables import METADATA_KEY
from hclmp.errors import UserError, join_some
from hclmp.pipeline import paths
from hclmp.pipeline.slices import (
    aggregate_slice,
    dos_slice,
    encoder_slice,
    features_slice,
    final_slice,
    gan_slice,
    report_slice,
    targets_slice,
    train_slice,
)
from hclmp.provenance import Provenance, differing, provenance, sha256

Expected = Iterator[tuple[Path, Provenance]]
EMBEDDED = r'<script type="application/json" id="hclmp">(.*?)</script>'  # in a page


def scopes(config: Config) -> list[str | None]:
    """The folds that have a generator and features of their own; else [None]."""
    return [*fold_names(config)] if config.generator_per_fold else [None]


def generator_scopes(config: Config) -> list[str | None]:
    """The scopes that a generator is trained for."""
    if not config.pretrains:
        return []
    # where no fold's generator has seen all DOS, the final model has one of its own
    of_final = [None] if config.generator_per_fold and final_generator_of(config) else []
    return scopes(config) + of_final


def generator_of(config: Config, scope: str | None) -> Path | None:
    """The generator that makes the DOS feature, if any: a pretrained one or this run's own."""
    if not config.transfers:
        return None
    return Path(config.gan.path) if config.gan.path else paths.Gan(scope).generator


def encoder_scopes(config: Config) -> list[str | None]:
    """The scopes that an encoder is pretrained for."""
    if not config.pretrains_encoder:
        return []
    of_final = [None] if config.generator_per_fold and final_encoder_of(config) else []
    return scopes(config) + of_final


def encoder_of(config: Config, variant: str, fold: str) -> Path | None:
    """The pretrained encoder that a variant starts from on a fold, if any."""
    if not config.starts_pretrained(variant):
        return None
    return paths.Encoder(config.scope_of(fold)).weights


def trained_inputs(config: Config, variant: str, fold: str) -> dict[str, Path]:
    """Name -> file that a variant is trained from on a fold."""
    features = paths.features(config.scope_of(fold))
    inputs = {"targets": paths.TARGETS, "features": features}
    encoder = encoder_of(config, variant, fold)
    return inputs if encoder is None else inputs | {"encoder": encoder}


def predictions_of(config: Config) -> dict[str, Path]:
    """Name -> file of predictions, of all variants and folds: what the metrics are made from."""
    return {
        f"{variant}/{fold}": paths.Trained(variant, fold).predictions
        for variant in config.variants
        for fold in fold_names(config)
    }


def final_encoder_of(config: Config) -> Path | None:
    """The pretrained encoder that the final model starts from, if any; it has seen all DOS."""
    variant = config.final_variant
    starts = variant is not None and config.starts_pretrained(variant)
    return paths.Encoder().weights if starts else None


def final_generator_of(config: Config) -> Path | None:
    """The generator of the final model, which has seen all DOS; None without transfer."""
    variant = config.final_variant
    transfers = variant is not None and config.variants[variant].transfer
    return generator_of(config, None) if transfers else None


def check_results(config: Config, step: str) -> None:
    """Hold the results of a step against their provenance.

    Args:
        config: the resolved configuration.
        step: as the command line calls it, such as ``pretrain-gan``.

    Raises:
        UserError: a result is missing or damaged, or comes from another configuration, other
            inputs or another source; the message names file and difference.
    """
    for path, expected in RESULTS[step](config):
        found = read_provenance(path)
        if other := differing(found, expected):
            raise UserError(
                f"{path}: not what this run would make: another {join_some(other)}. "
                "Make it again: `snakemake --cores all` or `dvc repro`."
            )


def check_metrics(config: Config, metrics: Path) -> None:
    """Metrics must be those of this configuration and of the predictions that are here.

    Raises:
        UserError: they are not, or a file of predictions is missing.
    """
    inputs = predictions_of(config)
    for path in inputs.values():
        if not path.is_file():
            raise UserError(f"{path}: no such file; `hclmp train` makes it")
    digests = {name: sha256(path) for name, path in inputs.items()}
    wanted = {"config": aggregate_slice(config), "inputs": digests}
    if other := differing(read_provenance(metrics), wanted):
        raise UserError(
            f"{metrics}: made with other {join_some(other)} than this run's. "
            "Make it again: `hclmp aggregate`."
        )


def read_provenance(path: Path) -> Provenance:
    """The provenance that a result carries.

    Raises:
        UserError: there is no such file, or none in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file: not all results are here")
    try:
        return dict(_about(path)["provenance"])
    except (pa.ArrowException, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: it does not say where it comes from") from error


def _about(path: Path) -> Any:
    if path.suffix == ".parquet":
        return json.loads((pq.read_schema(path).metadata or {})[METADATA_KEY])
    if path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["hclmp"])
    if path.suffix == ".html":
        (text,) = re.findall(EMBEDDED, path.read_text(), flags=re.DOTALL)
        return json.loads(text)
    return json.loads(path.read_text())


def _pull_dos(config: Config) -> Expected:
    if config.dos.source != "none":
        expected = provenance("pull_dos", config=dos_slice(config), inputs={})
        for path in (paths.DOS, paths.DOS_RECORD):
            yield path, expected | _own_file(config.dos, path)


def _prepare_targets(config: Config) -> Expected:
    expected = provenance("prepare_targets", config=targets_slice(config), inputs={})
    for path in (paths.TARGETS, paths.TARGETS_RECORD):
        yield path, expected | _own_file(config.targets, path)


def _own_file(section: TargetsConfig | DosConfig, made: Path) -> Provenance:
    """What a table says of the user's own file that it was made from, with that file's hash now."""
    if section.path is None or not Path(section.path).is_file():
        return {}
    return {"origin": read_provenance(made).get("origin", {}) | {"sha256": sha256(section.path)}}


def _pretrain_gan(config: Config) -> Expected:
    for scope in generator_scopes(config):
        inputs = {"dos": paths.DOS}
        expected = provenance("pretrain_gan", config=gan_slice(config, scope), inputs=inputs)
        for path in (paths.Gan(scope).generator, paths.Gan(scope).metrics):
            yield path, expected


def _pretrain_encoder(config: Config) -> Expected:
    for scope in encoder_scopes(config):
        of_scope, inputs = encoder_slice(config, scope), {"dos": paths.DOS}
        expected = provenance("pretrain_encoder", config=of_scope, inputs=inputs)
        yield paths.Encoder(scope).weights, expected


def _featurize(config: Config) -> Expected:
    for scope in scopes(config):
        inputs = {"targets": paths.TARGETS}
        if generator := generator_of(config, scope):
            inputs["generator"] = generator
        expected = provenance("featurize", config=features_slice(config), inputs=inputs)
        yield paths.features(scope), expected


def _train(config: Config) -> Expected:
    for fold in fold_names(config):
        for variant, settings in config.variants.items():
            of_variant = train_slice(config, variant, fold)
            inputs = trained_inputs(config, variant, fold)
            expected = provenance("train", config=of_variant, inputs=inputs)
            out = paths.Trained(variant, fold)
            neural = [out.weights] if settings.model == "hclmp" else []
            for path in (out.settings, out.predictions, *neural):
                yield path, expected


def _aggregate(config: Config) -> Expected:
    of_run, inputs = aggregate_slice(config), predictions_of(config)
    expected = provenance("aggregate", config=of_run, inputs=inputs)
    yield paths.METRICS / "metrics.json", expected


def _finalize(config: Config) -> Expected:
    if config.final_variant is None:
        return
    inputs = {"targets": paths.TARGETS, "metrics": paths.METRICS / "metrics.json"}
    if generator := final_generator_of(config):
        inputs["generator"] = generator
    if encoder := final_encoder_of(config):
        inputs["encoder"] = encoder
    expected = provenance("finalize", config=final_slice(config), inputs=inputs)
    out = paths.Final()
    for path in (out.about, out.weights, out.elements):
        yield path, expected


def report_inputs(config: Config) -> dict[str, Path]:
    """Name -> file that the report reads."""
    inputs = {
        "targets": paths.TARGETS_RECORD,
        **{n: paths.METRICS / n for n in ("metrics.json", "summary.csv", "by_system.csv")},
    }
    for variant, settings in config.variants.items():
        for fold in fold_names(config):
            out = paths.Trained(variant, fold)
            inputs[f"predictions/{variant}/{fold}"] = out.predictions
            if settings.model == "hclmp":
                inputs[f"history/{variant}/{fold}"] = out.history
    if config.pretrains:
        inputs["dos"] = paths.DOS_RECORD
        for scope in scopes(config):
            inputs[f"gan/{scope or 'all'}"] = paths.Gan(scope).metrics
        inputs["gan examples"] = paths.Gan(scopes(config)[0]).examples
    return inputs


def _report(config: Config) -> Expected:
    inputs = report_inputs(config)
    yield paths.REPORT, provenance("report", config=report_slice(config), inputs=inputs)


RESULTS: dict[str, Callable[[Config], Expected]] = {
    "pull-dos": _pull_dos,
    "prepare-targets": _prepare_targets,
    "pretrain-gan": _pretrain_gan,
    "pretrain-encoder": _pretrain_encoder,
    "featurize": _featurize,
    "train": _train,
    "aggregate": _aggregate,
    "finalize": _finalize,
    "report": _report,
}
