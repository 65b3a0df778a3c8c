"""What jobs ask a cluster for, without a cluster: tests/slurm has one."""

import re

import yaml

from tests.workflow.conftest import ROOT


def test_every_rule_states_threads_and_memory_and_time_that_grow_with_the_attempt() -> None:
    rules = {
        name: body
        for file in (ROOT / "workflow/rules").glob("*.smk")
        for name, body in re.findall(
            r"(?ms)^ *(?:use )?rule ?([^\n]*):\n(.*?)(?=^\S|\Z)", file.read_text()
        )
    }
    assert len(rules) == 13
    for name, body in rules.items():
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
