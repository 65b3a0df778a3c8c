"""The configuration of what is trained: generator, H-CLMP, baselines, and the variants compared."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hclmp.config.base import Positive, Section, Seed, Sizes

# The forests that only choose settings and measure the error on the validation systems: error and
# quantiles are those of a larger one to about a percent, and it saves its share of the time.
CALIBRATION_TREES = 100
DEVICES = r"^(auto|cpu|cuda(:[0-9]+)?|mps)$"
# Of `training`: how it is computed and not what. No result depends on it but for the last digits,
# and that a kind of device (`cpu`, `cuda`, `mps`) draws numbers of its own from the same seed: a
# result of another kind is as good as another seed's, and is not made anew.
HOW_COMPUTED = ("folds_per_job", "device", "deterministic")
# Rows that a network remembers of its training rows: bounds time and memory of a prediction.
MOST_REMEMBERED = 16_384


class GanConfig(Section):
    """The generator of DOS: that of a conditional Wasserstein GAN, by default trained without the
    critic, which does not help (docs/method.md)."""

    source: Literal["train", "pretrained"] = "train"
    """`train`: train it on the DOS of `dos:`. `pretrained`: use the generator at `path`, so that no
    DOS is needed; of the other keys, only `draws` and `seed` still apply."""
    path: str | None = None
    """The file of `source: pretrained`, relative to the working directory: the
    `generator.safetensors` of another run, or the file that `hclmp import-generator` wrote."""
    noise: Positive = 50
    """Length of the noise vector, the second input of the generator beside the composition."""
    generator_hidden: Sizes = (256, 256, 128)
    """Hidden layers of the generator (paper: 256, 256, 128)."""
    critic_hidden: Sizes = (256, 256, 128)
    """Hidden layers of the critic, if there is one."""
    memory: Annotated[int, Field(ge=0)] = 2048
    """Number of training materials per step from which each composition retrieves the DOS of the
    most similar ones. The trained generator retrieves from all of them (from 16,384 evenly spread
    ones if there are more; the DOS of the composition itself is always found). 0: no retrieval, as
    in the paper."""
    epochs: Positive = 20
    """Passes over the training DOS. The validation systems choose the best epoch; the generator
    that is kept is trained for that number of epochs, on all DOS."""
    batch_size: Positive = 256
    """Materials per step; fewer if an epoch would have less than 16 steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Adam's learning rate at the start; it falls to a hundredth along a cosine."""
    critic_steps: Annotated[int, Field(ge=0)] = 0
    """Critic steps per generator step (paper: 2). 0: no critic, which is faster and no worse."""
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the critic's gradient penalty (paper: 10)."""
    mean_weight: Annotated[float, Field(ge=0)] = 100.0
    """Weight of what pulls four draws to the true DOS: the absolute error of their mean (scaled
    values) and half their energy score. 0 is the paper's loss, whose conditional mean carries
    little."""
    draws: Positive = 100
    """Number of noise draws whose mean is the DOS feature of a composition (paper: 100)."""
    seed: Seed = 0
    """Seed of the initial weights, the noise and the split of the DOS systems."""

    @model_validator(mode="after")
    def _path_goes_with_pretrained(self) -> "GanConfig":
        if (self.source == "pretrained") != (self.path is not None):
            raise ValueError("`path` is the file of `source: pretrained`, and goes with it alone")
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> "GanConfig":
        if self.critic_steps == 0 and self.mean_weight == 0:
            raise ValueError(
                "with `critic_steps: 0` and `mean_weight: 0` the generator would learn nothing: "
                "raise one of them"
            )
        return self


class ModelConfig(Section):
    """Sizes and parts of H-CLMP; the defaults are ours, `preset: paper` has the published ones."""

    embedding: Literal["matscholar", "mat2vec", "magpie", "skipatom", "megnet16"] = "matscholar"
    """Fixed element vectors, from the ElementEmbeddings library."""
    element_size: Annotated[int, Field(gt=1)] = 32
    """Length of an element's vector: the mapped embedding followed by its fraction (paper: 64)."""
    message_layers: Positive = 1
    """Rounds of message passing over the elements of a composition (paper: 3)."""
    message_heads: Positive = 1
    """Attention heads per round, averaged (paper: 3)."""
    message_hidden: Positive = 32
    """Hidden width of the gate and message networks (paper: 256)."""
    pooling_heads: Positive = 1
    """Heads of the last pooling over elements, averaged (paper: 3)."""
    dos_size: Positive = 64
    """Length of the mapped DOS feature that is joined to the material vector (paper: 64); with
    `trunk` the feature is mapped to the width of the trunk instead."""
    latent: Positive = 64
    """Length of the latent vector z shared by label and feature encoder (paper: 128)."""
    label_encoder_hidden: Sizes = (128,)
    """Hidden layers of q(z | y) (paper: 512, 256)."""
    feature_encoder_hidden: Sizes = (128,)
    """Hidden layers of p(z | x) (paper: 256, 512, 256)."""
    decoder_hidden: Sizes = (128,)
    """Hidden layers of the shared decoder, before its output (paper: 512)."""
    property_size: Positive = 128
    """Length of the decoder output and of the property embeddings, whose product is the first
    prediction (paper: 512)."""
    token_size: Positive = 32
    """Length of the token per property in the refinement (paper: 512, the number of draws)."""
    attention_heads: Positive = 4
    """Heads of the self-attention over properties (paper: 4)."""
    attention_hidden: Positive = 64
    """Feed-forward width of that layer (paper: 512)."""
    trunk: Annotated[int, Field(ge=0)] = 192
    """Width of the residual layers that combine composition vector, element statistics and DOS
    feature into the material vector. 0: no such layers; the material vector is the composition
    vector joined with the mapped DOS feature, as in the paper."""
    trunk_layers: Positive = 1
    """Number of these layers."""
    memory: Annotated[int, Field(ge=0)] = 2048
    """Number of labelled compositions per training step, the batch included, from which each
    composition retrieves the labels of the most similar ones. A prediction retrieves from all
    training rows (from 16,384 evenly spread ones if there are more). 0: no retrieval, as in the
    paper."""
    key_size: Positive = 256
    """Length of the retrieval keys, the vectors whose distance measures similarity."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Dropout in the residual layers of `trunk`."""
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the self-attention layer (paper: 0.1)."""
    dos_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the rows whose DOS feature is replaced by its mean at each training step. It acts
    only with `dos.held_out: drop`: there the generator has learned the DOS of training rows but not
    of held-out rows, so the model would otherwise rely on the feature too much. It is 0 in all
    other runs (and in the paper)."""
    label_branch: bool = True
    """Learn q(z | y) in addition to p(z | x) and align the two; false for an ablation."""
    covariance: bool = True
    """Learn the covariance between the errors of different properties; false for an ablation with
    independent errors."""
    property_attention: bool = True
    """Refine the prediction by self-attention over the properties; false for an ablation."""
    token_noise: Literal["learned", "drawn"] = "learned"
    """How the covariance enters the tokens. `drawn`: by random draws, new in each training step and
    fixed in prediction (the paper also draws in prediction, so that two predictions differ).
    `learned`: by a learned projection of the covariance factor, which draws only approximate."""
    kl_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of KL(q(z | y) || p(z | x)) (paper: 0.1)."""
    shape_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the divergence between the softmax of the label and that of the prediction, over
    the properties."""
    likelihood_weight: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the Gaussian likelihood of the residuals under the learned covariance, per
    property. It trains only the covariance, never the mean. The paper has no such term."""

    @model_validator(mode="after")
    def _heads_divide_tokens(self) -> "ModelConfig":
        if self.token_size % self.attention_heads:
            raise ValueError("`token_size` must be a multiple of `attention_heads`")
        return self


class TrainingConfig(Section):
    """How a variant is trained on a fold."""

    epochs: Positive = 30
    """Passes over the training rows; the best epoch on the validation systems is kept."""
    batch_size: Positive = 1024
    """Approximate number of rows per step (paper: 128); at most a quarter of the training rows,
    unless there are very few."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """AdamW's learning rate at the start (paper: 5e-4)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's weight decay (paper: 1e-2)."""
    schedule: Literal["cosine", "halve"] = "cosine"
    """`cosine`: the learning rate rises over a tenth of the steps, then falls to zero along a
    cosine. `halve`: it is halved after half of the epochs, as in the paper."""
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running average of the weights: the share that is kept at each step. The
    averaged weights make the predictions. 0: no averaging, as in the paper."""
    refit_epochs: Annotated[int, Field(ge=0)] = 6
    """Further passes over training and validation rows together, once the validation systems have
    chosen the best epoch and scaled the uncertainty. 0: none, as in the paper."""
    refit_rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of `learning_rate` that those passes start with."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    """Share of the systems that are used for validation (at least one): they choose the best epoch
    and scale the uncertainty. They are drawn from the systems that have as many elements as the
    held-out ones and are neither held out nor supersets of held-out systems."""
    members: Positive = 3
    """Number of models in the ensemble. Their seeds derive from `seed`; their mean is the
    prediction."""
    seed: Seed = 0
    """Seed of everything random: initial weights, batches, draws, choice of validation systems."""
    folds_per_job: Positive = 1
    """Number of folds of a variant that one job trains as one model: 1 if you have many cores, all
    (any large number) on a GPU. The results differ only in the last digits."""
    device: Annotated[str, Field(pattern=DEVICES)] = "cpu"
    """The device that trains H-CLMP: `cpu`, `cuda`, `cuda:N` (one of several GPUs), `mps` (Apple)
    or `auto`, which uses a CUDA GPU if there is one, otherwise the CPU. With `cuda` and `cuda:N` a
    job requests a GPU from the cluster."""
    deterministic: bool = True
    """The same numbers in every run on the same machine. False may be faster on a GPU."""

    def determining(self) -> dict[str, Any]:
        """The settings that determine the result."""
        return self.model_dump(mode="json", exclude=set(HOW_COMPUTED))

    def refit(self) -> "TrainingConfig | None":
        """How training goes on once validation is done; None if it does not."""
        if not self.refit_epochs:
            return None
        rate = self.learning_rate * self.refit_rate
        return self.model_copy(update={"epochs": self.refit_epochs, "learning_rate": rate})


class EncoderConfig(Section):
    """The encoder that variants with `transfer` start from. It first learns to predict the computed
    densities of states from composition. It has the sizes of `model:`, and the `seed` and `members`
    of `training:`."""

    epochs: Annotated[int, Field(ge=0)] = 30
    """Passes over the densities of states. 0: no pretraining, as in the paper."""
    batch_size: Positive = 1024
    """Approximate number of compositions per step; at most a quarter of them, unless there are very
    few."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """AdamW's highest learning rate."""

    def training(self, base: TrainingConfig) -> TrainingConfig:
        """The settings of its training, on the same device and as reproducible as the others."""
        kept = ("members", "seed", *HOW_COMPUTED)
        return TrainingConfig(**self.model_dump(), **{key: getattr(base, key) for key in kept})


class BaselinesConfig(Section):
    """The baselines that every report shows beside H-CLMP."""

    trees: Positive = 300
    """Number of trees of each forest; boosting has at most three times as many."""


class VariantConfig(Section):
    """A model in the comparison: one line of every table of results."""

    model: Literal["hclmp", "boosting", "extra_trees", "random_forest", "ridge", "mean"]
    """Which model it is."""
    transfer: bool = False
    """Use the DOS feature, of which a baseline sees moments, quantiles and principal components. It
    makes `hclmp` H-CLMP(T)."""
    pretrained: bool = True
    """`hclmp` only, with `transfer` and `preset: default`: start from the pretrained encoder of
    `encoder:`."""
    preset: Literal["default", "paper"] = "default"
    """`hclmp` only. `paper`: the published sizes, losses and optimiser instead of those of `model:`
    and `training:`. Of these sections, `embedding`, `members`, `seed`, `validation_fraction`,
    `folds_per_job`, `device` and `deterministic` still apply."""
    overrides: dict[Literal["model", "training"], dict[str, Any]] = {}
    """`hclmp` only: the keys of `model:` and `training:` that differ for this variant."""

    @model_validator(mode="after")
    def _settings_are_for_hclmp(self) -> "VariantConfig":
        if self.model != "hclmp" and (self.preset != "default" or self.overrides):
            raise ValueError(f"`{self.model}` takes no `preset` or `overrides`")
        if self.model == "mean" and self.transfer:
            raise ValueError("`mean` takes no `transfer`: it predicts one value")
        return self


DEFAULT_VARIANTS: dict[str, dict[str, Any]] = {
    "hclmp_t": {"model": "hclmp", "transfer": True},
    "hclmp": {"model": "hclmp"},
    "boosting_t": {"model": "boosting", "transfer": True},
    "boosting": {"model": "boosting"},
    "extra_trees_t": {"model": "extra_trees", "transfer": True},
    "extra_trees": {"model": "extra_trees"},
    "random_forest": {"model": "random_forest"},
    "ridge": {"model": "ridge"},
    "mean": {"model": "mean"},
}

PAPER_PRESET: dict[str, dict[str, Any]] = {
    "model": {
        "element_size": 64,
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
        "trunk": 0,
        "memory": 0,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "dos_dropout": 0.0,
        "token_noise": "drawn",
        "likelihood_weight": 0.0,
    },
    "training": {
        "epochs": 40,
        "batch_size": 128,
        "learning_rate": 5e-4,
        "schedule": "halve",
        "averaging": 0.0,
        "refit_epochs": 0,
    },
}
