"""``hclmp doctor``: check what hclmp needs, and say how to mend what is missing."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hclmp.config import Config, load_config
from hclmp.errors import UserError, join_some
from hclmp.provenance import PACKAGE

Status = Literal["ok", "warning", "problem"]
STYLES: dict[Status, str] = {"ok": "green", "warning": "yellow", "problem": "red"}
DEFAULT_CONFIG = Path("config/config.yaml")
LEAST_DISK, LITTLE_DISK = 1.0, 5.0  # GB
INSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Check:
    """What a check found; the remedy is empty where there is nothing to mend."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def doctor(config: Path | None, as_json: bool) -> None:
    """Make all checks and print what they found; exit code 1 if there is a problem.

    Nothing is downloaded, and no key is printed.
    """
    results = list(_check_all(config))
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        _show(results)
    if any(result.status == "problem" for result in results):
        raise typer.Exit(1)


def _check_all(config: Path | None) -> Iterator[Check]:
    settings, result = _config(config)
    yield from (_python(), _packages(), _versions(), _torch(settings), result, _key(settings))
    yield from (_snakemake(), _dvc(), _git(), _slurm(), _directory(), _disk())


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    needed = importlib.metadata.metadata("hclmp")["Requires-Python"]
    if not SpecifierSet(needed).contains(platform.python_version(), prereleases=True):
        return Check("Python", "problem", found, f"hclmp needs Python {needed}")
    return Check("Python", "ok", found)


def _requirements() -> list[Requirement]:
    """What hclmp always needs, by its own metadata."""
    every = [Requirement(text) for text in importlib.metadata.requires("hclmp") or []]
    return [r for r in every if r.marker is None or r.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Check:
    wrong = []
    for requirement in _requirements():
        version = _version(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, needed {requirement.specifier}")
    if wrong:
        return Check("packages", "problem", join_some(wrong), INSTALL)
    return Check("packages", "ok", f"all {len(_requirements())} are there")


def _versions() -> Check:
    """Whether versions are those that hclmp was tested with."""
    file = PACKAGE.parent / "constraints.txt"
    if not file.is_file():
        return Check("versions", "ok", "no constraints.txt to compare them with")
    lines = (line.partition("==") for line in file.read_text().splitlines() if "==" in line)
    locked = {canonicalize_name(name): version for name, _, version in lines}
    other = []
    for requirement in _requirements():
        name = canonicalize_name(requirement.name)
        version = _version(name)
        # 2.13.0+cpu is 2.13.0 of another index
        if version and name in locked and version.partition("+")[0] != locked[name]:
            other.append(f"{name} {version} instead of {locked[name]}")
    if other:
        return Check("versions", "warning", join_some(other), f"as tested: {INSTALL}")
    return Check("versions", "ok", f"as in {file}")


def _torch(config: Config | None) -> Check:
    """Whether torch is here, and the device that the configuration asks for."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("torch", "problem", f"cannot be imported ({error})", INSTALL)
    found = f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} CPU cores"
    if config is None or config.training.device == "cpu":
        gpu = "; `training.device: auto` would use the GPU" if torch.cuda.is_available() else ""
        return Check("torch", "ok", f"{found}{gpu}")
    from hclmp.models.compute import device_of

    try:
        device = device_of(config.training.device)
    except UserError as error:
        remedy = "correct it, or run where the device is (on a cluster: in a job)"
        return Check("torch", "problem", f"{found}; {error}", remedy)
    return Check("torch", "ok", f"{found}; training on {device}")


def _config(path: Path | None) -> tuple[Config | None, Check]:
    """The configuration, if it is one, and whether it is."""
    from hclmp.data.folds import fold_names

    if path is None and not DEFAULT_CONFIG.is_file():
        return None, Check(
            "configuration",
            "warning",
            f"no {DEFAULT_CONFIG} here",
            "go to a checkout of hclmp or a directory that `hclmp new` made, or name it: --config",
        )
    file = path or DEFAULT_CONFIG
    try:
        config = load_config(file)
        folds = fold_names(config)
        _check_inputs(config)
    except UserError as error:
        return None, Check("configuration", "problem", str(error), "correct it as it says")
    found = f"{file}: {len(config.variants)} variants, {len(folds)} folds"
    return config, Check("configuration", "ok", found)


def _check_inputs(config: Config) -> None:
    """The files that the configuration names must be there; those it does not use need not.

    Raises:
        UserError: names the key and the file.
    """
    from hclmp.sources.inputs import input_files

    sections = {"targets": config.targets} | ({"dos": config.dos} if config.pretrains else {})
    for key, section in sections.items():
        try:
            input_files(section)
        except UserError as error:
            raise UserError(f"`{key}.path`: {error}") from error
    path = config.gan.path if config.transfers else None
    if path is not None and not Path(path).is_file():
        raise UserError(f"`gan.path`: {path}: no such file (relative to the working directory)")


def _key(config: Config | None) -> Check:
    """Whether a key of the Materials Project is set, where one is needed; it is not tried."""
    name = "Materials Project"
    needed = config is not None and config.dos.source == "materials_project"
    from hclmp.sources.materials_project.client import api_key

    try:
        api_key()
    except UserError as error:
        if needed:
            return Check(name, "problem", "`dos.source` is materials_project", str(error))
        return Check(name, "ok", "no usable key; only `dos.source: materials_project` needs one")
    return Check(name, "ok", "a key is set (not tried)")


def _snakemake() -> Check:
    if shutil.which("snakemake") is None:
        remedy = "activate the environment: `. .venv/bin/activate`"
        return Check("Snakemake", "problem", "the command is not on PATH", remedy)
    return Check("Snakemake", "ok", f"{_version('snakemake')}")


def _dvc() -> Check:
    version = _version("dvc")
    if version is None and Path(".dvc").is_dir():
        remedy = 'pip install -c constraints.txt -e ".[dvc]"'
        return Check("DVC", "warning", "not installed, but this directory uses it", remedy)
    return Check("DVC", "ok", version or "not installed (optional, docs/dvc.md)")


def _git() -> Check:
    lost = "results cannot note the commit they were made at"
    if shutil.which("git") is None:
        return Check("Git", "warning", f"not installed: {lost}", "install Git")
    works, version = _output_of("git", "--version")
    if works:
        return Check("Git", "ok", version)
    found = f"`git --version` fails ({version}): {lost}"
    return Check("Git", "warning", found, "mend or reinstall Git")


def _slurm() -> Check:
    if shutil.which("sbatch") is None:
        return Check("Slurm", "ok", "none here (optional, docs/cluster.md)")
    works, found = _output_of("sbatch", "--version")
    if not works:
        remedy = "Slurm is installed but not configured here; only the profile needs it"
        return Check("Slurm", "warning", f"`sbatch --version` fails ({found})", remedy)
    if _version("snakemake-executor-plugin-slurm") is None:
        remedy = 'pip install -c constraints.txt -e ".[slurm]"'
        return Check("Slurm", "warning", f"{found}, but Snakemake lacks its plugin", remedy)
    return Check("Slurm", "ok", found)


def _output_of(*command: str) -> tuple[bool, str]:
    """Whether a program works, and the first line of its output."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"no answer: {error}"
    return answer.returncode == 0, (answer.stdout + answer.stderr).strip().partition("\n")[0]


def _directory() -> Check:
    try:
        with tempfile.NamedTemporaryFile(dir="."):
            pass
    except OSError as error:
        remedy = "work in a directory of your own: `snakemake --directory DIR`"
        return Check("directory", "problem", f"{Path.cwd()} cannot be written ({error})", remedy)
    return Check("directory", "ok", f"{Path.cwd()} can be written")


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 1e9
    if free >= LITTLE_DISK:
        return Check("disk", "ok", f"{free:.1f} GB free")
    status: Status = "problem" if free < LEAST_DISK else "warning"
    return Check("disk", status, f"{free:.1f} GB free", "make room, or work elsewhere")


def _show(results: list[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "found"):
        table.add_column(heading)
    for result in results:
        found = result.found + (f"\n-> {result.remedy}" if result.remedy else "")
        status = Text(result.status, style=STYLES[result.status])
        table.add_row(Text(result.check), status, Text(found))
    Console().print(table)
