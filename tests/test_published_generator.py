"""The published generator as a file of ours, and what a pretrained generator does not know."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hclmp.config import Config
from hclmp.config.data import PAPER_CATIONS
from hclmp.data.features import read_features
from hclmp.errors import UserError
from hclmp.models.generator.network import Generator
from hclmp.models.generator.published import import_generator
from hclmp.pipeline.jobs import job
from hclmp.pipeline.steps.featurize import featurize
from hclmp.pipeline.steps.prepare_targets import prepare_targets
from tests.conftest import Command
from tests.made_up.published_generator import published
from tests.made_up.tables import (
    good_table,
    write,
)

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _inside(workdir: Path) -> None:
    """Each test in a working directory of its own."""


def test_the_same_composition_and_noise_give_the_same_dos() -> None:
    network = published()
    torch.save(network.state_dict(), "published.pt")
    import_generator(Path("published.pt"), Path("generator.safetensors"))
    model = Generator.from_file("generator.safetensors")
    fractions = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(39), 20)).float()
    noise = torch.randn(20, 50)
    with torch.no_grad():
        wanted = network(torch.cat([fractions, noise], dim=1))
        got = model(model.condition(fractions), noise)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    assert list(model.vocabulary) == PAPER_CATIONS
    assert model.noise == 50
    assert (model.grid.start, model.grid.stop, model.grid.n) == (-8, 8, 161)
    assert model.scaler is None


def test_the_feature_is_the_mean_over_draws_of_that_network() -> None:
    network = published()
    torch.save(network.state_dict(), "published.pt")
    model = import_generator(Path("published.pt"), Path("generator.safetensors"))
    fractions = np.eye(39, dtype=np.float32)[:3]
    noise = torch.randn(30, 50, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        rows = [
            network(torch.cat([torch.from_numpy(x).expand(30, 39), noise], 1)) for x in fractions
        ]
    wanted = torch.stack([row.mean(dim=0) for row in rows])
    torch.testing.assert_close(
        model.feature(fractions, draws=30, seed=5).dos, wanted, rtol=0, atol=1e-6
    )


def test_the_command_says_what_it_wrote(command: Command) -> None:
    torch.save(published().state_dict(), "published.pt")
    answer = command("import-generator", "published.pt", "--out", "mine.safetensors")
    assert answer.code == 0, answer.text
    assert (
        "mine.safetensors: generator of 161 standardised DOS values from -8 to 8 eV" in answer.text
    )
    assert "39 elements: Ag Ba Bi" in answer.text
    again = Path("mine.safetensors").read_bytes()
    command("import-generator", "published.pt", "--out", "mine.safetensors")
    assert Path("mine.safetensors").read_bytes() == again


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def changed(**tensors: Any) -> dict[str, Any]:
    state: dict[str, Any] = dict(published().state_dict())
    for name, value in tensors.items():
        layer, kind = name.split("_")
        state[f"laten_to_label.{layer[1:]}.{kind}"] = value
    return state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": torch.zeros(2)}, "lacks laten_to_label.0.weight"),
        (changed() | {"extra": torch.zeros(1)}, "has extra beside"),
        (changed(l0_weight=torch.zeros(256, 88)), "the first layer takes 88 numbers"),
        (changed(l6_weight=torch.zeros(66, 128), l6_bias=torch.zeros(66)), "gives 66 DOS values"),
        (changed(l2_weight=torch.zeros(256, 255)), "do not fit the layer before it"),
        (changed(l2_bias=torch.zeros(3)), "do not fit the layer before it or each other"),
        (changed(l4_bias=torch.full((128,), torch.nan)), "numbers that are not finite"),
        (changed(l4_bias=3.0), "`laten_to_label.4.bias` holds no tensor, where a dense tensor"),
        (changed(l4_bias=torch.zeros(128).to_sparse()), "holds a sparse or nested tensor"),
        (changed(l4_bias=torch.zeros(128, device="meta")), "holds a tensor without numbers"),
        (changed(l4_bias=torch.zeros(128, dtype=torch.complex64)), "a tensor of complex64"),
        (changed(l4_bias=torch.zeros(128, dtype=torch.int64)), "holds a tensor of int64"),
        (changed(l4_bias=torch.full((128,), 1e300, dtype=torch.float64)), "not finite"),
        (
            changed(
                l0_weight=torch.zeros(1, 1).expand(10**9, 89),
                l0_bias=torch.zeros(1).expand(10**9),
            ),
            "holds a tensor of 89000000000 numbers of which 1 are there",
        ),
        ([torch.zeros(2)], "holds a list, not a state dict"),
        ({"x": Attack()}, "holds more than tensors (`posix.system`)"),
    ],
)
def test_other_files_are_one_message(state: Any, words: str, command: Command) -> None:
    torch.save(state, "published.pt")
    answer = command("import-generator", "published.pt")
    assert answer.code == 2, answer.text
    assert "error: published.pt: " in answer.text
    assert words in answer.text
    assert not Path("generator.safetensors").exists()
    assert not Path("pwned").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, that this goes out of use
def test_quantised_weights_are_refused(command: Command) -> None:
    bias = torch.quantize_per_tensor(torch.zeros(128), 0.1, 0, torch.qint8)
    torch.save(changed(l4_bias=bias), "published.pt")
    answer = command("import-generator", "published.pt")
    assert answer.code == 2
    assert "`laten_to_label.4.bias` holds a quantised tensor" in answer.text


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"",
        b"PK\x03\x04",
        b"<!DOCTYPE html>\n<html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        bytes(1000),
        b"{}",
        b"\x80\x02.",
        pickle.dumps([1], 2),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, of the protocol
def test_files_that_torch_did_not_write(data: bytes, command: Command) -> None:
    Path("published.pt").write_bytes(data)
    answer = command("import-generator", "published.pt")
    assert answer.code == 2, answer.text
    assert "error: published.pt: not written by torch.save" in answer.text
    assert "a web page or a Git LFS pointer" in answer.text
    assert f"It begins with '{repr(data[:4])[2:-1]}" in answer.text
    for word in ("any program", "weights_only"):
        assert word not in answer.text


def test_a_program_is_named_and_not_run(command: Command) -> None:
    Path("published.pt").write_bytes(pickle.dumps({"x": Attack()}, 2))
    answer = command("import-generator", "published.pt")
    assert answer.code == 2, answer.text
    assert "published.pt: holds more than tensors (`posix.system`)" in answer.text
    assert not Path("pwned").exists()
    assert "published.pt" in command("import-generator", "absent/published.pt").text


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_layers_in_a_checkpoint_or_of_data_parallel(prefix: str, wrapped: bool) -> None:
    network = published()
    torch.save(network.state_dict(), "plain.pt")
    state: dict[str, Any] = {prefix + k: v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, "published.pt")
    wanted = import_generator(Path("plain.pt"), Path("plain.safetensors")).state_dict()
    got = import_generator(Path("published.pt"), Path("mine.safetensors")).state_dict()
    assert list(got) == list(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=0)


def prepared(generator: Path, elements: dict[str, str] | None = None) -> Config:
    """A prepared table and the configuration that uses a pretrained generator."""
    frame = good_table()
    for old, new in (elements or {}).items():
        frame["formula"] = frame["formula"].str.replace(old, new)
    write(Path("table.csv"), frame)
    Path("systems.tsv").write_text(f"system\n{'-'.join(sorted(['Cu', 'Ti', 'W']))}\n")
    config = Config.model_validate(
        {
            "targets": {"source": "table", "path": "table.csv"},
            "dos": {"source": "none"},
            "gan": {"source": "pretrained", "path": str(generator), "draws": 7},
            "systems": "systems.tsv",
            "variants": ["hclmp_t", "mean"],
        }
    )
    prepare_targets(config, job(config, "prepare-targets"))
    return config


def features(config: Config) -> Path:
    """Run the step; its file."""
    made = job(config, "featurize")
    featurize(config, made)
    return made.outputs["features"]


def imported() -> Path:
    torch.save(published().state_dict(), "published.pt")
    import_generator(Path("published.pt"), Path("generator.safetensors"))
    return Path("generator.safetensors")


def test_features_from_a_pretrained_generator() -> None:
    path = imported()
    config = prepared(path)
    inputs, _, origin = read_features(features(config))
    assert inputs.dos is not None
    assert inputs.dos.shape == (len(inputs), 161)
    order = [PAPER_CATIONS.index(e) for e in inputs.compositions.vocabulary]
    fractions = np.zeros((len(inputs), 39), dtype=np.float32)
    fractions[:, order] = inputs.compositions.dense()
    wanted = Generator.from_file(path).feature(fractions, draws=7, seed=0).dos
    np.testing.assert_allclose(inputs.dos, wanted.numpy(), atol=1e-6)
    assert "generator" in origin["inputs"]


@pytest.mark.parametrize(("left_out", "said"), [([], "nothing"), (["O", "Zr"], "O Zr")])
def test_other_elements_left_out_than_it_was_trained_with(left_out: list[str], said: str) -> None:
    path = imported()
    assert Generator.from_file(path).provenance["config"] == {"left_out": ["O"]}
    config = prepared(path)
    targets = config.targets.model_copy(update={"left_out": left_out})
    other = config.model_copy(update={"targets": targets})
    if not left_out:
        Path("systems.tsv").write_text("system\nCu-O-Ti-W\n")
    prepare_targets(other, job(other, "prepare-targets"))
    with pytest.raises(UserError) as caught:
        features(other)
    text = str(caught.value)
    assert text.startswith("generator.safetensors: the generator was trained on fractions with O")
    assert f"`targets.left_out` leaves out {said}, so that" in text
    assert "Set `targets.left_out: [O]`" in text
    assert not Path("results").exists()


def test_a_generator_that_does_not_say_what_was_left_out_is_taken() -> None:
    path = imported()
    model = Generator.from_file(path)
    model.save(path, provenance={"step": "import-generator"})
    config = prepared(path)
    assert features(config).is_file()


def test_elements_that_it_does_not_know_are_named() -> None:
    path = imported()
    config = prepared(path, {"Fe": "Al", "Mn": "Si"})
    with pytest.raises(UserError) as caught:
        features(config)
    text = str(caught.value)
    assert text.startswith(
        "data/processed/targets.parquet: 17 of 25 compositions hold elements that the generator"
    )
    assert "does not know: Al, Si." in text
    assert "`targets.left_out`" in text
    assert not Path("results").exists()


def test_a_missing_generator_names_its_makers() -> None:
    path = imported()
    config = prepared(path)
    path.unlink()
    message = r"generator\.safetensors: no such file; .*hclmp import-generator"
    with pytest.raises(UserError, match=message):
        features(config)
