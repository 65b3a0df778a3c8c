"""The configuration: what is wrong is named, and what is generated from it is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hclmp.config import (
    DEFAULT_VARIANTS,
    PAPER_PRESET,
    Config,
    as_json,
    load_config,
    resolve,
    variant_settings,
)
from hclmp.errors import UserError
from tests.conftest import Command, assert_refused

ROOT = Path(__file__).parents[1]
TABLE = {"source": "table", "path": "t.csv"}


def overriding(**overrides: Any) -> dict[str, Any]:
    return {"variants": {"a": {"model": "hclmp", "overrides": overrides}}}


@pytest.mark.parametrize(
    ("raw", "key", "nearest"),
    [
        ({"taregts": {}}, "taregts", "targets"),
        ({"targets": {"sorce": "demo"}}, "targets.sorce", "source"),
        (
            {"targets": {**TABLE, "properties": {"a": {"unt": "eV"}}}},
            "targets.properties.a.unt",
            "unit",
        ),
        ({"dos": {"held_uot": "drop"}}, "dos.held_uot", "held_out"),
        ({"dos": {"energies": {"strat": 1}}}, "dos.energies.strat", "start"),
        ({"gan": {"epoch": 1}}, "gan.epoch", "epochs"),
        ({"model": {"latant": 3}}, "model.latant", "latent"),
        ({"training": {"batch": 3}}, "training.batch", "batch_size"),
        ({"baselines": {"tree": 3}}, "baselines.tree", "trees"),
        ({"variants": {"a": {"modle": "hclmp"}}}, "variants.a.modle", "model"),
        (overriding(model={"latant": 3}), "variants.a.overrides.model.latant", "latent"),
        (overriding(training={"epoch": 3}), "variants.a.overrides.training.epoch", "epochs"),
    ],
)
def test_a_typo_names_the_nearest_key(raw: dict[str, Any], key: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(raw)
    assert f"unknown key `{key}`; did you mean `{nearest}`?" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"training": {"epochs": "ten"}}, "`training.epochs` is 'ten': Input should be a valid"),
        ({"training": {"epochs": 0}}, "`training.epochs` is 0: Input should be greater than 0"),
        ({"training": {"seed": -1}}, "`training.seed` is -1: Input should be greater"),
        ({"gan": {"seed": -1}}, "`gan.seed` is -1: Input should be greater"),
        ({"training": {"learning_rate": float("inf")}}, "`training.learning_rate` is inf"),
        ({"gan": None}, "`gan` is None: Input should be a valid dictionary"),
        ({"targets": {"left_out": "O"}}, "`targets.left_out` is 'O'"),
        ({"targets": {"properties": ["a"]}}, "`targets.properties` is ['a']"),
        ({"model": {"embedding": "matscolar"}}, "'matscolar': Input should be 'matscholar'"),
        (
            {"split": "columns"},
            "`split` is 'columns': Input should be 'systems', 'random' or 'column'",
        ),
        ({"split": "column"}, "`split: column` needs `targets.split_column`"),
        ({1: 2}, "`1` is 1: Keys should be strings"),
        ({"targets": {"source": "table"}}, "`targets`: `path` names the file or folder of"),
        ({"targets": {"path": "t.csv"}}, "`targets`: `path` names the file or folder of"),
        ({"dos": {"source": "table"}}, "`dos`: `path` names the file or folder of"),
        (
            {"targets": {"properties": {"a": {}}}},
            "the demo brings its own properties: leave `properties` empty",
        ),
        ({"dos": {"source": "none"}}, "variant `hclmp_t` needs density of states"),
        (
            {"dos": {"source": "none"}, "variants": {"x": {"model": "hclmp", "transfer": True}}},
            "variant `x` needs density of states, but `dos.source` is `none`",
        ),
        (
            {"targets": TABLE},
            "variant `hclmp_t` would learn the demo's simulated density of states",
        ),
        ({"dos": {"energies": {"start": 8, "stop": -8}}}, "`start` (8) must be less than `stop`"),
        ({"dos": {"energies": {"start": float("nan")}}}, "`dos.energies.start` is nan"),
        ({"model": {"token_size": 63}}, "`token_size` must be a multiple of `attention_heads`"),
        (
            overriding(model={"token_size": 63}),
            "`variants.a.overrides.model`: `token_size` must be a multiple",
        ),
        (
            overriding(training={"epochs": "many"}),
            "`variants.a.overrides.training.epochs` is 'many'",
        ),
        (
            overriding(modle={}),
            "unknown key `variants.a.overrides.modle`; known are 'model' or 'training'",
        ),
        ({"variants": ["hclmpt"]}, "did you mean `hclmp_t`? Say what it is"),
        ({"variants": ["zzz"]}, "`zzz` is no default variant (hclmp_t, hclmp,"),
        ({"variants": ["hclmp", "hclmp"]}, "named twice: hclmp"),
        ({"variants": [{"hclmp": {}}]}, "{'hclmp': {}} is no name"),
        ({"variants": [1]}, "1 is no name"),
        ({"variants": []}, "`variants` is []"),
        ({"variants": {"A-b": {"model": "ridge"}}}, "`variants.A-b`"),
        ({"variants": {"hclmp": {}}}, "`variants.hclmp.model` is missing"),
        (
            {"variants": {"a": {"model": "ridge", "preset": "paper"}}},
            "`variants.a`: `ridge` takes no `preset` or `overrides`",
        ),
        (
            {"variants": {"a": {"model": "mean", "transfer": True}}},
            "`variants.a`: `mean` takes no `transfer`: it predicts one value",
        ),
    ],
)
def test_a_bad_value_is_named(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(raw, origin="my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert words in str(caught.value)


def test_measured_values_need_no_dos_of_their_own_without_transfer_or_with_a_generator() -> None:
    resolve({"targets": TABLE, "variants": ["hclmp", "mean"]})
    resolve({"targets": TABLE, "gan": {"source": "pretrained", "path": "g.safetensors"}})


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        resolve({"gan": {"epoch": 1}, "training": {"epochs": "ten"}})
    assert "gan.epoch" in str(caught.value)
    assert "training.epochs" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"gan: [", "not valid YAML"),
        (b"gan: {epochs: 1}\n\xff", "not valid YAML"),
        (b"- a\n- b\n", "a config is a mapping"),
        (b"gan: {epoch: 1}", "unknown key `gan.epoch`"),
    ],
)
def test_a_bad_file_is_refused(workdir: Path, command: Command, content: bytes, words: str) -> None:
    (workdir / "my.yaml").write_bytes(content)
    answer = command("prepare-targets", "--config", "my.yaml")
    assert_refused(answer, "my.yaml: ", words)


def test_no_config_is_refused(command: Command) -> None:
    answer = command("prepare-targets", "--config", "my.yaml")
    assert_refused(answer, "my.yaml: no such config")


def test_an_empty_file_is_the_default(workdir: Path) -> None:
    (workdir / "empty.yaml").write_text("# nothing\n")
    assert load_config("empty.yaml") == Config()


def test_the_resolved_config_reads_back_as_itself(workdir: Path) -> None:
    config = resolve({"variants": ["hclmp_t", "mean"], "gan": {"critic_hidden": [8, 4]}})
    (workdir / "config.json").write_text(as_json(config))
    assert load_config("config.json") == config
    assert as_json(load_config("config.json")) == as_json(config)


def test_names_stand_for_default_variants() -> None:
    listed = resolve({"variants": ["hclmp_t", "ridge"]}).variants
    mapped = resolve({"variants": {"hclmp_t": None, "ridge": {"model": "ridge"}}}).variants
    assert listed == mapped
    assert list(Config().variants) == list(DEFAULT_VARIANTS)
    assert listed["hclmp_t"].transfer
    assert not listed["ridge"].transfer


def test_presets_and_overrides_are_layered() -> None:
    config = resolve(
        {
            "model": {"embedding": "mat2vec", "latent": 7},
            "training": {"epochs": 3, "members": 2, "seed": 5},
            "variants": {
                "plain": {"model": "hclmp"},
                "published": {
                    "model": "hclmp",
                    "preset": "paper",
                    "overrides": {"model": {"latent": 9}, "training": {"batch_size": 4}},
                },
            },
        }
    )
    model, training = variant_settings(config, "plain")
    shown = config.model.model_copy(update={"dos_dropout": 0.0})
    assert (model, training) == (shown, config.training)
    model, training = variant_settings(config, "published")
    assert (model.embedding, model.latent) == ("mat2vec", 9)
    assert model.decoder_hidden == PAPER_PRESET["model"]["decoder_hidden"]
    assert (training.members, training.seed, training.batch_size) == (2, 5, 4)
    assert training.epochs == PAPER_PRESET["training"]["epochs"]
    with pytest.raises(UserError, match="no variant `other`; the config has plain, published"):
        variant_settings(config, "other")


@pytest.mark.parametrize(
    ("held_out", "variant", "share"),
    [
        ("drop", "hclmp_t", 0.25),
        ("drop", "hclmp", 0.0),
        ("drop", "paper_t", 0.0),
        ("keep", "hclmp_t", 0.0),
    ],
)
def test_the_dos_feature_is_hidden_where_it_is_a_guess(
    held_out: str, variant: str, share: float
) -> None:
    paper = {"model": "hclmp", "transfer": True, "preset": "paper"}
    config = resolve(
        {
            "dos": {"held_out": held_out},
            "variants": {"hclmp_t": None, "hclmp": None, "paper_t": paper},
            "model": {"dos_dropout": 0.25},
        }
    )
    assert variant_settings(config, variant)[0].dos_dropout == share


def test_a_dropout_that_cannot_act_is_refused() -> None:
    overrides = {"model": {"dos_dropout": 0.3}}
    raw: dict[str, Any] = {
        "dos": {"held_out": "drop"},
        "variants": {"t": {"model": "hclmp", "transfer": True, "overrides": overrides}},
    }
    assert variant_settings(resolve(raw), "t")[0].dos_dropout == 0.3
    with pytest.raises(UserError, match="dos_dropout` acts on a variant with"):
        resolve(raw | {"dos": {"held_out": "keep"}})


def test_the_shipped_config_is_valid() -> None:
    config = load_config(ROOT / "config" / "config.yaml")
    assert config.targets.source == "demo"
    assert (ROOT / config.systems).is_file()


@pytest.mark.parametrize("name", ["workflow/schemas/config.schema.json", "config/README.md"])
def test_generated_files_are_up_to_date(workdir: Path, command: Command, name: str) -> None:
    assert command("config-docs", "--root", workdir).code == 0
    assert (workdir / name).read_text() == (ROOT / name).read_text(), "run `hclmp config-docs`"


def test_the_schema_accepts_and_refuses_as_the_types_do(workdir: Path, command: Command) -> None:
    """Snakemake validates with the schema what hclmp then reads with the types."""
    from jsonschema import Draft202012Validator

    assert command("config-docs", "--root", workdir).code == 0
    schema = json.loads((workdir / "workflow/schemas/config.schema.json").read_text())
    validator = Draft202012Validator(schema)
    shipped = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    good = [{}, shipped, {"variants": ["mean"]}, {"variants": {"mean": None}}]
    bad = [{"taregts": {}}, {"gan": {"epochs": "ten"}}, {"training": {"seed": -1}}]
    for raw in good:
        assert validator.is_valid(raw)
        resolve(raw)
    for raw in bad:
        assert not validator.is_valid(raw)
        with pytest.raises(UserError):
            resolve(raw)


def test_a_key_of_an_earlier_version_says_what_to_do() -> None:
    with pytest.raises(
        UserError, match=r"`dos\.materials_project\.spin` is no longer a key.*Remove"
    ):
        resolve({"dos": {"materials_project": {"spin": "sum"}}}, origin="results/config.json")


def test_a_baseline_with_transfer_has_the_dos_feature_and_no_encoder() -> None:
    config = resolve({"variants": ["boosting_t", "ridge"], "dos": {"held_out": "drop"}}, origin="")
    assert config.transfers
    assert config.pretrains
    assert config.generator_per_fold
    assert not config.pretrains_encoder
    assert config.final_variant is None
