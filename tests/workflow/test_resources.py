"""What jobs ask a cluster for, without a cluster: tests/slurm has one."""

import re

import yaml

from tests.workflow.conftest import ROOT


def rules_and_their_text() -> dict[str, str]:
    """The rules of batches of folds, made in a loop, have no name in the text."""
    return {
        name: body
        for file in (ROOT / "workflow/rules").glob("*.smk")
        for name, body in re.findall(
            r"(?ms)^ *(?:use )?rule ?([^\n]*):\n(.*?)(?=^\S|\Z)", file.read_text()
        )
    }


def test_every_rule_states_threads_and_memory_and_time_that_grow_with_the_attempt() -> None:
    rules = rules_and_their_text()
    assert len(rules) == 10
    for name, body in rules.items():
        derived = " as " in name  # from a rule, whose threads it has, and what else it leaves out
        assert "threads:" in body or derived, name
        if derived and "resources:" not in body:
            continue
        assert re.search(r"\bmem_mb=by_attempt\(\d{4,}\b", body), name
        assert re.search(r"\bruntime=by_attempt\(\d+\b", body), name


def test_what_trains_networks_asks_for_a_gpu_where_the_configuration_does() -> None:
    """And nothing else; baselines replace the resources of the rule that theirs derives from."""
    asking = {name for name, body in rules_and_their_text().items() if "**GPU" in body}
    assert asking == {"train", "", "finalize"}


def test_the_slurm_profile_is_of_no_site() -> None:
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert not {"default-resources", "set-resources"} & profile.keys()
    assert not {key for key in profile if "account" in key or "partition" in key or "qos" in key}
