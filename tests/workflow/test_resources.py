"""What jobs ask a cluster for, without a cluster: tests/slurm has one."""

import re

import pytest
import yaml

from tests.workflow.conftest import ROOT


def rules() -> dict[str, str]:
    """Rule -> its text; `` as `` is in the name of one that is derived from another."""
    return {
        name: body
        for file in (ROOT / "workflow/rules").glob("*.smk")
        for name, body in re.findall(
            r"(?ms)^ *(?:use )?rule ?([^\n]*):\n(.*?)(?=^\S|\Z)", file.read_text()
        )
    }


def test_every_rule_states_threads_and_memory_and_time_that_grow_with_the_attempt() -> None:
    assert len(rules()) == 11
    for name, body in rules().items():
        derived = " as " in name  # from a rule, whose threads it has, and what else it leaves out
        assert "threads:" in body or derived, name
        if derived and "resources:" not in body:
            continue
        assert re.search(r"\bmem_mb=by_attempt\(\d{4,}\b", body), name
        assert re.search(r"\bruntime=by_attempt\(\d+\b", body), name


def test_the_slurm_profile_is_of_no_site() -> None:
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert not {"default-resources", "set-resources"} & profile.keys()
    assert not {key for key in profile if "account" in key or "partition" in key or "qos" in key}


def gpu_rules() -> set[str]:
    """The rules that ask for a GPU; a batch of folds is `train` under another name."""
    asking = {name for name, body in rules().items() if "**GPU" in body and name}
    derived = [
        name.removesuffix(" with").split(" as ")
        for name, body in rules().items()
        if " as " in name and "resources:" not in body
    ]
    return asking | {name for of, name in derived if of in asking}


@pytest.mark.parametrize("file", ["docs/cluster.md", "workflow/profiles/slurm/config.yaml"])
def test_all_rules_that_ask_for_a_gpu_are_named_where_it_is_told_how(file: str) -> None:
    text = (ROOT / file).read_text()
    assert set(re.findall(r"(\w+): \{slurm_partition: gpu\}", text)) == gpu_rules()
    assert "gpu: 0, gres:" in text
