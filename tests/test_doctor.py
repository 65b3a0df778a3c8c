"""``hclmp doctor``: what is wrong is found, and told how to mend."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from hclmp.cli import doctor
from hclmp.cli.main import main
from tests.conftest import Command
from tests.made_up.tables import (
    config_for,
    set_up,
)


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})


def findings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, doctor.Check]:
    code = 0
    try:
        doctor.doctor(Path(arguments[0]) if arguments else None, as_json=True)
    except typer.Exit as end:
        code = end.exit_code
    found = [doctor.Check(**f) for f in json.loads(capsys.readouterr().out)]
    assert code == any(f.status == "problem" for f in found)
    assert all(f.remedy for f in found if f.status != "ok"), "what is wrong has a remedy"
    return {f.check: f for f in found}


def test_a_good_place(workdir: Path, command: Command) -> None:
    set_up(workdir)
    answer = command("doctor", "--config", "config.yaml")
    assert answer.code == 0, answer.text
    assert "problem" not in answer.text
    for words in ("Python", "torch", "config.yaml: 1 variants, 2 folds", "can be written"):
        assert words in answer.text


def test_a_bad_configuration_is_a_problem(workdir: Path, command: Command) -> None:
    set_up(workdir)
    (workdir / "config.yaml").write_text(yaml.safe_dump(config_for() | {"sytems": "x"}))
    answer = command("doctor", "--config", "config.yaml")
    assert answer.code == 1
    assert "sytems" in answer.text
    answer = command("doctor", "--config", "none.yaml")
    assert answer.code == 1
    assert "none.yaml: no such config" in answer.text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (config_for("gone.csv"), "`targets.path`: gone.csv: no such file"),
        (
            config_for()
            | {"dos": {"source": "table", "path": "gone.csv"}, "variants": ["hclmp_t"]},
            "`dos.path`: gone.csv: no such file",
        ),
        (
            config_for()
            | {"gan": {"source": "pretrained", "path": "gone"}, "variants": ["hclmp_t"]},
            "`gan.path`: gone: no such file",
        ),
    ],
)
def test_a_file_that_is_not_there_is_a_problem(
    workdir: Path, capsys: pytest.CaptureFixture[str], config: dict[str, Any], words: str
) -> None:
    set_up(workdir, config=config)
    found = findings(capsys, "config.yaml")["configuration"]
    assert found.status == "problem"
    assert words in found.found


def test_a_file_that_is_not_used_may_be_away(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(workdir, config=config_for() | {"dos": {"source": "table", "path": "gone.csv"}})
    assert findings(capsys, "config.yaml")["configuration"].status == "ok"


def test_the_device_asked_for_must_be_there(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torch_for(device: str) -> doctor.Check:
        set_up(workdir, config=config_for() | {"training": {"device": device}})
        return findings(capsys, "config.yaml")["torch"]

    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    missing = torch_for("cuda")
    assert missing.status == "problem"
    assert "`training.device: cuda`: no such device here" in missing.found
    assert torch_for("auto").found.endswith("training on cpu")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    assert torch_for("auto").found.endswith("training on cuda:0")
    assert torch_for("cuda").status == "ok"
    assert torch_for("cpu").found.endswith("`training.device: auto` would use the GPU")


def test_no_configuration_is_a_warning(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys)["configuration"]
    assert found.status == "warning"
    assert "hclmp new" in found.remedy


def test_the_key_is_needed_where_it_is_used_and_never_shown(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config: dict[str, Any] = config_for() | {"dos": {"source": "materials_project"}}
    set_up(workdir, config=config)
    found = findings(capsys, "config.yaml")["Materials Project"]
    assert found.status == "problem"
    assert "export MP_API_KEY" in found.remedy
    monkeypatch.setenv("MP_API_KEY", "x" * 31)
    assert "31 characters" in findings(capsys, "config.yaml")["Materials Project"].remedy
    monkeypatch.setenv("MP_API_KEY", "k3y" + "x" * 29)
    found = findings(capsys, "config.yaml")["Materials Project"]
    assert found.status == "ok"
    assert "k3y" not in str(found)
    monkeypatch.delenv("MP_API_KEY")
    set_up(workdir)
    assert findings(capsys, "config.yaml")["Materials Project"].status == "ok"


def test_packages_missing_old_or_other_than_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._packages().status == "ok"
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda n: None if n == "pooch" else real(n))
    assert doctor._packages().found == "pooch is missing"
    monkeypatch.setattr(doctor, "_version", lambda n: "0.1" if n == "numpy" else real(n))
    assert "numpy 0.1, needed >=2.0" in doctor._packages().found
    assert doctor._packages().status == "problem"
    assert "numpy 0.1 instead of" in doctor._versions().found
    assert doctor._versions().status == "warning"


class _Usage(NamedTuple):
    free: float


@pytest.mark.parametrize(("free", "status"), [(0.5, "problem"), (3, "warning"), (50, "ok")])
def test_disk(free: float, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(free * 1e9))
    assert doctor._disk().status == status


def test_programs_that_are_missing(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workdir))
    assert doctor._snakemake().status == "problem"
    assert doctor._git().status == "warning"
    assert doctor._slurm().status == "ok"
    sbatch = workdir / "sbatch"
    sbatch.write_text("#!/bin/sh\necho slurm 22.05\n")
    sbatch.chmod(0o755)
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda n: None if "slurm" in n else real(n))
    found = doctor._slurm()
    assert found.status == "warning"
    assert found.found.startswith("slurm 22.05, but Snakemake lacks")


def test_programs_that_fail_have_no_version(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workdir))
    for name in ("sbatch", "git"):
        (workdir / name).write_text("#!/bin/sh\necho cannot find slurm.conf >&2\nexit 1\n")
        (workdir / name).chmod(0o755)
    slurm, git = doctor._slurm(), doctor._git()
    assert slurm.status == git.status == "warning"
    assert slurm.found == "`sbatch --version` fails (cannot find slurm.conf)"
    assert "not configured here" in slurm.remedy
    assert git.found.startswith("`git --version` fails (cannot find")


def test_a_directory_that_cannot_be_written(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refused)
    assert doctor._directory().status == "problem"


def test_usage_is_code_2_and_help_names_the_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hclmp", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        captured = capsys.readouterr()
        return int(leaving.value.code or 0), captured.out + captured.err

    assert code("screen")[0] == 2
    assert code("no-such-command")[0] == 2
    assert code("version") == (0, "0.1.0\n") or code("version")[0] == 0
    status, text = code("--help")
    assert status == 0
    assert "130 interrupted" in " ".join(text.split())


def test_an_interrupt_is_130_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "doctor", interrupted)
    monkeypatch.setattr(sys, "argv", ["hclmp", "doctor"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 130
    assert "Traceback" not in capsys.readouterr().err
