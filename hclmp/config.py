"""The configuration: its types, defaults, and the friendly reading of what a user wrote.

Every key's docstring is its documentation: ``config/README.md`` and the JSON schema are generated
from this file (``hclmp config-docs``), and a test fails when they drift.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from hclmp.errors import UserError

S = TypeVar("S", bound="Section")
NAME = r"^[a-z0-9_]+$"
Positive = Annotated[int, Field(gt=0)]
Sizes = tuple[Positive, ...]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A mapping of the configuration; a key that it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class PropertyConfig(Section):
    """One property of the targets."""

    unit: str = ""
    """Unit of the values in the table, shown wherever they are (`eV`, `GPa`, `1/cm`)."""
    transform: Literal["identity", "log10"] = "identity"
    """What the models learn: the value itself, or its log10 (values must be positive)."""
    coordinate: float | None = None
    """Where the property lies on a common axis (a photon energy, say); orders and labels plots."""


class TargetsConfig(Section):
    """The measured properties: what is to be predicted."""

    source: Literal["demo", "table"] = "demo"
    """`demo`: simulated oxides that ship with hclmp. `table`: a CSV or Parquet file of yours."""
    path: str | None = None
    """The file of `source: table`, relative to the working directory."""
    formula_column: str = "formula"
    """The column that holds the formula, as pymatgen reads it (`Fe2O3`, `Fe0.25Ti0.5W0.25`)."""
    properties: dict[str, PropertyConfig] = {}
    """Column -> unit, transform and coordinate. Empty: every column other than the formula,
    `sample_id`, `system` and `*_std` is a property, in its own unit, untransformed."""
    left_out: list[str] = ["O"]
    """Elements dropped before fractions are normalised to 1; `[O]` gives cation fractions."""
    limit: Positive | None = None
    """For a quick trial: use only so many compositions (`demo`) or rows (`table`). Null: all."""

    @model_validator(mode="after")
    def _path_goes_with_table(self) -> "TargetsConfig":
        if (self.source == "table") != (self.path is not None):
            raise ValueError("`path` names the file of `source: table`, and goes with it alone")
        if self.source == "demo" and self.properties:
            raise ValueError("the demo brings its own properties: leave `properties` empty")
        return self


class EnergiesConfig(Section):
    """The energy grid of the density of states."""

    start: float = -8.0
    """First energy, in `unit`, relative to the reference (the Fermi level for electrons)."""
    stop: float = 8.0
    """Last energy, in `unit`."""
    n: Annotated[int, Field(gt=1)] = 161
    """Number of energies (D)."""
    unit: str = "eV"
    """Unit of the grid: `eV` for electrons, `1/cm` for phonons."""

    @model_validator(mode="after")
    def _ascending(self) -> "EnergiesConfig":
        if self.start >= self.stop:
            raise ValueError(f"`start` ({self.start:g}) must be less than `stop` ({self.stop:g})")
        return self


class DosConfig(Section):
    """The computed densities of states that the generator is trained on."""

    source: Literal["demo", "table", "none"] = "demo"
    """`demo`: simulated. `table`: a Parquet file with a list column, or a CSV file with one column
    per energy. `none`: no DOS, and no variant with `transfer`."""
    path: str | None = None
    """The file of `source: table`, relative to the working directory."""
    formula_column: str = "formula"
    """The column that holds the formula."""
    id_column: str | None = None
    """The column that identifies a material. Null: `material_id` if there is one, else the row."""
    dos_column: str = "dos"
    """Parquet: the list column. (CSV: every column other than formula and id is an energy.)"""
    unit: str = "states/eV/atom"
    """Unit of the DOS values, shown wherever they are."""
    held_out: Literal["keep", "drop"] = "keep"
    """`keep`: one generator, which may have seen DOS of held-out systems (as in the paper: a
    computed DOS may exist where no measurement does). `drop`: one generator per fold, without
    the DOS of its systems and of their supersets."""
    energies: EnergiesConfig = EnergiesConfig()
    """The energy grid; it must have as many energies as the table has values."""
    limit: Positive | None = None
    """For a quick trial: use only so many materials. Null: all."""

    @model_validator(mode="after")
    def _path_goes_with_table(self) -> "DosConfig":
        if (self.source == "table") != (self.path is not None):
            raise ValueError("`path` names the file of `source: table`, and goes with it alone")
        return self


class GanConfig(Section):
    """The conditional Wasserstein GAN with gradient penalty, trained on the DOS."""

    noise: Positive = 50
    """Length of the noise vector drawn beside the composition."""
    generator_hidden: Sizes = (256, 256, 128)
    """Hidden layers of the generator (paper: 256, 256, 128)."""
    critic_hidden: Sizes = (256, 256, 128)
    """Hidden layers of the critic."""
    epochs: Positive = 100
    """Passes over the training DOS; the best epoch on the validation systems is kept."""
    batch_size: Positive = 64
    """Materials per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    """Adam's learning rate at the start; it falls to a hundredth along a cosine."""
    critic_steps: Positive = 2
    """Critic steps per generator step (paper: 2)."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the critic's gradient penalty (paper: 10)."""
    mean_weight: Annotated[float, Field(ge=0)] = 30.0
    """Weight of a term that pulls the mean of four draws to the true DOS (absolute error, scaled
    values). 0 is the paper's loss, whose conditional mean carries little."""
    draws: Positive = 100
    """Noise draws averaged into the DOS feature of a composition (paper: 100)."""
    seed: Seed = 0
    """Seed of initial weights, noise, and the division of the DOS systems."""


class ModelConfig(Section):
    """Sizes and parts of H-CLMP; the defaults are ours, `preset: paper` has the published ones."""

    embedding: Literal["matscholar", "mat2vec", "magpie", "skipatom", "megnet16"] = "matscholar"
    """Fixed element vectors, from the ElementEmbeddings library."""
    element_size: Annotated[int, Field(gt=1)] = 64
    """Length of an element's vector: the mapped embedding and, last, its fraction (paper: 64)."""
    message_layers: Positive = 2
    """Rounds of message passing over the elements of a composition (paper: 3)."""
    message_heads: Positive = 2
    """Attention heads per round, averaged (paper: 3)."""
    message_hidden: Positive = 64
    """Hidden width of the gate and message networks (paper: 256)."""
    pooling_heads: Positive = 2
    """Heads of the last pooling over elements, averaged (paper: 3)."""
    dos_size: Positive = 64
    """Length that the DOS feature is mapped to before it joins the material vector (paper: 64)."""
    latent: Positive = 64
    """Length of the latent vector z shared by label and feature encoder (paper: 128)."""
    label_encoder_hidden: Sizes = (128,)
    """Hidden layers of q(z | y) (paper: 512, 256)."""
    feature_encoder_hidden: Sizes = (128,)
    """Hidden layers of p(z | x) (paper: 256, 512, 256)."""
    decoder_hidden: Sizes = (128,)
    """Hidden layers of the shared decoder, before its output (paper: 512)."""
    property_size: Positive = 128
    """Length of decoder output and property embeddings, whose product is the first prediction
    (paper: 512)."""
    token_size: Positive = 64
    """Length of the token per property in the refinement (paper: 512, the number of draws)."""
    attention_heads: Positive = 4
    """Heads of the self-attention over properties (paper: 4)."""
    attention_hidden: Positive = 128
    """Feed-forward width of that layer (paper: 512)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout in the self-attention layer."""
    label_branch: bool = True
    """Learn q(z | y) beside p(z | x) and align the two; false for an ablation."""
    covariance: bool = True
    """Learn the factor of a covariance between properties; false for an ablation."""
    property_attention: bool = True
    """Refine by self-attention over the properties; false for an ablation."""
    token_noise: Literal["learned", "drawn"] = "learned"
    """How the covariance enters the tokens. `drawn`: by random draws, fresh in training and fixed
    in prediction (the paper draws in both, so that two predictions differ). `learned`: by a
    learned projection of the covariance factor, which draws only approximate."""
    kl_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of KL(q(z | y) || p(z | x)) (paper: 0.1)."""
    shape_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the divergence between the softmax of label and prediction over the properties."""
    likelihood_weight: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the Gaussian likelihood of the residuals under the learned covariance, per
    property. It trains the covariance alone, never the mean. The paper has no such term."""

    @model_validator(mode="after")
    def _heads_divide_tokens(self) -> "ModelConfig":
        if self.token_size % self.attention_heads:
            raise ValueError("`token_size` must be a multiple of `attention_heads`")
        return self


class TrainingConfig(Section):
    """How a variant is trained on a fold."""

    epochs: Positive = 60
    """Passes over the training rows; the best epoch on the validation systems is kept."""
    batch_size: Positive = 64
    """Rows per step (paper: 128)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's learning rate at the start (paper: 5e-4)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's weight decay (paper: 1e-2)."""
    schedule: Literal["cosine", "halve"] = "cosine"
    """`cosine`: to zero along a cosine. `halve`: halved at half of the epochs (the paper)."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    """Share of the systems that are neither held out nor their supersets, of as many elements as
    the held-out ones, that choose the best epoch and scale the uncertainty (at least one)."""
    members: Positive = 1
    """Models in the ensemble; their seeds derive from `seed`, their mean is the prediction."""
    seed: Seed = 0
    """Seed of all that is random: initial weights, batches, draws, choice of validation systems."""


class BaselinesConfig(Section):
    """The baselines that every report shows beside H-CLMP."""

    trees: Positive = 300
    """Trees of the forests."""


class VariantConfig(Section):
    """A model in the comparison: one line of every table of results."""

    model: Literal["hclmp", "extra_trees", "random_forest", "ridge", "mean"]
    """Which model it is."""
    transfer: bool = False
    """`hclmp` only: give it the DOS feature, which makes it H-CLMP(T)."""
    preset: Literal["default", "paper"] = "default"
    """`hclmp` only. `paper`: the published sizes, losses and optimiser instead of `model:` and
    `training:` (whose `members`, `seed` and `validation_fraction` still hold)."""
    overrides: dict[Literal["model", "training"], dict[str, Any]] = {}
    """`hclmp` only: keys of `model:` and `training:` that differ for this variant."""

    @model_validator(mode="after")
    def _settings_are_for_hclmp(self) -> "VariantConfig":
        if self.model != "hclmp" and (self.transfer or self.preset != "default" or self.overrides):
            raise ValueError(f"`{self.model}` takes no `transfer`, `preset` or `overrides`")
        return self


DEFAULT_VARIANTS: dict[str, dict[str, Any]] = {
    "hclmp_t": {"model": "hclmp", "transfer": True},
    "hclmp": {"model": "hclmp"},
    "extra_trees": {"model": "extra_trees"},
    "random_forest": {"model": "random_forest"},
    "ridge": {"model": "ridge"},
    "mean": {"model": "mean"},
}

PAPER_PRESET: dict[str, dict[str, Any]] = {
    "model": {
        "message_layers": 3,
        "message_heads": 3,
        "message_hidden": 256,
        "pooling_heads": 3,
        "latent": 128,
        "label_encoder_hidden": (512, 256),
        "feature_encoder_hidden": (256, 512, 256),
        "decoder_hidden": (512,),
        "property_size": 512,
        "token_size": 512,
        "attention_hidden": 512,
        "token_noise": "drawn",
        "likelihood_weight": 0.0,
    },
    "training": {"epochs": 40, "batch_size": 128, "learning_rate": 5e-4, "schedule": "halve"},
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
    systems: str = "config/systems.tsv"
    """The sheet of held-out systems, tab-separated: `system`, `fold`. Systems of one fold are held
    out together; without a `fold` column each system is a fold of its own."""
    split: Literal["systems", "random"] = "systems"
    """`systems`: hold out the sheet's systems. `random`: one fold, `random`, of a fifth of the
    rows; its errors say nothing of systems nobody has made yet."""
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
        if transfer and self.dos.source == "none":
            raise ValueError(
                f"variant `{transfer[0]}` needs density of states, but `dos.source` is `none`: "
                "name a source, or leave the variant out"
            )
        if transfer and self.dos.held_out == "drop" and self.split == "random":
            raise ValueError(
                "`dos.held_out: drop` leaves out the DOS of held-out systems, and `split: random` "
                "holds out none: set `dos.held_out: keep`"
            )
        for name, variant in self.variants.items():
            _layered(self, name)
            if "validation_fraction" in variant.overrides.get("training", {}):
                raise ValueError(
                    f"`variants.{name}.overrides.training.validation_fraction`: all variants share "
                    "the rows of a fold: set `training.validation_fraction`"
                )
        return self

    @property
    def transfers(self) -> bool:
        """Whether any variant uses the DOS feature (otherwise no DOS is read at all)."""
        return any(variant.transfer for variant in self.variants.values())


def _layered(config: Config, variant: str) -> tuple[ModelConfig, TrainingConfig]:
    """Model and training settings of a variant: the preset's or the config's, then overrides."""
    chosen = config.variants[variant]
    model, training = config.model.model_dump(), config.training.model_dump()
    if chosen.preset == "paper":
        kept = {k: training[k] for k in ("members", "seed", "validation_fraction")}
        model = {"embedding": model["embedding"]} | PAPER_PRESET["model"]
        training = PAPER_PRESET["training"] | kept
    model |= chosen.overrides.get("model", {})
    training |= chosen.overrides.get("training", {})
    where = f"variants.{variant}.overrides"
    return (
        _checked(ModelConfig, model, f"{where}.model"),
        _checked(TrainingConfig, training, f"{where}.training"),
    )


def _checked(section: type[S], values: dict[str, Any], where: str) -> S:
    """Validate one section by itself, with messages that say where its values stand."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise ValueError(
            "; ".join(_explain(dict(p), section, where) for p in error.errors())
        ) from error


def variant_settings(config: Config, variant: str) -> tuple[ModelConfig, TrainingConfig]:
    """The model and training settings that hold for one variant.

    Raises:
        UserError: no such variant.
    """
    if variant not in config.variants:
        raise UserError(f"no variant `{variant}`; the config has {', '.join(config.variants)}")
    return _layered(config, variant)


def resolve(raw: Mapping[str, Any], *, origin: str = "config") -> Config:
    """Check a configuration and fill in the defaults.

    Raises:
        UserError: names each bad key with its value, and for an unknown key the nearest valid one.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        problems = [_explain(dict(problem), Config) for problem in error.errors()]
        raise UserError(f"{origin}: " + "; ".join(problems)) from error


def _explain(problem: dict[str, Any], section: type[Section], where: str = "") -> str:
    """One of pydantic's problems, in the words of someone who edits a YAML file."""
    path = [str(part) for part in problem["loc"] if part != "[key]"]
    named_by_key = "[key]" in problem["loc"]
    dotted = ".".join([where, *path] if where else path)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(section, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
        return f"unknown key `{dotted}`; {hint}"
    if problem["type"] == "literal_error" and named_by_key:
        return f"unknown key `{dotted}`; known are {problem['ctx']['expected']}"
    if problem["type"] == "missing":
        return f"`{dotted}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"`{dotted}`: {message}" if dotted else message
    return f"`{dotted}` is {problem['input']!r}: {message}"


def _keys_at(section: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that a section of the configuration knows."""
    nested: dict[str, type[BaseModel]] = {"properties": PropertyConfig, "variants": VariantConfig}
    while path:
        head, *path = path
        if head in nested:
            section, path = nested[head], path[1:]
        else:
            annotation = section.model_fields[head].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return list(section.model_fields)


def load_config(path: str | Path) -> Config:
    """Read a configuration, YAML or JSON, and fill in the defaults.

    Raises:
        UserError: no such file, not YAML, or a bad key or value.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such config. `snakemake` writes results/config.json; by hand, give "
            "`--config config/config.yaml`."
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values")
    return resolve(raw, origin=str(path))


def as_json(config: Config) -> str:
    """The resolved configuration as JSON, in its own order: what ``results/config.json`` holds."""
    return json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
