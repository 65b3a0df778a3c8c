"""Which part of the configuration determines which result.

A step's slice is embedded in what it writes, and is a parameter of its rule: a change elsewhere in
the configuration reruns nothing.
"""

from typing import Any

from hclmp.config import Config, variant_settings
from hclmp.data.folds import fold_names, held_out_systems
from hclmp.errors import UserError, join_some
from hclmp.provenance import hash_of


def targets_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the targets table."""
    return {
        "targets": config.targets.model_dump(mode="json"),
        "given_split": config.given_split,
    }


def dos_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the DOS table."""
    return {
        "dos": config.dos.model_dump(mode="json", exclude={"held_out"}),
        "left_out": config.targets.left_out,
    }


def gan_slice(config: Config, fold: str | None = None) -> dict[str, Any]:
    """The part of the configuration that determines the generator."""
    return {
        "gan": config.gan.model_dump(mode="json", exclude={"draws"}),
        "embedding": config.model.embedding,
        "left_out": config.targets.left_out,
        **_learned_from(config, fold),
    }


def encoder_slice(config: Config, fold: str | None = None) -> dict[str, Any]:
    """The part of the configuration that determines the pretrained encoder."""
    return {
        # no DOS feature is an input of it
        "hclmp": config.model.model_dump(mode="json", exclude={"dos_dropout"}),
        "encoder": config.encoder.model_dump(mode="json"),
        "members": config.training.members,
        "seed": config.training.seed,
        "left_out": config.targets.left_out,
        **_learned_from(config, fold),
    }


def features_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the features."""
    return {
        "draws": config.gan.draws if config.transfers else None,
        "dos_held_out": config.dos.held_out if config.transfers else None,
        "seed": config.gan.seed,
        "embeddings": embeddings(config),
        "left_out": config.targets.left_out,
    }


def feature_settings(config: Config) -> dict[str, Any]:
    """How the generator is asked for the DOS feature: the arguments of ``Generator.feature``.

    Where it has not seen held-out systems, no composition recalls its own system: a training row
    would else show what it remembers, a held-out row what it makes up.
    """
    return {
        "draws": config.gan.draws,
        "seed": config.gan.seed,
        "hide_own_system": config.dos.held_out == "drop",
    }


def train_slice(config: Config, variant: str, fold: str) -> dict[str, Any]:
    """The part of the configuration that determines a variant on a fold.

    Raises:
        UserError: no such variant or fold.
    """
    model, training = variant_settings(config, variant)
    chosen = config.variants[variant]
    settings: dict[str, Any] = {
        "variant": variant,
        "model": chosen.model,
        "fold": fold,
        "split": config.split,
        "systems": _held_out(config, fold),
        # The rows of a fold are the same for every variant, whatever its own training seed.
        "split_seed": config.training.seed,
        "validation_fraction": config.training.validation_fraction,
        "dos_held_out": config.dos.held_out if chosen.transfer else None,
    }
    if chosen.model == "hclmp":
        settings |= {
            "transfer": chosen.transfer,
            "pretrained": config.starts_pretrained(variant),
            "hclmp": model.model_dump(mode="json"),
            "training": training.determining(),
        }
    else:
        settings["baselines"] = config.baselines.model_dump(mode="json")
    return settings


def aggregate_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the metrics."""
    folds = fold_names(config)
    trained = {
        f"{variant}/{fold}": hash_of(train_slice(config, variant, fold))
        for variant in config.variants
        for fold in folds
    }
    return {"trained": trained, "dos_held_out": dos_of_held_out_systems(config)}


def final_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the final model."""
    variant = config.final_variant
    assert variant is not None
    model, training = variant_settings(config, variant)
    return {
        "variant": variant,
        "transfer": config.variants[variant].transfer,
        "pretrained": config.starts_pretrained(variant),
        "hclmp": model.model_dump(mode="json"),
        "training": training.determining(),
        "split": config.split,
        "features": features_slice(config),
        "evaluated": aggregate_slice(config),
    }


def report_slice(config: Config) -> dict[str, Any]:
    """The part of the configuration that determines the report, which shows all of it."""
    return config.model_dump(mode="json")


def dos_of_held_out_systems(config: Config) -> str:
    """Whether the generator may have seen DOS of held-out systems, as every report says it."""
    if not config.transfers:
        return "not used"
    if not config.pretrains:
        return "pretrained generator: what it has seen is not known here"
    return config.dos.held_out


def embeddings(config: Config) -> list[str]:
    """The embeddings that some variant uses."""
    used = {variant_settings(config, name)[0].embedding for name in config.variants}
    # the generator's, whatever the variants override (a pretrained one brings its own)
    return sorted(used | ({config.model.embedding} if config.pretrains else set()))


def _learned_from(config: Config, fold: str | None) -> dict[str, Any]:
    """What decides which DOS are learned from: all, or those that a fold may see."""
    known: dict[str, Any] = {"held_out": config.dos.held_out}
    return known if fold is None else known | {"fold": fold, "systems": _held_out(config, fold)}


def _held_out(config: Config, fold: str) -> list[str]:
    """The systems of a fold; none for other splits."""
    folds = held_out_systems(config)
    if fold not in folds:
        raise UserError(f"no fold `{fold}`; there are {join_some(folds)}")
    return list(folds[fold])
