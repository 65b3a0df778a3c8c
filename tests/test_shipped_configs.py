"""Every configuration that comes with hclmp can be read, and its variants built."""

from pathlib import Path

import pytest

from hclmp.config import load_config, variant_settings

ROOT = Path(__file__).parents[1]
# downloads.yaml is the list of `hclmp sources`, no configuration of a run
SHIPPED = sorted(p.name for p in (ROOT / "config").glob("*.yaml") if p.name != "downloads.yaml")


def test_there_are_some() -> None:
    assert {"config.yaml", "paper.yaml", "ablation.yaml"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_loads(name: str) -> None:
    config = load_config(ROOT / "config" / name)
    for variant in config.variants:
        variant_settings(config, variant)


def test_each_ablation_takes_one_thing_from_the_full_model() -> None:
    config = load_config(ROOT / "config/ablation.yaml")
    full, training = variant_settings(config, "hclmp_t")
    without = [name for name in config.variants if name.startswith("no_")]
    assert len(without) >= 3
    for name in without:
        model, same = variant_settings(config, name)
        kept = full.model_dump()
        changed = [key for key, value in model.model_dump().items() if value != kept[key]]
        changed += [] if config.variants[name].pretrained else ["pretrained"]
        assert len(changed) == 1, name
        assert same == training
        assert config.variants[name].transfer
    assert training.members == 1
