"""The encoder pretrained on densities of states: what it sees, hands on and refuses."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hclmp.config import Config, ModelConfig, TrainingConfig, resolve
from hclmp.data.formula import formula_text
from hclmp.data.inputs import Inputs
from hclmp.data.tables import DosTable, Floats, read_dos, write_dos
from hclmp.errors import UserError
from hclmp.models.checkpoint import Checkpoints, History
from hclmp.models.generator.network import DosScaler
from hclmp.models.hclmp import fit
from hclmp.models.hclmp.ensemble import Ensemble
from hclmp.models.hclmp.pretrained import BY_ELEMENT, Pretrained
from hclmp.pipeline.jobs import Job, job
from hclmp.pipeline.steps import pretrain_encoder as step
from hclmp.pipeline.steps.train import train
from hclmp.provenance import read_provenance
from tests.made_up.synthetic import GRID, VOCABULARY, fit_one, inputs, labelled, synthetic_dos

SMALL = ModelConfig(message_hidden=16, latent=8, property_size=16, token_size=16, trunk=24)
TRAINING = TrainingConfig(epochs=2, batch_size=32, members=2)
HELD_OUT = "Cu-Fe-Ti"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(workdir: Path) -> None:
    pass


def pretrain(
    given: Inputs, dos: Floats, *, model: ModelConfig = SMALL, training: TrainingConfig = TRAINING
) -> tuple[Pretrained, History]:
    with Checkpoints() as checkpoints:
        return fit.pretrain(
            given, dos, model=model, training=training, key={}, checkpoints=checkpoints
        )


def pretrained(n: int = 80, *, seed: int = 0, training: TrainingConfig = TRAINING) -> Pretrained:
    dos = np.random.default_rng(seed).normal(size=(n, 20))
    given = inputs(n, seed=seed)
    trained, history = pretrain(given, dos, training=training)
    assert [row["epoch"] for row in history if row["member"] == 0] == [1, 2]
    return trained


def over_some(given: Inputs, names: tuple[str, ...]) -> Inputs:
    """The same compositions, which hold these elements alone, over this vocabulary."""
    old = given.compositions.vocabulary
    places = {old.index(name): i for i, name in enumerate(names)}
    moved = np.vectorize(lambda e: places.get(e, 0))(given.compositions.elements)
    columns = [old.index(name) for name in names]
    elements = replace(
        given.elements,
        vectors={k: v[columns] for k, v in given.elements.vectors.items()},
        properties=given.elements.properties[columns],
    )
    compositions = replace(given.compositions, vocabulary=names, elements=moved)
    return Inputs(compositions, elements)


def test_an_encoder_says_the_same_over_fewer_elements_in_another_order() -> None:
    start, given = pretrained(), inputs(40, seed=5)
    names = tuple(reversed(VOCABULARY[:4]))
    dense = given.compositions.dense()
    given = given.take(np.flatnonzero(dense[:, 4:].sum(axis=1) == 0))
    assert len(given) >= 5
    vectors = []
    for encoder, some in ((start, given), (start.over(names), over_some(given, names))):
        labels = labelled(40, seed=3)
        data = replace(labels, inputs=some.take(np.arange(len(some))), t=labels.t[: len(some)])
        model = Ensemble.untrained(data, SMALL, [0, 1], encoder)
        with torch.no_grad():
            vectors.append(model.network.material(model.scalers.batch(some), None))
    torch.testing.assert_close(vectors[0], vectors[1], atol=1e-5, rtol=1e-5)


def test_members_start_from_the_pretrained_weights_and_only_those() -> None:
    start, data = pretrained(), labelled(60, dos=7)
    plain = Ensemble.untrained(data, SMALL, [0, 1]).network.state_dict()
    network = Ensemble.untrained(data, SMALL, [0, 1], start).network.state_dict()
    assert BY_ELEMENT in start.tensors
    for name, tensor in network.items():
        expected = start.tensors.get(name, plain[name])
        assert torch.equal(tensor, expected), name
    assert "material.dos_map.weight" not in start.tensors
    one = Ensemble.untrained(data, SMALL, [7], start).network.state_dict()
    assert torch.equal(one[BY_ELEMENT], start.tensors[BY_ELEMENT][:1])


def test_saved_and_read_again(tmp_path: Path) -> None:
    start = pretrained()
    start.save("encoder.safetensors", provenance={"config": {"members": 2}})
    read = Pretrained.from_file("encoder.safetensors")
    assert read.vocabulary == start.vocabulary
    np.testing.assert_array_equal(read.statistics.std, start.statistics.std)
    assert read.tensors.keys() == start.tensors.keys()
    assert all(torch.equal(read.tensors[name], t) for name, t in start.tensors.items())
    with pytest.raises(UserError, match=r"has no input for Og"):
        read.over(("Fe", "Og"))
    Path("encoder.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"encoder\.safetensors: not a pretrained encoder"):
        Pretrained.from_file("encoder.safetensors")
    with pytest.raises(UserError, match="no such file; `hclmp pretrain-encoder`"):
        Pretrained.from_file("other.safetensors")


@pytest.mark.parametrize(
    ("base", "overrides"),
    [({}, {"memory": 0}), ({"trunk": 0}, {}), ({"memory": 0}, {"memory": 99})],
)
def test_keys_that_do_not_fit_start_anew(base: dict[str, int], overrides: dict[str, int]) -> None:
    """A variant without recall; without a trunk, where the keys see the DOS feature too."""
    settings = SMALL.model_copy(update=base)
    dos = np.random.default_rng(0).normal(size=(80, 20))
    start, _ = pretrain(inputs(80), dos, model=settings)
    model, _ = fit_one(
        labelled(60, dos=7),
        labelled(20, dos=7, seed=1),
        model=settings.model_copy(update=overrides),
        training=TRAINING,
        key={},
        start=start,
    )
    assert np.isfinite(model.predict(inputs(10, dos=7, seed=9)).mean).all()


def test_what_starts_pretrained_is_another_model_and_the_same_each_time() -> None:
    start = pretrained()
    content = []
    for i, encoder in enumerate((start, start, None)):
        model, _ = fit_one(
            labelled(60, dos=7),
            labelled(20, dos=7, seed=1),
            model=SMALL,
            training=TRAINING,
            key={"i": i},
            start=encoder,
        )
        content.append(model.predict(inputs(10, dos=7, seed=9)).mean)
    np.testing.assert_array_equal(content[0], content[1])
    assert np.abs(content[0] - content[2]).max() > 1e-3


def test_pretraining_pays_where_labels_follow_from_the_dos() -> None:
    """Labels of 30 compositions, DOS of 600: the first are functions of the second."""
    rng = np.random.default_rng(0)
    many, training = inputs(600, seed=0), TRAINING.model_copy(update={"epochs": 20})
    hidden = np.tanh(many.compositions.dense() @ rng.normal(size=(len(VOCABULARY), 6)) * 3)
    hidden = np.column_stack([hidden, hidden[:, :3] * hidden[:, 3:]])
    dos, labels = hidden @ rng.normal(size=(9, 20)), hidden @ rng.normal(size=(9, 3))
    few, test = np.arange(30), np.arange(300, 600)
    seen = np.concatenate([few, np.arange(40, 300)])
    start, _ = pretrain(many.take(seen), dos[seen], training=training)
    data = labelled(30)
    errors = []
    for i, encoder in enumerate((start, None)):
        model, _ = fit_one(
            replace(data, inputs=many.take(few), t=labels[few], noise=None),
            replace(data, inputs=many.take(np.arange(30, 40)), t=labels[30:40], noise=None),
            model=SMALL,
            training=TrainingConfig(epochs=30, batch_size=8, members=2),
            key={"i": i},
            start=encoder,
        )
        errors.append(np.abs(model.predict(many.take(test)).mean - labels[test]).mean())
    assert errors[0] < 0.9 * errors[1]


DOS = Path("data/processed/dos.parquet")


def write_table(settings: Config) -> Path:
    """The sheet and the DOS table of a run, as its own step would mark it."""
    Path("systems.tsv").write_text(f"system\tfold\n{HELD_OUT}\tfold-1\n")
    fractions, dos = synthetic_dos(120)
    formulas = [formula_text(VOCABULARY, row) for row in fractions]
    write_dos(
        DOS,
        DosTable(
            material_id=[str(i) for i in range(len(dos) + 1)],
            formula=[*formulas, formulas[0]],  # one material twice
            dos=np.concatenate([dos, dos[:1] + 1]),
            grid=GRID,
            unit="states/eV",
            norm="cell",
            reference="Fermi level",
            simulated=True,
            provenance=Job(settings, "pull-dos").provenance(),
        ),
    )
    return DOS


def run_step(settings: Config) -> Path:
    """Pretrain the encoder; its file."""
    made = job(settings, "pretrain-encoder", *settings.scope_of("fold-1"))
    step.pretrain_encoder(settings, made)
    return made.outputs["encoder"]


def config(held_out: str) -> Config:
    return resolve(
        {
            "systems": "systems.tsv",
            "dos": {"held_out": held_out},
            "encoder": {"epochs": 1},
            "training": {"members": 1},
        },
        origin="test",
    )


def test_the_step_averages_a_composition_and_leaves_out_held_out_systems(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dos, given = write_table(config("keep")), {}
    real = fit.pretrain

    def spied(inputs: Inputs, values: np.ndarray, **settings: object) -> object:  # type: ignore[type-arg]
        given[len(given)] = inputs, values
        return real(inputs, values, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "pretrain", spied)
    with caplog.at_level(logging.INFO, logger="hclmp"):
        run_step(config("keep"))
        encoder = run_step(config("drop"))
    everything, kept = given[0][0].compositions, given[1][0].compositions
    table = read_dos(dos)
    assert len(everything) == len(set(table.formula)) < len(table)
    held_out = set(HELD_OUT.split("-"))
    supersets = [held_out <= set(system.split("-")) for system in everything.systems()]
    assert 0 < sum(supersets) == len(everything) - len(kept)
    assert not any(held_out <= set(system.split("-")) for system in kept.systems())
    assert f"{len(table)} DOS of {len(everything)} compositions" in caplog.text
    of_held_out = len(table) - int(re.findall(r"(\d+) DOS of", caplog.text)[-1])
    assert f"{of_held_out} DOS of held-out systems are left out" in caplog.text
    first = [i for i, formula in enumerate(table.formula) if formula == table.formula[0]]
    mean = DosScaler.fit(table.dos).scale(table.dos[first]).double().mean(dim=0)
    np.testing.assert_allclose(given[0][1][0], mean, rtol=1e-6)
    found = read_provenance(encoder)["config"]
    assert (found["held_out"], found["fold"], found["systems"]) == ("drop", "fold-1", [HELD_OUT])


def test_held_out_dos_have_no_influence_at_all() -> None:
    found = []
    for factor in (1, 50):
        table = read_dos(write_table(config("drop")))
        held_out = set(HELD_OUT.split("-"))
        hidden = [held_out <= set(re.findall("[A-Z][a-z]?", f)) for f in table.formula]
        assert 0 < sum(hidden) < len(hidden)
        dos = np.where(np.array(hidden)[:, None], factor * table.dos, table.dos)
        write_dos(DOS, replace(table, dos=dos))
        found.append(load_file(run_step(config("drop"))))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_one_encoder_must_fit_all_variants() -> None:
    base = {"systems": "systems.tsv", "training": {"members": 2}}
    for overrides, key in (
        ({"model": {"trunk": 16}}, r"model\.trunk"),
        ({"training": {"members": 3}}, r"training\.members"),
    ):
        variant = {"model": "hclmp", "transfer": True, "overrides": overrides}
        with pytest.raises(UserError, match=rf"variants\.other\.overrides\.{key}.*pretrained: f"):
            resolve({**base, "variants": {"other": variant}}, origin="test")
        without = {"other": {**variant, "pretrained": False}}
        assert not resolve({**base, "variants": without}, origin="test").pretrains_encoder
    none = resolve({**base, "encoder": {"epochs": 0}}, origin="test")
    assert not none.pretrains_encoder
    paper = {"model": "hclmp", "transfer": True, "preset": "paper"}
    mixed = resolve({**base, "variants": {"paper_t": paper, "hclmp_t": None}}, origin="test")
    assert not mixed.starts_pretrained("paper_t")
    assert mixed.starts_pretrained("hclmp_t")


def test_too_few_dos_are_refused() -> None:
    dos = write_table(config("keep"))
    Path("systems.tsv").write_text(
        "system\tfold\n" + "".join(f"{element}\tfold-1\n" for element in VOCABULARY)
    )
    with pytest.raises(UserError, match=r"dos\.parquet: none of 121 DOS is left"):
        run_step(config("drop"))
    table = read_dos(dos)
    few = slice(0, 5)
    ids, formulas = table.material_id[few], table.formula[few]
    write_dos(dos, replace(table, material_id=ids, formula=formulas, dos=table.dos[few]))
    with pytest.raises(UserError, match=r"5 of 5 DOS, of \d compositions, are left.*takes 10"):
        run_step(config("keep"))
    dos.unlink()
    with pytest.raises(UserError, match=r"dos\.parquet: no such file; `hclmp pull-dos` makes it"):
        run_step(config("keep"))


def test_training_without_it_says_what_makes_it() -> None:
    settings = config("keep")
    write_table(settings)
    made = job(settings, "train", "hclmp_t", "fold-1")
    for name in ("targets", "features"):  # neither is looked at: they come from nowhere
        made.inputs[name] = DOS
    message = r"encoder\.safetensors: no such file; `hclmp pretrain-encoder` makes it"
    with pytest.raises(UserError, match=message):
        train(settings, [made])
