"""The table of jobs: what determines a result is in its settings, and what does not is not."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hclmp.config import Config, resolve
from hclmp.errors import UserError
from hclmp.files import write_json
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import STEPS, Job, jobs
from hclmp.pipeline.steps.pretrain_gan import _divide
from hclmp.provenance import METADATA_KEY
from hclmp.tensors import write_tensors

SEEDED = {"mine": {"model": "hclmp", "overrides": {"training": {"seed": 7}}}}


@pytest.fixture(autouse=True)
def sheet(workdir: Path) -> None:
    Path("config").mkdir()
    Path("config/systems.tsv").write_text("system\tfold\nCu-Fe\ta\nFe-Ti\tb\n")


def trained(config: Config, variant: str, fold: str) -> dict[str, Any]:
    """What determines a variant on a fold."""
    return Job(config, "train", (variant, fold)).settings


@pytest.mark.parametrize("change", [{"seed": 3}, {"validation_fraction": 0.2}])
@pytest.mark.parametrize("variant", ["mine", "ridge"])
def test_the_rows_of_a_fold_are_in_the_slice_of_every_variant(
    variant: str, change: dict[str, Any]
) -> None:
    raw = {"variants": {**SEEDED, "ridge": None}}
    assert trained(resolve(raw), variant, "a") != trained(
        resolve({**raw, "training": change}), variant, "a"
    )


def test_another_fold_and_the_settings_of_others_are_not_in_it() -> None:
    before = trained(resolve({}), "ridge", "a")
    assert before == trained(resolve({"training": {"epochs": 3}, "gan": {"seed": 1}}), "ridge", "a")
    assert before["systems"] == ["Cu-Fe"]


@pytest.mark.parametrize(("held_out", "acts"), [("drop", True), ("keep", False)])
def test_how_much_of_the_dos_feature_is_hidden_is_in_it_where_it_acts(
    held_out: str, acts: bool
) -> None:
    raw: dict[str, Any] = {"dos": {"held_out": held_out}}
    one, other = (resolve({**raw, "model": {"dos_dropout": share}}) for share in (0.2, 0.4))
    assert (trained(one, "hclmp_t", "a") != trained(other, "hclmp_t", "a")) == acts
    assert trained(one, "hclmp", "a") == trained(other, "hclmp", "a")
    assert Job(one, "pretrain-encoder").settings == Job(other, "pretrain-encoder").settings


def test_what_is_said_of_nearly_equal_compositions_is_said_anew_of_another_split() -> None:
    def prepared(split: str, seed: int) -> dict[str, Any]:
        raw = {"split": split, "training": {"seed": seed}, "targets": {"source": "demo"}}
        return Job(resolve(raw), "prepare-targets").settings

    assert prepared("systems", 0) == prepared("systems", 1), "it says nothing of these"
    assert prepared("random", 0) != prepared("systems", 0)
    assert prepared("random", 0) != prepared("random", 1)


def test_variants_share_the_rows_of_a_fold() -> None:
    overrides = {"training": {"validation_fraction": 0.3}}
    with pytest.raises(UserError, match="all variants share the rows of a fold"):
        resolve({"variants": {"mine": {"model": "hclmp", "overrides": overrides}}})


def test_the_generator_needs_its_own_embedding_beside_those_of_the_variants() -> None:
    overrides = {"model": {"embedding": "mat2vec"}}
    other = {"model": "hclmp", "transfer": True, "pretrained": False, "overrides": overrides}
    assert (resolve({"variants": {"t": other}}).embeddings) == ["mat2vec", "matscholar"]


@pytest.mark.parametrize("n", [5, 6, 7, 12, 100])
def test_every_part_of_the_dos_has_whole_systems(n: int) -> None:
    systems = [f"s{i % n}" for i in range(3 * n)]
    parts = _divide(systems, seed=0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3 * n))
    names = [{systems[row] for row in part} for part in parts]
    assert all(names)
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    assert len(names[0]) >= 3 * max(len(names[1]), len(names[2]))


def test_a_damaged_input_says_what_makes_it_again() -> None:
    table = Path("data/processed/dos.parquet")
    table.parent.mkdir(parents=True)
    table.touch()
    with pytest.raises(UserError, match=r"dos\.parquet: damaged.*again: `hclmp pull-dos`"):
        check_inputs(Job(resolve({}), "pretrain-gan"))


def test_a_key_that_is_null_here_and_not_there_is_named() -> None:
    """As in the results of an earlier version, which did not know the key."""
    raw = {"targets": {"source": "table", "path": "t.csv", "properties": {"gap": {}}}}
    config = resolve({**raw, "dos": {"source": "none"}, "variants": ["mean"]})
    found = json.loads(json.dumps(Job(config, "prepare-targets").settings))
    del found["targets"]["properties"]["gap"]["maximum"]
    for path in Job(config, "report").inputs.values():
        write_json(path, {"provenance": {"config": found, "inputs": {}}})
    with pytest.raises(UserError, match=r"\(targets\.properties\.gap\.maximum: nothing there, N"):
        check_inputs(Job(config, "report"))


def make(job: Job) -> None:
    """Write files that hold nothing but the provenance of a job."""
    about = {"provenance": job.provenance()}
    for path in job.outputs.values():
        if path.suffix == ".parquet":
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.table({}).replace_schema_metadata({METADATA_KEY: json.dumps(about)})
            pq.write_table(table, path)
        elif path.suffix == ".safetensors":
            write_tensors(path, {}, about)
        else:
            write_json(path, about)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"gan": {"draws": 5}}, r"features\.safetensors: .*draws: 100 there, 5 here.*featurize"),
        ({"gan": {"epochs": 5}}, r"metrics\.json: .*gan\.epochs.*pretrain-gan"),
        ({"encoder": {"epochs": 5}}, r"encoder\.safetensors: .*encoder\.epochs.*pretrain-encoder"),
        ({"dos": {"limit": 5}}, r"dos\.parquet: .*dos\.limit.*pull-dos"),
    ],
    ids=str,
)
def test_what_an_input_was_made_from_belongs_to_the_run_too(
    change: dict[str, Any], words: str | None
) -> None:
    """No key of these is in the settings of a training, whose predictions are pooled."""
    before = resolve({"variants": ["hclmp_t"]})
    for step in list(STEPS)[: list(STEPS).index("aggregate")]:
        for job in jobs(before, step):
            make(job)
    wanted = Job(resolve({"variants": ["hclmp_t"], **change}), "aggregate")
    with pytest.raises(UserError, match=words) if words else nullcontext():
        check_inputs(wanted)
