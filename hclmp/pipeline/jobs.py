"""The table of jobs: every result of a run, what makes it, from what, under which settings.

The command line, the steps, Snakemake's rules, ``workflow/stage.py`` and the estimate read it. A
job's settings are the part of the configuration that determines its result: they are embedded in
the result and are a parameter of its rule, so that a change elsewhere reruns nothing.

All paths are relative to the working directory.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hclmp.config import Config, variant_settings
from hclmp.data.folds import fold_names, held_out_systems
from hclmp.errors import UserError, join_some
from hclmp.files import ModelFiles
from hclmp.provenance import (
    Provenance,
    differing,
    hash_of,
    provenance,
    read_provenance,
    sha256,
)

CONFIG = Path("results/config.json")
PROCESSED = Path("data/processed")
RESULTS = Path("results")
STAMPED = {".parquet", ".json", ".safetensors", ".html"}  # kinds of file that carry a provenance

Scope = tuple[str, ...]
"""What one job of a step is for: () the whole run, (fold,), or (variant, fold)."""
Settings = dict[str, Any]
Files = dict[str, Path]


class Step:
    """A row of the table: what is true of all jobs of a step."""

    name: str
    options: tuple[str, ...] = ()
    """What names a job's scope on the command line."""

    def scopes(self, config: Config) -> list[Scope]:
        """The jobs that a run has; none where the step has nothing to do."""
        return [()]

    def settings(self, config: Config, *scope: str) -> Settings:
        """The part of the configuration that determines the result."""
        raise NotImplementedError

    def inputs(self, config: Config, *scope: str) -> Files:
        """What is read, besides the user's own files of ``targets.path`` and ``dos.path``."""
        return {}

    def outputs(self, config: Config, *scope: str) -> Files:
        """What is written; the first stands for all."""
        raise NotImplementedError

    def copies(self) -> set[str]:
        """The outputs that are copies of another job's, and carry that one's provenance."""
        return set()


@dataclass(frozen=True)
class Job:
    """One result of a run: what makes it, from what, under which settings.

    Attributes:
        config: the resolved configuration.
        step: as the command line calls it, such as ``train``.
        scope: what the job is for; a rule of Snakemake gives wildcards, such as ``{fold}``.
    """

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
        copies = STEPS[self.step].copies()
        own = [path for name, path in self.outputs.items() if name not in copies]
        return [path for path in own if path.suffix in STAMPED]

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
        """What the result carries, if it is made now.

        Raises:
            UserError: an input is missing.
        """
        for path in self.inputs.values():
            if not path.is_file():
                raise UserError(f"{path}: no such file: not all results are here")
        return provenance(module_of(self.step), config=self.settings, inputs=self.inputs)

    def check(self) -> None:
        """The inputs must be there and belong to this run: same settings, same data.

        Results of another version of the source are accepted: Snakemake and DVC make those again,
        whoever works by hand decides.

        Raises:
            UserError: names the file, the difference and the command that makes it.
        """
        made_by, digest = makers(self.config), cache(sha256)
        for path in self.inputs.values():
            maker = made_by.get(path)
            if not path.is_file():
                remedy = f"`{maker.command}` makes it" if maker else "it is named in `gan.path`"
                raise UserError(f"{path}: no such file; {remedy}")
            if maker is not None and path in maker.stamped:
                maker.check_result(path, digest)

    def check_result(self, path: Path, digest: Callable[[Path], str] = sha256) -> None:
        """A result of this job must have been made with its settings and from its inputs.

        Args:
            path: one of ``stamped``.
            digest: what hashes a file.

        Raises:
            UserError: names the difference.
        """
        found = read_provenance(path)
        again = f"Make it again: `{self.command}`."
        if hash_of(found.get("config")) != hash_of(self.settings):
            raise UserError(
                f"{path}: made with another configuration than this run's "
                f"({_difference(found.get('config') or {}, self.settings)}). {again}"
            )
        recorded = found.get("inputs", {})
        here = {name: file for name, file in self.inputs.items() if file.is_file()}
        if other := [name for name, file in here.items() if recorded.get(name) != digest(file)]:
            raise UserError(f"{path}: made from other {join_some(other)} than this run's. {again}")


def job(config: Config, step: str, *scope: str) -> Job:
    """A job of a run.

    Raises:
        UserError: the run has no such job: no such variant or fold, or one too many or too few.
    """
    known = STEPS[step].scopes(config)
    if scope in known:
        return Job(config, step, scope)
    if not known:
        raise UserError(f"`hclmp {step}` has nothing to do in this configuration")
    if len(scope) == 2 and scope[0] not in config.variants:
        variant_settings(config, scope[0])  # says which there are
    if not scope or () in known and len(known) == 1:
        raise UserError(
            "--fold is for `dos.held_out: drop`; here one generator serves all"
            if scope
            else "`dos.held_out: drop` trains one generator per fold: name it with --fold"
        )
    raise UserError(f"no fold `{scope[-1]}`; there are {join_some(fold_names(config))}")


def jobs(config: Config, step: str) -> list[Job]:
    """All jobs of a step."""
    return [Job(config, step, scope) for scope in STEPS[step].scopes(config)]


def makers(config: Config) -> dict[Path, Job]:
    """File -> the job that makes it, of all files of a run."""
    every = [made for step in STEPS for made in jobs(config, step)]
    return {path: made for made in every for path in made.outputs.values()}


def check_results(config: Config, step: str) -> None:
    """Hold the results of a step against what they would be if they were made now.

    Times of change play no role, so that copies from elsewhere are judged rightly too.

    Raises:
        UserError: a result is missing or damaged, or comes from another configuration, other
            inputs or another source; the message names file and difference.
    """
    for made in jobs(config, step):
        expected = made.provenance() | _own_file(made)
        for path in made.stamped:
            if other := differing(read_provenance(path), expected):
                raise UserError(
                    f"{path}: not what this run would make: another {join_some(other)}. "
                    "Make it again: `snakemake --cores all` or `dvc repro`."
                )


def module_of(step: str) -> str:
    """The module of ``hclmp.pipeline.steps``, and the function in it."""
    return step.replace("-", "_")


def _own_file(made: Job) -> Provenance:
    """What a table says of the user's own file that it was made from, with that file's hash now."""
    section = {"pull-dos": made.config.dos, "prepare-targets": made.config.targets}.get(made.step)
    if section is None or section.path is None or not Path(section.path).is_file():
        return {}
    recorded = read_provenance(made.stamped[0]).get("origin", {})
    return {"origin": recorded | {"sha256": sha256(section.path)}}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where two settings differ, in words."""
    texts = []
    for key in sorted({*found, *wanted}):
        a, b = found.get(key), wanted.get(key)
        if hash_of(a) == hash_of(b):
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            texts.append(f"{key}.{_difference(a, b)}")
        else:
            texts.append(f"{key}: {a} there, {b} here")
    return join_some(texts)


# The steps. "Shared scopes": with `dos.held_out: drop` each fold has a generator, an encoder and
# features of its own, else one serves all folds.


def shared_scopes(config: Config) -> list[Scope]:
    """What there are generators and features for: each fold, or all folds together."""
    return list(dict.fromkeys(config.scope_of(fold) for fold in fold_names(config)))


def _learns_from_dos(config: Config, scope: Scope) -> Settings:
    """Which DOS are learned from: all, or those that a fold may see."""
    settings: Settings = {"held_out": config.dos.held_out}
    return settings | ({"fold": scope[0], "systems": _systems(config, *scope)} if scope else {})


def _systems(config: Config, fold: str) -> list[str]:
    """The systems of a fold; none for splits of another kind."""
    return list(held_out_systems(config)[fold])


class PullDos(Step):
    """Computed densities of states of a source, checked."""

    name = "pull-dos"

    def scopes(self, config: Config) -> list[Scope]:
        return [] if config.dos.source == "none" else [()]

    def settings(self, config: Config, *scope: str) -> Settings:
        dos = config.dos.model_dump(mode="json", exclude={"held_out"})
        return {"dos": dos, "left_out": config.targets.left_out}

    def outputs(self, config: Config, *scope: str) -> Files:
        return {"table": PROCESSED / "dos.parquet", "record": PROCESSED / "dos.json"}


class PrepareTargets(Step):
    """Measured properties of a source, checked and merged."""

    name = "prepare-targets"

    def settings(self, config: Config, *scope: str) -> Settings:
        targets = config.targets.model_dump(mode="json")
        return {"targets": targets, "given_split": config.given_split}

    def outputs(self, config: Config, *scope: str) -> Files:
        return {"table": PROCESSED / "targets.parquet", "record": PROCESSED / "targets.json"}


class PretrainGan(Step):
    """The generator of densities of states."""

    name = "pretrain-gan"
    options = ("--fold",)

    def scopes(self, config: Config) -> list[Scope]:
        if not config.pretrains:
            return []
        # The final model needs a generator that has seen all DOS.
        final = [()] if config.generator_per_fold and config.final_transfers else []
        return shared_scopes(config) + final

    def settings(self, config: Config, *scope: str) -> Settings:
        return {
            "gan": config.gan.model_dump(mode="json", exclude={"draws"}),
            "embedding": config.model.embedding,
            "left_out": config.targets.left_out,
            **_learns_from_dos(config, scope),
        }

    def inputs(self, config: Config, *scope: str) -> Files:
        return {"dos": PROCESSED / "dos.parquet"}

    def outputs(self, config: Config, *scope: str) -> Files:
        folder = RESULTS.joinpath("gan", *scope)
        return {
            "generator": folder / "generator.safetensors",
            "metrics": folder / "metrics.json",
            "history": folder / "history.csv",
            "examples": folder / "examples.csv",
        }


class PretrainEncoder(Step):
    """The encoder of H-CLMP(T), trained on densities of states."""

    name = "pretrain-encoder"
    options = ("--fold",)

    def scopes(self, config: Config) -> list[Scope]:
        if not config.pretrains_encoder:
            return []
        final = config.final_variant
        starts = final is not None and config.starts_pretrained(final)
        return shared_scopes(config) + ([()] if config.generator_per_fold and starts else [])

    def settings(self, config: Config, *scope: str) -> Settings:
        return {
            # It has no DOS feature as an input.
            "hclmp": config.model.model_dump(mode="json", exclude={"dos_dropout"}),
            "encoder": config.encoder.model_dump(mode="json"),
            "members": config.training.members,
            "seed": config.training.seed,
            "left_out": config.targets.left_out,
            **_learns_from_dos(config, scope),
        }

    def inputs(self, config: Config, *scope: str) -> Files:
        return {"dos": PROCESSED / "dos.parquet"}

    def outputs(self, config: Config, *scope: str) -> Files:
        folder = RESULTS.joinpath("encoder", *scope)
        return {"encoder": folder / "encoder.safetensors", "history": folder / "history.csv"}


class Featurize(Step):
    """What every model sees of every sample."""

    name = "featurize"
    options = ("--fold",)

    def scopes(self, config: Config) -> list[Scope]:
        return shared_scopes(config)

    def settings(self, config: Config, *scope: str) -> Settings:
        return {
            "draws": config.gan.draws if config.transfers else None,
            "dos_held_out": config.dos.held_out if config.transfers else None,
            "seed": config.gan.seed,
            "embeddings": config.embeddings,
            "left_out": config.targets.left_out,
        }

    def inputs(self, config: Config, *scope: str) -> Files:
        return {"targets": PROCESSED / "targets.parquet"} | _generator(config, *scope)

    def outputs(self, config: Config, *scope: str) -> Files:
        return {"features": RESULTS.joinpath("features", *scope) / "features.safetensors"}


class Train(Step):
    """One variant on one fold, and its predictions of the held-out samples."""

    name = "train"
    options = ("--variant", "--fold")

    def scopes(self, config: Config) -> list[Scope]:
        return [(variant, fold) for variant in config.variants for fold in fold_names(config)]

    def settings(self, config: Config, *scope: str) -> Settings:
        variant, fold = scope
        chosen = config.variants[variant]
        settings: Settings = {
            "variant": variant,
            "model": chosen.model,
            "fold": fold,
            "split": config.split,
            "systems": _systems(config, fold),
            # The rows of a fold are the same for every variant, whatever its own training seed.
            "split_seed": config.training.seed,
            "validation_fraction": config.training.validation_fraction,
            "dos_held_out": config.dos.held_out if chosen.transfer else None,
        }
        if variant in config.neural:
            return settings | _network_settings(config, variant)
        return settings | {"baselines": config.baselines.model_dump(mode="json")}

    def inputs(self, config: Config, *scope: str) -> Files:
        variant, fold = scope
        shared = config.scope_of(fold)
        features = Job(config, "featurize", shared).outputs["features"]
        inputs = {"targets": PROCESSED / "targets.parquet", "features": features}
        if config.starts_pretrained(variant):
            inputs["encoder"] = Job(config, "pretrain-encoder", shared).outputs["encoder"]
        return inputs

    def outputs(self, config: Config, *scope: str) -> Files:
        variant, fold = scope
        folder = RESULTS / "models" / variant / fold
        files = {
            "predictions": RESULTS / "predictions" / variant / f"{fold}.parquet",
            "settings": folder / "model.json",
        }
        if variant in config.variants and variant not in config.neural:
            return files
        return files | {
            "weights": folder / "model.safetensors",
            "history": folder / "history.csv",
        }


class Aggregate(Step):
    """Metrics and plots over all folds."""

    name = "aggregate"

    def settings(self, config: Config, *scope: str) -> Settings:
        trained = {
            f"{made.scope[0]}/{made.scope[1]}": hash_of(made.settings)
            for made in jobs(config, "train")
        }
        return {"trained": trained, "dos_held_out": config.dos_of_held_out_systems}

    def inputs(self, config: Config, *scope: str) -> Files:
        return _trained(config) | _generators(config, ("metrics", "history"))

    def outputs(self, config: Config, *scope: str) -> Files:
        folder = RESULTS / "metrics"
        files = {name: folder / f"{name}.csv" for name in ("summary", "by_system")}
        plots = {name: folder / "plots" / name for name in self._plots(config)}
        return {"metrics": folder / "metrics.json"} | files | plots

    def _plots(self, config: Config) -> list[str]:
        """The pictures, and the data for ``dvc plots``."""
        names = [f"parity_{variant}.png" for variant in config.variants]
        names += ["mae_by_property.png", "mae_by_system.png", "parity.csv"]
        if config.neural:
            names += ["loss_curves.png", "correlation.png", "losses.csv"]
        if config.pretrains:
            names += ["generated_dos.png", "gan_curves.png", "gan.csv"]
        return names


class Finalize(Step):
    """The model for use, trained on all samples."""

    name = "finalize"

    def scopes(self, config: Config) -> list[Scope]:
        return [] if config.final_variant is None else [()]

    def settings(self, config: Config, *scope: str) -> Settings:
        variant = config.final_variant
        assert variant is not None
        return {
            "variant": variant,
            "split": config.split,
            "features": Job(config, "featurize").settings,
            "evaluated": Job(config, "aggregate").settings,
            **_network_settings(config, variant),
        }

    def inputs(self, config: Config, *scope: str) -> Files:
        variant = config.final_variant
        assert variant is not None
        inputs = {
            "targets": PROCESSED / "targets.parquet",
            "metrics": Job(config, "aggregate").outputs["metrics"],
        }
        if config.final_transfers:
            inputs |= _generator(config)
        if config.starts_pretrained(variant):
            inputs["encoder"] = Job(config, "pretrain-encoder").outputs["encoder"]
        for fold in fold_names(config):
            trained = Job(config, "train", (variant, fold))
            files = trained.inputs | {n: trained.outputs[n] for n in ("weights", "history")}
            inputs |= {f"{name}/{fold}": path for name, path in files.items() if name != "targets"}
        return inputs

    def outputs(self, config: Config, *scope: str) -> Files:
        files = ModelFiles(RESULTS / "final")
        outputs = {
            "about": files.about,
            "weights": files.weights,
            "elements": files.elements,
            "training": files.training,
            "history": files.history,
        }
        return outputs | ({"generator": files.generator} if config.final_transfers else {})

    def copies(self) -> set[str]:
        return {"training", "generator"}


class Report(Step):
    """The page of results."""

    name = "report"

    def settings(self, config: Config, *scope: str) -> Settings:
        return config.model_dump(mode="json")  # it shows all of it

    def inputs(self, config: Config, *scope: str) -> Files:
        metrics = Job(config, "aggregate").outputs
        inputs = {"targets": PROCESSED / "targets.json"}
        inputs |= {name: metrics[name] for name in ("metrics", "summary", "by_system")}
        inputs |= _trained(config) | _generators(config, ("metrics",))
        return inputs | ({"dos": PROCESSED / "dos.json"} if config.pretrains else {})

    def outputs(self, config: Config, *scope: str) -> Files:
        return {"page": RESULTS / "report.html"}


def _network_settings(config: Config, variant: str) -> Settings:
    """What determines the training of a variant of H-CLMP."""
    model, training = variant_settings(config, variant)
    return {
        "transfer": config.variants[variant].transfer,
        "pretrained": config.starts_pretrained(variant),
        "hclmp": model.model_dump(mode="json"),
        "training": training.determining(),
    }


def _generator(config: Config, *scope: str) -> Files:
    """The generator that makes the DOS feature, if any: a pretrained one, or this run's own."""
    if not config.transfers:
        return {}
    own = Job(config, "pretrain-gan", scope).outputs["generator"]
    return {"generator": Path(config.gan.path) if config.gan.path else own}


def _trained(config: Config) -> Files:
    """Predictions of all variants and folds, and the histories of the networks."""
    files: Files = {}
    for made in jobs(config, "train"):
        kinds = [kind for kind in ("predictions", "history") if kind in made.outputs]
        files |= {"/".join((kind, *made.scope)): made.outputs[kind] for kind in kinds}
    return files


def _generators(config: Config, kinds: tuple[str, ...]) -> Files:
    """What was noted of the training of the generators, and examples of the first one."""
    if not config.pretrains:
        return {}
    made = [Job(config, "pretrain-gan", scope) for scope in shared_scopes(config)]
    files = {"/".join(("gan", k, *m.scope)): m.outputs[k] for m in made for k in kinds}
    return files | {"gan/examples": made[0].outputs["examples"]}


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        PullDos(),
        PrepareTargets(),
        PretrainGan(),
        PretrainEncoder(),
        Featurize(),
        Train(),
        Aggregate(),
        Finalize(),
        Report(),
    )
}
