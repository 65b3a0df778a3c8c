"""The whole configuration, and what holds between its sections."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from hclmp.config.base import NAME, Section
from hclmp.config.data import DosConfig, TargetsConfig
from hclmp.config.explain import explain
from hclmp.config.models import (
    DEFAULT_VARIANTS,
    HOW_COMPUTED,
    PAPER_PRESET,
    BaselinesConfig,
    EncoderConfig,
    GanConfig,
    ModelConfig,
    TrainingConfig,
    VariantConfig,
)
from hclmp.errors import UserError

S = TypeVar("S", bound=Section)
# Of `training`: what all variants have in common, and why.
SHARED = {
    "validation_fraction": "share the rows of a fold",
    **dict.fromkeys(HOW_COMPUTED, "are computed alike"),
}


def _named_variants(value: Any) -> Any:
    """A list of names, or names without settings, stand for the default variants of that name."""
    if isinstance(value, list):
        if strange := [name for name in value if not isinstance(name, str)]:
            raise ValueError(
                f"{strange[0]!r} is no name; a list holds names of default variants alone. To "
                "describe one, write all as a mapping: {name: {model: ...}}"
            )
        if repeated := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"named twice: {', '.join(repeated)}")
        value = dict.fromkeys(value)
    if not isinstance(value, Mapping):
        return value
    for name, settings in value.items():
        if settings is None and name not in DEFAULT_VARIANTS:
            near = difflib.get_close_matches(str(name), DEFAULT_VARIANTS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else "."
            raise ValueError(
                f"`{name}` is no default variant ({', '.join(DEFAULT_VARIANTS)}){hint} "
                "Say what it is: {" + str(name) + ": {model: ...}}"
            )
    return {n: DEFAULT_VARIANTS[n] if s is None else s for n, s in value.items()}


Variants = Annotated[
    dict[Annotated[str, Field(pattern=NAME)], VariantConfig],
    BeforeValidator(
        _named_variants,
        json_schema_input_type=list[str] | dict[str, VariantConfig | None],
    ),
    Field(min_length=1),
]


class Config(Section):
    """The whole configuration of a run."""

    targets: TargetsConfig = TargetsConfig()
    """The measured properties: what is to be predicted."""
    dos: DosConfig = DosConfig()
    """The computed densities of states that the generator is trained on."""
    gan: GanConfig = GanConfig()
    """The generator of density of states."""
    encoder: EncoderConfig = EncoderConfig()
    """The encoder pretrained on densities of states."""
    systems: str = "config/systems.tsv"
    """The sheet of held-out systems, with tab-separated columns `system` and `fold`. The systems of
    one fold are held out together; without a `fold` column each system is a fold of its own."""
    split: Literal["systems", "random", "column"] = "systems"
    """`systems`: hold out the systems of the sheet. `random`: one fold, named `random`, of a fifth
    of the rows, with compositions that differ by at most 0.4 at% on the same side (with
    `targets.source: reference`, the archive's own random split); its errors do not tell how well
    systems that nobody has made yet are predicted. `column`: one fold, named `column`, as
    `targets.split_column` says."""
    variants: Variants = Field(default=list(DEFAULT_VARIANTS), validate_default=True)
    """The models to compare: names of default variants, or `{name: {model: ..., ...}}`."""
    model: ModelConfig = ModelConfig()
    """Sizes and parts of H-CLMP."""
    training: TrainingConfig = TrainingConfig()
    """How H-CLMP is trained on a fold."""
    baselines: BaselinesConfig = BaselinesConfig()
    """The baselines."""

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        transfer = [name for name, variant in self.variants.items() if variant.transfer]
        if self.pretrains and self.dos.source == "none":
            raise ValueError(
                f"variant `{transfer[0]}` needs density of states, but `dos.source` is `none`: "
                "name a source, or leave the variant out"
            )
        if self.pretrains and self.dos.source == "demo" and self.targets.source != "demo":
            raise ValueError(
                f"variant `{transfer[0]}` would learn the demo's simulated density of states "
                f"(`dos.source: demo`) for `targets.source: {self.targets.source}`: set "
                "`dos.source` to `table`, `materials_project` or `reference`, or to `none`, with "
                "`variants` without `transfer`"
            )
        if transfer and self.dos.held_out == "drop":
            if self.split != "systems":
                raise ValueError(
                    "`dos.held_out: drop` leaves out the DOS of held-out systems, and `split: "
                    f"{self.split}` holds out none: set `dos.held_out: keep`"
                )
            if not self.pretrains:
                raise ValueError(
                    "`dos.held_out: drop` cannot be had of a pretrained generator, which has seen "
                    "what it has seen: set `dos.held_out: keep`"
                )
        if self.split == "column" and self.targets.split_column is None:
            raise ValueError("`split: column` needs `targets.split_column`, which names it")
        for name, variant in self.variants.items():
            _layered(self, name)
            _check_encoder(self, name)
            overridden = variant.overrides.get("model", {}).get("dos_dropout")
            if overridden and not self.guesses_dos(name):
                raise ValueError(
                    f"`variants.{name}.overrides.model.dos_dropout` acts on a variant with "
                    "`transfer` and `dos.held_out: drop` alone: leave it out"
                )
            for key in variant.overrides.get("training", {}):
                if why := SHARED.get(key):
                    raise ValueError(
                        f"`variants.{name}.overrides.training.{key}`: all variants {why}: set "
                        f"`training.{key}`"
                    )
        return self

    @property
    def transfers(self) -> bool:
        """Whether any variant uses the DOS feature (otherwise no DOS is read at all)."""
        return any(variant.transfer for variant in self.variants.values())

    @property
    def pretrains(self) -> bool:
        """Whether a generator is trained, rather than not needed or brought along."""
        return self.transfers and self.gan.source == "train"

    def starts_pretrained(self, variant: str) -> bool:
        """Whether the encoder of a variant is first trained on densities of states."""
        chosen = self.variants[variant]
        may = chosen.transfer and chosen.pretrained and chosen.preset == "default"
        is_network = chosen.model == "hclmp"
        return is_network and self.pretrains and may and self.encoder.epochs > 0

    @property
    def pretrains_encoder(self) -> bool:
        """Whether any variant's encoder is first trained on densities of states."""
        return any(self.starts_pretrained(name) for name in self.variants)

    @property
    def generator_per_fold(self) -> bool:
        """Whether each fold has a generator, encoder and features of its own."""
        return self.pretrains and self.dos.held_out == "drop"

    def scope_of(self, fold: str) -> tuple[str, ...]:
        """What the generator, encoder and features of a fold are made for: it, or all folds ()."""
        return (fold,) if self.generator_per_fold else ()

    @property
    def neural(self) -> list[str]:
        """The variants that are H-CLMP."""
        return [name for name, variant in self.variants.items() if variant.model == "hclmp"]

    @property
    def embeddings(self) -> list[str]:
        """The embeddings that some variant uses, and the generator's."""
        used = {variant_settings(self, name)[0].embedding for name in self.variants}
        # The generator has that of `model:`, whatever the variants override; a pretrained
        # generator brings its own.
        return sorted(used | ({self.model.embedding} if self.pretrains else set()))

    @property
    def dos_feature(self) -> dict[str, Any]:
        """How the generator is asked for the DOS feature: the arguments of ``Generator.feature``.

        If it has not seen held-out systems, no composition recalls the DOS of its own system:
        otherwise a training row would show what the generator remembers, a held-out row a guess.
        """
        hide = self.dos.held_out == "drop"
        return {"draws": self.gan.draws, "seed": self.gan.seed, "hide_own_system": hide}

    @property
    def dos_of_held_out_systems(self) -> str:
        """Whether the generator may have seen DOS of held-out systems, as every report says it."""
        if not self.transfers:
            return "not used"
        if not self.pretrains:
            return "pretrained generator: what it has seen is not known here"
        return self.dos.held_out

    def guesses_dos(self, variant: str) -> bool:
        """Whether the DOS feature of a variant is a guess for every composition."""
        return self.variants[variant].transfer and self.generator_per_fold

    @property
    def final_variant(self) -> str | None:
        """The variant that is trained on all samples in the end: the first that is H-CLMP."""
        return next(iter(self.neural), None)

    @property
    def final_transfers(self) -> bool:
        """Whether that variant has the DOS feature."""
        return self.final_variant is not None and self.variants[self.final_variant].transfer

    @property
    def given_split(self) -> bool:
        """Whether the table itself divides its rows, in a fold named as `split`."""
        return self.split == "column" or (
            self.split == "random" and self.targets.source == "reference"
        )


def _layered(config: Config, variant: str) -> tuple[ModelConfig, TrainingConfig]:
    """Model and training settings of a variant: the preset's or the config's, then overrides.

    ``dos_dropout`` is 0 where it cannot act.
    """
    chosen = config.variants[variant]
    model, training = config.model.model_dump(), config.training.model_dump()
    if chosen.preset == "paper":
        kept = {k: training[k] for k in ("members", "seed", *SHARED)}
        model = {"embedding": model["embedding"]} | PAPER_PRESET["model"]
        training = PAPER_PRESET["training"] | kept
    model |= chosen.overrides.get("model", {})
    training |= chosen.overrides.get("training", {})
    where = f"variants.{variant}.overrides"
    settings = _checked(ModelConfig, model, f"{where}.model")
    if not config.guesses_dos(variant):
        settings = settings.model_copy(update={"dos_dropout": 0.0})
    return settings, _checked(TrainingConfig, training, f"{where}.training")


# What the shape of the pretrained encoder depends on.
ENCODER = (
    *("embedding", "element_size", "message_layers", "message_heads", "message_hidden"),
    *("pooling_heads", "trunk", "trunk_layers", "key_size"),
)


def _check_encoder(config: Config, variant: str) -> None:
    """One pretrained encoder serves all variants: they must have its shape."""
    if not config.starts_pretrained(variant):
        return
    model, training = _layered(config, variant)
    other = [f"model.{k}" for k in ENCODER if getattr(model, k) != getattr(config.model, k)]
    if training.members > config.training.members:
        other.append("training.members")
    if other:
        raise ValueError(
            f"`variants.{variant}.overrides.{other[0]}`: all variants with `transfer` start from "
            "one encoder, trained on the densities of states with `model:` and `training:`. Set "
            f"it there, or `variants.{variant}.pretrained: false`"
        )


def _checked(section: type[S], values: dict[str, Any], where: str) -> S:
    """Validate one section by itself, with messages that say where its values stand."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ValueError(
            "; ".join(explain(dict(p), section, where) for p in error.errors())
        ) from error


def variant_settings(config: Config, variant: str) -> tuple[ModelConfig, TrainingConfig]:
    """The model and training settings that hold for one variant.

    Raises:
        UserError: no such variant.
    """
    if variant not in config.variants:
        raise UserError(f"no variant `{variant}`; the config has {', '.join(config.variants)}")
    return _layered(config, variant)
