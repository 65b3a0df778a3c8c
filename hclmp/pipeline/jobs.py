"""The table of jobs: every result of a run, what makes it, from what, under which settings.

A job's settings are the part of the configuration that determines its result: they are embedded in
the result and are a parameter of its rule, so that a change elsewhere reruns nothing. All paths are
relative to the working directory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hclmp.config import Config, variant_settings
from hclmp.data.folds import CALIBRATION, calibration_folds
from hclmp.errors import UserError, join_some
from hclmp.files import ModelFiles
from hclmp.pipeline.scopes import (
    Scope,
    dos_scopes,
    dos_seen,
    evaluated,
    evaluation_scopes,
    features_scope,
    held_out_by,
    shared_scopes,
    split_of_rows,
    trained,
)
from hclmp.provenance import Provenance, hash_of, provenance

CONFIG = Path("results/config.json")
PROCESSED = Path("data/processed")
RESULTS = Path("results")
TARGETS = {"targets": PROCESSED / "targets.parquet"}
DOS = {"dos": PROCESSED / "dos.parquet"}
STAMPED = {".parquet", ".json", ".safetensors", ".html"}  # kinds of file that carry a provenance

Settings = dict[str, Any]
Files = dict[str, Path]


@dataclass(frozen=True)
class Step:
    """A row of the table: what is true of all jobs of a step.

    Attributes:
        settings: given the configuration and a scope, like outputs and inputs.
        outputs: what is written; ``workflow/stage.py`` asks Snakemake for the first.
        inputs: what is read, besides the user's own files of ``targets.path`` and ``dos.path``.
        scopes: the jobs that a run has; none where the step has nothing to do.
        options: what names a scope on the command line.
        copies: outputs that are copies of another job's, and carry that one's provenance.
        idle: why a run may have no job of this step.
    """

    settings: Callable[..., Settings]
    outputs: Callable[..., Files]
    inputs: Callable[..., Files] = lambda config: {}
    scopes: Callable[[Config], list[Scope]] = lambda config: [()]
    options: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    idle: str = ""


@dataclass(frozen=True)
class Job:
    """One result of a run; a rule of Snakemake gives wildcards such as ``{fold}`` as the scope."""

    config: Config
    step: str
    scope: Scope = ()

    @cached_property
    def settings(self) -> Settings:
        """The part of the configuration that determines the result."""
        return STEPS[self.step].settings(self.config, *self.scope)

    @cached_property
    def inputs(self) -> Files:
        """Name -> file that is read."""
        return STEPS[self.step].inputs(self.config, *self.scope)

    @cached_property
    def outputs(self) -> Files:
        """Name -> file that is written."""
        return STEPS[self.step].outputs(self.config, *self.scope)

    @property
    def stamped(self) -> list[Path]:
        """The outputs that carry this job's provenance."""
        own = self.outputs.keys() - STEPS[self.step].copies
        return [p for name, p in self.outputs.items() if name in own and p.suffix in STAMPED]

    @property
    def name(self) -> str:
        """Step and scope, such as ``train.hclmp.Fe-Ti-W``."""
        return ".".join((self.step, *self.scope))

    @property
    def command(self) -> str:
        """What makes the result by hand."""
        named = zip(STEPS[self.step].options, self.scope, strict=False)
        return " ".join(["hclmp", self.step, *(f"{option} {value}" for option, value in named)])

    def provenance(self) -> Provenance:
        """What the result carries, if it is made now; a missing input is a ``UserError``."""
        for path in self.inputs.values():
            if not path.is_file():
                raise UserError(f"{path}: no such file: not all results are here")
        return provenance(module_of(self.step), config=self.settings, inputs=self.inputs)


def job(config: Config, step: str, *scope: str) -> Job:
    """A job of a run.

    Raises:
        UserError: the run has no such job: no such variant or fold, or one too many or too few.
    """
    known = STEPS[step].scopes(config)
    if scope in known:
        return Job(config, step, scope)
    if not known:
        raise UserError(f"`hclmp {step}` has nothing to do: {STEPS[step].idle}")
    if len(scope) == 2:
        variant_settings(config, scope[0])  # refuses a variant that is none
    elif not scope:
        raise UserError("`dos.held_out: drop` trains one generator per fold: name it with --fold")
    elif known == [()]:
        raise UserError("--fold is for `dos.held_out: drop`; here one generator serves all")
    folds = [one[-1] for one in known if one and one[:-1] == scope[:-1]]
    raise UserError(f"no fold `{scope[-1]}`; there are {join_some(folds)}")


def jobs(config: Config, step: str) -> list[Job]:
    """All jobs of a step."""
    return [Job(config, step, scope) for scope in STEPS[step].scopes(config)]


def makers(config: Config) -> dict[Path, Job]:
    """File -> the job that makes it, of all files of a run."""
    return {path: m for step in STEPS for m in jobs(config, step) for path in m.outputs.values()}


def module_of(step: str) -> str:
    """The module of ``hclmp.pipeline.steps``, and the function in it."""
    return step.replace("-", "_")


def _in(*folders: str, **names: str) -> Files:
    """Files of a folder of ``results/``."""
    return {name: RESULTS.joinpath(*folders, file) for name, file in names.items()}


def _dos_inputs(config: Config, *scope: str) -> Files:
    """The DOS; and the samples, from which a fold of the calibration is drawn."""
    return DOS | (TARGETS if scope and scope[0] in CALIBRATION else {})


def _network(config: Config, variant: str) -> Settings:
    """What determines the training of a variant of H-CLMP."""
    model, training = variant_settings(config, variant)
    return {
        "transfer": config.variants[variant].transfer,
        "pretrained": config.starts_pretrained(variant),
        "hclmp": model.model_dump(mode="json"),
        "training": training.determining(),
    }


def _trained(config: Config, variant: str, fold: str) -> Settings:
    """What determines a variant on a fold."""
    chosen = config.variants[variant]
    settings = {
        "variant": variant,
        "model": chosen.model,
        "split": config.split,
        # The rows of a fold are the same for every variant, whatever its own training seed.
        "split_seed": config.training.seed,
        "validation_fraction": config.training.validation_fraction,
        "dos_held_out": config.dos.held_out if chosen.transfer else None,
    } | held_out_by(config, fold)
    if variant in config.neural:
        return settings | _network(config, variant)
    baselines = config.baselines.model_dump(mode="json")
    return settings | {"transfer": chosen.transfer, "baselines": baselines}


def _training_inputs(config: Config, variant: str, fold: str) -> Files:
    """What a variant is trained from on a fold."""
    shared = features_scope(config, variant, fold)
    inputs = TARGETS | {"features": Job(config, "featurize", shared).outputs["features"]}
    if config.starts_pretrained(variant):
        inputs["encoder"] = Job(config, "pretrain-encoder", shared).outputs["encoder"]
    return inputs


def _training_outputs(config: Config, variant: str, fold: str) -> Files:
    """Predictions and settings; of H-CLMP weights and history too."""
    files = _in("predictions", variant, predictions=f"{fold}.parquet")
    files |= _in("models", variant, fold, settings="model.json")
    # For a wildcard `{variant}` of Snakemake: the files of a network.
    if variant in config.variants and variant not in config.neural:
        return files
    return files | _in("models", variant, fold, weights="model.safetensors", history="history.csv")


def _generator(config: Config, *scope: str) -> Files:
    """The generator that makes the DOS feature, if any: a pretrained one, or this run's own."""
    if not config.transfers:
        return {}
    own = Job(config, "pretrain-gan", scope).outputs["generator"]
    return {"generator": Path(config.gan.path) if config.gan.path else own}


def _predictions(config: Config) -> Files:
    """Predictions of all variants and folds, and the histories of the networks."""
    files: Files = {}
    for made in (Job(config, "train", scope) for scope in evaluated(config)):
        kinds = [kind for kind in ("predictions", "history") if kind in made.outputs]
        files |= {"/".join((kind, *made.scope)): made.outputs[kind] for kind in kinds}
    return files


def _generators(config: Config, *kinds: str) -> Files:
    """Records of the training of the generators, and examples of the first one."""
    if not config.pretrains:
        return {}
    made = [Job(config, "pretrain-gan", scope) for scope in evaluation_scopes(config)]
    files = {"/".join(("gan", k, *m.scope)): m.outputs[k] for m in made for k in kinds}
    return files | {"gan/examples": made[0].outputs["examples"]}


def _aggregate_inputs(config: Config) -> Files:
    """Predictions and generators, and the features if a held-out sample may have its own DOS."""
    inputs = _predictions(config) | _generators(config, "metrics", "history")
    own = config.transfers and not config.generator_per_fold
    return inputs | (Job(config, "featurize").outputs if own else {})


def _plots(config: Config) -> Files:
    """The pictures, and the data for ``dvc plots``."""
    names = [*(f"parity_{v}.png" for v in config.variants), "parity.csv"]
    names += ["mae_by_property.png", "mae_by_system.png"]
    if config.neural:
        names += ["loss_curves.png", "correlation.png", "losses.csv"]
    if config.pretrains:
        names += ["generated_dos.png", "gan_curves.png", "gan.csv"]
    return _in("metrics", "plots", **{name: name for name in names})


def _final_settings(config: Config) -> Settings:
    variant = config.final_variant
    assert variant is not None
    evaluated, features = (Job(config, step).settings for step in ("aggregate", "featurize"))
    settings = {"variant": variant, "split": config.split, "features": features}
    return settings | {"evaluated": evaluated} | _network(config, variant)


def _final_inputs(config: Config) -> Files:
    """The evaluation, the calibration's models with their inputs, generator and encoder."""
    variant = config.final_variant
    assert variant is not None
    inputs = TARGETS | {"metrics": Job(config, "aggregate").outputs["metrics"]}
    inputs |= _generator(config) if config.final_transfers else {}
    if config.starts_pretrained(variant):
        inputs["encoder"] = Job(config, "pretrain-encoder").outputs["encoder"]
    for fold in calibration_folds(config):
        made = Job(config, "train", (variant, fold))
        files = made.inputs | {name: made.outputs[name] for name in ("weights", "history")}
        inputs |= {f"{name}/{fold}": path for name, path in files.items() if name not in TARGETS}
    return inputs


def _final_outputs(config: Config) -> Files:
    files = ModelFiles(RESULTS / "final")
    names = ("about", "weights", "elements", "training", "history")
    generator = ("generator",) if config.final_transfers else ()
    return {name: getattr(files, name) for name in (*names, *generator)}


def _report_inputs(config: Config) -> Files:
    metrics = Job(config, "aggregate").outputs
    inputs = {"targets": PROCESSED / "targets.json"}
    inputs |= {name: metrics[name] for name in ("metrics", "summary", "by_system")}
    inputs |= {"dos": PROCESSED / "dos.json"} if config.pretrains else {}
    return inputs | _predictions(config) | _generators(config, "metrics")


STEPS: dict[str, Step] = {
    # Computed densities of states of a source, checked.
    "pull-dos": Step(
        scopes=lambda config: [] if config.dos.source == "none" else [()],
        settings=lambda config: {
            "dos": config.dos.model_dump(mode="json", exclude={"held_out"}),
            "left_out": config.targets.left_out,
        },
        outputs=lambda config: {"table": DOS["dos"], "record": PROCESSED / "dos.json"},
        idle="`dos.source` is `none`, so there is no density of states to pull",
    ),
    # Measured properties of a source, checked and merged.
    "prepare-targets": Step(
        settings=lambda config: (
            {"targets": config.targets.model_dump(mode="json")} | split_of_rows(config)
        ),
        outputs=lambda config: {"table": TARGETS["targets"], "record": PROCESSED / "targets.json"},
    ),
    # The generator of densities of states.
    "pretrain-gan": Step(
        options=("--fold",),
        scopes=lambda config: dos_scopes(
            config, [v for v in config.variants if config.pretrains and config.variants[v].transfer]
        ),
        settings=lambda config, *scope: {
            "gan": config.gan.model_dump(mode="json", exclude={"draws"}),
            "embedding": config.model.embedding,
            **dos_seen(config, scope),
        },
        inputs=_dos_inputs,
        outputs=lambda config, *scope: (
            _in("gan", *scope, generator="generator.safetensors", metrics="metrics.json")
            | _in("gan", *scope, history="history.csv", examples="examples.csv")
        ),
        idle="no variant needs a generator that is trained here",
    ),
    # The encoder of H-CLMP(T), trained on densities of states; it has no DOS feature as an input.
    "pretrain-encoder": Step(
        options=("--fold",),
        scopes=lambda config: dos_scopes(
            config, [v for v in config.variants if config.starts_pretrained(v)]
        ),
        settings=lambda config, *scope: {
            "hclmp": config.model.model_dump(mode="json", exclude={"dos_dropout"}),
            "encoder": config.encoder.model_dump(mode="json"),
            "members": config.training.members,
            "seed": config.training.seed,
            **dos_seen(config, scope),
        },
        inputs=_dos_inputs,
        outputs=lambda config, *scope: _in(
            "encoder", *scope, encoder="encoder.safetensors", history="history.csv"
        ),
        idle="no variant starts from a pretrained encoder",
    ),
    # What every model sees of every sample.
    "featurize": Step(
        options=("--fold",),
        scopes=shared_scopes,
        settings=lambda config, *scope: {
            "draws": config.gan.draws if config.transfers else None,
            "dos_held_out": config.dos.held_out if config.transfers else None,
            "seed": config.gan.seed,
            "embeddings": config.embeddings,
            "left_out": config.targets.left_out,
        },
        inputs=lambda config, *scope: TARGETS | _generator(config, *scope),
        outputs=lambda config, *scope: _in("features", *scope, features="features.safetensors"),
    ),
    # One variant on one fold, and its predictions of the held-out samples.
    "train": Step(
        options=("--variant", "--fold"),
        scopes=trained,
        settings=_trained,
        inputs=_training_inputs,
        outputs=_training_outputs,
    ),
    # Metrics and plots over all folds.
    "aggregate": Step(
        settings=lambda config: {
            "dos_held_out": config.dos_of_held_out_systems,
            "shown": config.final_variant,
            "trained": {
                "/".join(s): hash_of(Job(config, "train", s).settings) for s in evaluated(config)
            },
        },
        inputs=_aggregate_inputs,
        outputs=lambda config: (
            _in("metrics", metrics="metrics.json", summary="summary.csv", by_system="by_system.csv")
            | _plots(config)
        ),
    ),
    # The model for use, trained on all samples.
    "finalize": Step(
        scopes=lambda config: [] if config.final_variant is None else [()],
        settings=_final_settings,
        inputs=_final_inputs,
        outputs=_final_outputs,
        copies=("training", "generator"),
        idle="no variant is H-CLMP, so there is no final model: name `hclmp_t` or `hclmp`",
    ),
    # The page of results, which shows the whole configuration.
    "report": Step(
        settings=lambda config: config.model_dump(mode="json"),
        inputs=_report_inputs,
        outputs=lambda config: {"page": RESULTS / "report.html"},
    ),
}
