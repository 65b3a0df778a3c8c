"""What computes: the choice of the device, and what happens where its memory is too small."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hclmp.config import ModelConfig, TrainingConfig, resolve
from hclmp.errors import UserError
from hclmp.models.checkpoint import FOLDER, Checkpoints
from hclmp.models.compute import device_of
from hclmp.models.hclmp import fit
from hclmp.models.hclmp.composition_encoder import lengths_of, longest_of_parts
from hclmp.models.hclmp.fit import fit_hclmp
from hclmp.models.interface import Part
from hclmp.pipeline.jobs import Job
from tests.conftest import Command
from tests.made_up.synthetic import inputs, labelled
from tests.made_up.tables import set_up

SMALL = ModelConfig(message_hidden=8, latent=8, property_size=16, token_size=16, trunk=16)
ONE = TrainingConfig(epochs=1, batch_size=32, members=1, refit_epochs=1)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_there_is_always_something_that_computes(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    device = device_of(name)
    assert device.type == ("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")
    assert f"computing on {device}" in caplog.text


def test_auto_takes_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert [str(device_of(name)) for name in ("auto", "cuda", "cuda:1")] == [
        *["cuda:0"] * 2,
        "cuda:1",
    ]
    with pytest.raises(
        UserError, match=r"`training\.device: cuda:2`: no such device here; there is"
    ):
        device_of("cuda:2")


def test_a_device_that_is_not_there_is_refused(workdir: Path, command: Command) -> None:
    config = {
        "targets": {"source": "table", "path": "table.csv"},
        "dos": {"source": "none"},
        "systems": "systems.tsv",
        "variants": ["hclmp"],
        "training": {"device": "cuda:77"},
    }
    file = set_up(workdir, config=config)
    for arguments in (["prepare-targets"], ["featurize"]):
        assert command(*arguments, "--config", file).code == 0
    answer = command("train", "--variant", "hclmp", "--fold", "a", "--config", file)
    assert answer.code == 2
    assert "`training.device: cuda:77`: no such device here; there is cpu" in answer.text
    assert not Path("results/models").exists()


def test_a_device_has_a_name_that_there_is() -> None:
    with pytest.raises(UserError, match=r"`training\.device` is 'gpu'"):
        resolve({"training": {"device": "gpu"}})
    with pytest.raises(UserError, match="all variants are computed alike"):
        resolve(
            {"variants": {"a": {"model": "hclmp", "overrides": {"training": {"device": "cpu"}}}}}
        )


def test_no_result_depends_on_how_it_is_computed(workdir: Path) -> None:
    set_up(workdir)
    paper = {"model": "hclmp", "preset": "paper"}
    raw: dict[str, Any] = {
        "systems": "systems.tsv",
        "dos": {"source": "none"},
        "variants": {"paper": paper, "hclmp": None},
    }
    how = {"device": "cuda", "deterministic": False, "folds_per_job": 9}
    one, other = resolve(raw), resolve({**raw, "training": how})
    assert one != other
    assert Job(one, "finalize").settings == Job(other, "finalize").settings
    for variant in raw["variants"]:
        made, again = (Job(config, "train", (variant, "a")) for config in (one, other))
        assert made.settings == again.settings


def test_the_longest_of_each_part_is_known_beforehand() -> None:
    fractions = torch.from_numpy(inputs(200).compositions.fractions)[None]
    lengths = lengths_of(fractions)
    assert lengths[0].tolist() == (fractions[0] > 0).sum(dim=1).tolist()
    assert longest_of_parts(lengths).tolist() == [2, 3, 4, 4]
    both = torch.cat([lengths, torch.ones_like(lengths)])
    assert longest_of_parts(both).tolist() == [2, 3, 4, 4]


def parts() -> list[Part]:
    return [Part(labelled(66, seed=i), labelled(20, seed=9 + i), {"fold": i}) for i in range(5)]


def limited(monkeypatch: pytest.MonkeyPatch, folds: int) -> list[int]:
    """A memory that holds so many folds; the folds of each training that was tried."""
    real, tried = fit.train_model, list[int]()

    def train(model: Any, **kwargs: Any) -> Any:
        tried.append(len(kwargs["train"].counts))
        if tried[-1] > folds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return real(model, **kwargs)

    monkeypatch.setattr(fit, "train_model", train)
    return tried


def test_out_of_memory_halves_the_stack_and_goes_on(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints() as checkpoints:
        whole = fit_hclmp(parts(), model=SMALL, training=ONE, checkpoints=checkpoints)
    tried = limited(monkeypatch, 2)
    with Checkpoints() as checkpoints:
        halved = fit_hclmp(parts(), model=SMALL, training=ONE, checkpoints=checkpoints)
    assert tried == [5, 2, 3, 1, 2] * 2, "selection and refit"
    assert "cpu has too little memory for 5 folds as one model: going on with 2 and then 3" in (
        caplog.text
    )
    given = inputs(10)
    for (one, _), (other, _) in zip(whole, halved, strict=True):
        np.testing.assert_allclose(
            other.predict(given).mean, one.predict(given).mean, rtol=1e-3, atol=1e-3
        )
    assert not list(FOLDER.glob("*"))


def test_a_single_fold_that_is_too_much_says_what_to_lower(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 0)
    with pytest.raises(UserError, match=r"cpu has too little memory .* lower `model\.memory`"):
        fit_hclmp(parts(), model=SMALL, training=ONE, checkpoints=Checkpoints())


def test_a_step_computes_on_the_threads_it_was_given() -> None:
    """In a process of its own: numpy's threads must be limited too, which it makes on import."""
    code = """
import hclmp.cli.main
from hclmp.cli.steps import _set_threads
_set_threads(1)
import numpy, scipy.linalg, torch
from threadpoolctl import threadpool_info
print([pool["num_threads"] for pool in threadpool_info()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pools = json.loads(done.stdout)
    assert len(pools) > 1
    assert set(pools) == {1}
