"""Every configuration that comes with hclmp can be read, and its variants built."""

from pathlib import Path

import pytest
import yaml

from hclmp.config import load_config, resolve, variant_settings

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


def test_the_papers_run_is_the_same_alone_and_over_the_demos_configuration() -> None:
    """What of ``config.yaml`` remains below ``paper.yaml`` changes no result."""
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    paper = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
    merged = demo | {
        key: demo[key] | value if isinstance(demo.get(key), dict) else value
        for key, value in paper.items()
    }
    over_demo, alone = resolve(merged), resolve(paper)
    assert alone.targets.source == alone.dos.source == "reference"
    assert alone.systems == "config/paper_systems.tsv"
    assert alone.variants["paper_t"].transfer
    for config in (over_demo, alone):
        assert not config.pretrains_encoder, "the paper has none"
        assert config.gan.memory == 0
    for key in ("targets", "dos", "gan", "baselines", "variants", "split"):
        assert getattr(over_demo, key) == getattr(alone, key)
    for variant in ("paper_t", "paper"):
        assert variant_settings(over_demo, variant) == variant_settings(alone, variant)
