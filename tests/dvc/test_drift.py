"""dvc.yaml says what the steps, the rules and the configuration say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hclmp.config import Config, load_config, resolve
from hclmp.data.folds import CALIBRATION
from hclmp.errors import UserError
from hclmp.pipeline.jobs import STEPS, Job, jobs, module_of
from hclmp.provenance import PACKAGE, source_files
from tests.conftest import Command
from tests.docs.blocks import blocks_of
from tests.dvc.conftest import new_repository
from tests.made_up.tables import (
    good_table,
    wide_dos,
    write,
)
from tests.workflow.conftest import ROOT, snakemake, succeeded, write_config
from workflow.stage import OUTS

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
CONFIG = "config/config.yaml"
RULES = {
    "pull-dos": "dos",
    "prepare-targets": "targets",
    "pretrain-gan": "dos",
    "pretrain-encoder": "dos",
    "featurize": "features",
    "train": "train",
    "aggregate": "aggregate",
    "finalize": "final",
    "report": "report",
}


def params(stage: str) -> list[str]:
    (file,) = STAGES[stage]["params"]
    assert list(file) == [CONFIG]
    return list(file[CONFIG])


def outs(stage: str) -> list[Path]:
    entries = [*STAGES[stage]["outs"], *STAGES[stage].get("metrics", [])]
    return [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]


ALL_OUTS = [out for stage in STAGES for out in outs(stage)]


def under(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def test_a_stage_per_step_and_each_a_constant_command() -> None:
    assert list(STAGES) == list(STEPS)
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m workflow.stage {name}"
        assert "persist" not in yaml.safe_dump(stage)
        assert "always_changed" not in stage


@pytest.mark.parametrize("step", STAGES)
def test_the_modules_and_rules_of_a_step_lie_under_its_deps(step: str) -> None:
    deps = [Path(dep) for dep in STAGES[step]["deps"]]
    modules = [path.relative_to(PACKAGE.parent) for path in source_files(module_of(step))]
    for path in [*modules, Path("workflow/rules") / f"{RULES[step]}.smk"]:
        assert any(under(path, dep) for dep in deps), f"add to the deps of {step}: {path}"


@pytest.mark.parametrize("held_out", ["keep", "drop"])
def test_what_a_job_reads_lies_under_the_deps_of_its_stage(
    held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = resolve({"dos": {"held_out": held_out}})
    for step in STEPS:
        deps = [Path(dep) for dep in STAGES[step]["deps"]]
        for path in {path for made in jobs(config, step) for path in made.inputs.values()}:
            assert any(under(path, dep) for dep in deps), f"add to the deps of {step}: {path}"


@pytest.mark.parametrize("held_out", ["keep", "drop"])
def test_every_file_of_the_workflow_is_under_one_out_and_every_out_is_made(
    tmp_path: Path, held_out: str
) -> None:
    config = yaml.safe_load((ROOT / CONFIG).read_text())
    config["dos"]["held_out"] = held_out
    write_config(tmp_path, config, (ROOT / "config/systems.tsv").read_text())
    text = succeeded(snakemake(tmp_path, "--summary"))
    made = {Path(line.split("\t")[0]) for line in text.splitlines() if "\t" in line}
    made.discard(Path("output_file"))
    assert len(made) > 80
    for path in made:
        owners = [out for out in ALL_OUTS if under(path, out)]
        assert len(owners) == 1, f"{path} is in {len(owners)} outs of dvc.yaml: {owners}"
        assert any(under(path, out) for out in OUTS), path
    for out in ALL_OUTS:
        assert any(under(path, out) for path in made), f"nothing makes {out}"
        assert any(under(out, known) for known in OUTS), out


def test_outs_do_not_overlap_and_deps_are_outs_or_in_git() -> None:
    for out in ALL_OUTS:
        assert [other for other in ALL_OUTS if under(out, other) or under(other, out)] == [out]
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            there = dep == "${systems}" or (ROOT / dep).exists() or Path(dep) in ALL_OUTS
            assert there, f"{name}: {dep}"


def test_what_python_compiles_is_no_part_of_a_dep(tmp_path: Path) -> None:
    """Else any command of hclmp would make `dvc repro` run all stages again."""
    run = new_repository(tmp_path / "run")
    run.done("dvc", "check-ignore", "hclmp/pipeline/__pycache__/jobs.cpython-311.pyc")
    run.refused("dvc", "check-ignore", "hclmp/pipeline/jobs.py")


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_keys_of_the_configuration_and_written_in_it(stage: str) -> None:
    written = yaml.safe_load((ROOT / CONFIG).read_text())
    for key in params(stage):
        section: Any = Config()
        here: Any = written
        for part in key.split("."):
            assert part in type(section).model_fields, f"no key {key} in the configuration"
            assert part in here, f"DVC wants {key} to be written in {CONFIG}"
            section, here = getattr(section, part), here[part]


@pytest.mark.parametrize("options", [[], ["--dos", "dos.csv"]])
def test_with_what_the_page_adds_a_table_of_ones_own_has_all_keys(
    workdir: Path, command: Command, options: list[str]
) -> None:
    write(workdir / "table.csv", good_table())
    write(workdir / "dos.csv", wide_dos())
    answer = command("new", "mine", "--targets", "table.csv", "--left-out", "O", *options)
    assert answer.code == 0, answer.text
    (added,) = [yaml.safe_load(b.text) for b in blocks_of("docs/dvc.md") if b.language == "yaml"]
    written = yaml.safe_load((workdir / "mine" / CONFIG).read_text())
    assert not added.keys() & written.keys(), "a key twice"
    for key in {key for stage in STAGES for key in params(stage)}:
        here: Any = written | added
        for part in key.split("."):
            assert part in here, f"DVC wants {key} to be written"
            here = here[part]
    assert resolve(written | added) == resolve(written), "the defaults"


def test_the_written_configuration_is_the_default_but_for_the_size_of_its_training() -> None:
    """Where config.yaml states a default, for DVC's sake, it is the default."""
    written, default = (
        dict(_leaves(config.model_dump(mode="json")))
        for config in (load_config(ROOT / CONFIG), Config())
    )
    smaller = {"training.epochs", "training.batch_size", "model.memory"}
    smaller |= {"encoder.epochs", "encoder.batch_size", "baselines.trees"}
    assert {key for key, value in default.items() if written[key] != value} == smaller
    assert all(written[key] < default[key] for key in smaller)


def changed_configurations() -> Iterator[tuple[str, Config]]:
    """The default configuration with one key changed, for every key that can be changed alone."""
    words = ("table", "random", "drop", "pretrained", "onehot", "halve", "drawn", "transmission")
    base = Config().model_dump(mode="json")
    for key, value in _leaves({k: v for k, v in base.items() if k != "variants"}):
        others = [not value] if isinstance(value, bool) else [value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            others = [value + 1, value / 2]
        elif isinstance(value, str) or value is None:
            others = [*words, 7]
        elif isinstance(value, list):
            others = [[*value, 8], [*value, "N"]]
        for other in others:
            try:
                yield key, resolve(_replaced(base, key, other))
            except UserError:
                continue
            break
    yield "variants", resolve({"variants": ["hclmp_t"]})


def _leaves(section: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield before + key, value


def _replaced(base: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return base | {first: _replaced(base[first], rest, value) if rest else value}


def settings(config: Config) -> dict[str, Any]:
    """Stage -> the part of the configuration that determines what it makes."""
    needed = {"pretrains": config.pretrains, "per_fold": config.generator_per_fold}
    fold = "fold-1" if config.split == "systems" else config.split
    needs_all = ("pretrain-gan", "featurize", "finalize", "report")
    found: dict[str, Any] = {
        step: [Job(config, step).settings, needed if step in needs_all else None]
        for step in STEPS
        if step not in ("train", "aggregate")
    }
    found["pretrain-encoder"] += [config.pretrains_encoder, needed]
    for step in ("pretrain-gan", "pretrain-encoder"):  # for a fold that is drawn, too
        found[step] += [Job(config, step, CALIBRATION[:1]).settings]
    found["featurize"] += [config.gan.path]
    found["finalize"] += [config.gan.path]
    found["train"] = [Job(config, "train", (v, fold)).settings for v in config.variants]
    return found


def test_every_key_that_determines_a_result_is_a_param_of_its_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    before = settings(Config())
    tried = []
    for key, config in changed_configurations():
        if key == "systems":  # the sheet is a dependency
            continue
        tried.append(key)
        for stage, after in settings(config).items():
            watched = any(key == p or key.startswith(f"{p}.") for p in params(stage))
            assert watched or after == before[stage], f"{stage} depends on {key}"
    assert len(tried) > 50
    assert {"training.epochs", "dos.held_out", "split", "gan.draws", "variants"} <= set(tried)


def test_the_sheet_is_a_dependency_of_what_reads_it() -> None:
    for stage in (
        "pretrain-gan",
        "pretrain-encoder",
        "featurize",
        "train",
        "aggregate",
        "finalize",
        "report",
    ):
        assert "${systems}" in STAGES[stage]["deps"]
    assert DVC["vars"] == [CONFIG]


def test_stages_that_read_the_users_files_watch_their_folder() -> None:
    for stage in ("pull-dos", "prepare-targets", "featurize", "finalize"):
        assert "data/raw" in STAGES[stage]["deps"]


def test_plots_metrics_and_artifacts_are_tracked() -> None:
    plots = {next(iter(plot)): next(iter(plot.values())) for plot in DVC["plots"]}
    paths = [*plots, *DVC["metrics"], *(a["path"] for a in DVC["artifacts"].values())]
    for path in paths:
        assert any(under(Path(path), out) for out in ALL_OUTS), path
    for plot in plots.values():
        assert (ROOT / ".dvc/plots" / f"{plot['template']}.json").is_file()
    (metrics,) = STAGES["aggregate"]["metrics"]
    assert metrics == {"results/metrics/metrics.json": {"cache": False}}
    assert set(DVC["artifacts"]) == {"generator", "model"}


def test_no_remote_and_no_credentials_in_gits_dvc_config() -> None:
    text = (ROOT / ".dvc/config").read_text()
    assert re.search(r"type = \"?reflink,copy", text)
    assert "autostage = true" in text
    assert "remote" not in text
