"""The generator of density of states: scaling, scores, training, saving."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hclmp.config import GanConfig
from hclmp.errors import UserError
from hclmp.models import recall
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.generator import training as gan_training
from hclmp.models.generator.network import DosScaler, Generator, Materials
from hclmp.models.generator.training import (
    best_epoch,
    energy_score,
    refit_generator,
    train_generator,
)
from hclmp.models.recall import is_superset_of
from hclmp.pipeline.steps.pretrain_gan import _spread_to_residual, _wasserstein
from tests.made_up.synthetic import GRID, VOCABULARY, synthetic_dos

SETTINGS = GanConfig(
    generator_hidden=(32,),
    critic_hidden=(32,),
    critic_steps=2,
    epochs=10,
    batch_size=32,
    noise=4,
)
PLAIN = SETTINGS.model_copy(update={"memory": 0, "epochs": 40})
NO_CRITIC = SETTINGS.model_copy(update={"critic_steps": 0})


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def generator(scaler: DosScaler, *, recalls: bool = True) -> Generator:
    torch.manual_seed(0)
    return Generator(
        vocabulary=VOCABULARY,
        vectors=torch.randn(len(VOCABULARY), 3),
        seen=torch.ones(len(VOCABULARY)),
        noise=SETTINGS.noise,
        hidden=SETTINGS.generator_hidden,
        grid=GRID,
        scaler=scaler,
        recalls=recalls,
    )


def parts(heavy: bool = False) -> tuple[DosScaler, Materials, Materials]:
    """A scaler, and training and validation materials of other compositions."""
    fractions, dos = synthetic_dos(200, heavy=heavy)
    more, other = synthetic_dos(60, seed=1, heavy=heavy)
    scaler = DosScaler.fit(dos)
    train = Materials(torch.from_numpy(fractions), scaler.scale(dos))
    return scaler, train, Materials(torch.from_numpy(more), scaler.scale(other))


def trained(
    *, heavy: bool = False, settings: GanConfig = SETTINGS, key: str = "test"
) -> tuple[Generator, Materials, list[dict[str, float]]]:
    """A generator trained on synthetic DOS, its training data, and the history."""
    scaler, train, validation = parts(heavy)
    model = generator(scaler, recalls=settings.memory > 0)
    history = train_generator(
        model,
        train=train,
        validation=validation,
        settings=settings,
        checkpoint=Checkpoint(key, "selection"),
    )
    return model, train, history


def refitted(key: str = "refit") -> tuple[Generator, Materials, list[dict[str, float]]]:
    """A generator trained for seven epochs of the same schedule."""
    scaler, train, _ = parts()
    model = generator(scaler)
    history = refit_generator(
        model, train=train, epochs=7, settings=SETTINGS, checkpoint=Checkpoint(key, "selection")
    )
    return model, train, history


@pytest.mark.parametrize(
    "settings", [SETTINGS, PLAIN, NO_CRITIC], ids=["recalling", "plain", "no_critic"]
)
@pytest.mark.parametrize("heavy", [False, True])
def test_conditional_mean_beats_training_mean_and_median(heavy: bool, settings: GanConfig) -> None:
    model, (_, known), history = trained(heavy=heavy, settings=settings)
    assert all(np.isfinite(list(row.values())).all() for row in history)
    fractions, dos = synthetic_dos(100, seed=2, heavy=heavy)
    truth = model.scaler.scale(dos)
    error = (model.feature(fractions, draws=50, seed=0).dos - truth).abs().mean()
    assert error < 0.8 * (known.mean(dim=0) - truth).abs().mean()
    assert error < 0.8 * (known.median(dim=0).values - truth).abs().mean()
    samples = model.samples(torch.from_numpy(fractions), draws=20, seed=0)
    in_states = model.scaler.unscale(samples)
    assert in_states.isfinite().all()
    assert in_states.min() >= 0
    assert in_states.max() <= 1.01 * model.scaler.unit * np.expm1(model.scaler.top)
    in_states_of_known = model.scaler.unscale(known).mean(dim=0).numpy()
    error_in_states = np.abs(in_states.mean(dim=1).numpy() - dos).mean()
    assert error_in_states < 0.9 * np.abs(in_states_of_known - dos).mean()


def test_without_a_critic_none_is_trained() -> None:
    _, _, history = trained(settings=NO_CRITIC)
    assert "critic_loss" not in history[0]
    with pytest.raises(ValueError, match="the generator would learn nothing"):
        GanConfig(critic_steps=0, mean_weight=0)


@pytest.mark.parametrize("narrower", [1.0, 4.0])
def test_the_spread_of_true_draws_is_their_residual(narrower: float) -> None:
    drawn = torch.Generator().manual_seed(0)
    means = torch.randn(500, 7, generator=drawn)
    truth = means + torch.randn(500, 7, generator=drawn)
    samples = means[:, None] + torch.randn(500, 200, 7, generator=drawn) / narrower
    assert _spread_to_residual(samples, truth) == pytest.approx(1 / narrower, rel=0.03)


def test_samples_vary_and_the_feature_is_their_mean() -> None:
    model, _, _ = trained()
    fractions = synthetic_dos(300, seed=5)[0]  # more than are recalled at once
    samples = model.samples(torch.from_numpy(fractions), draws=30, seed=3)
    assert samples.std(dim=1).mean() > 1e-3
    feature = model.feature(fractions, draws=30, seed=3).dos
    torch.testing.assert_close(feature, samples.mean(dim=1))
    # a row does not depend on its batch
    alone = model.feature(fractions[270:271], draws=30, seed=3).dos
    torch.testing.assert_close(alone[0], feature[270], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("recalls", [True, False])
@torch.no_grad()
def test_samples_are_what_the_network_says_of_each_noise(recalls: bool) -> None:
    scaler, (fractions, dos), _ = parts()
    model = generator(scaler, recalls=recalls)
    if recalls:
        model.memory = Materials(fractions, dos)
    queries = torch.from_numpy(synthetic_dos(5, seed=8)[0])
    samples = model.samples(queries, draws=4, seed=2, hide_own_system=True)
    noise = torch.randn(4, model.noise, generator=torch.Generator().manual_seed(2))
    found = model._recalled(queries, hide_own_system=True)
    for i, row in enumerate(model.condition(queries)):
        recalled = None if found is None else found.dos[i].expand(4, -1)
        wanted = model(row.expand(4, -1), noise, recalled)
        torch.testing.assert_close(samples[i], wanted, rtol=1e-5, atol=1e-5)


def test_what_was_seen_is_recalled_and_not_generated() -> None:
    model, (fractions, dos), _ = trained()
    # fractions are 32-bit numbers, which differ in the last digits between FeTi2 and Fe2Ti4
    again = (fractions * (1 + 1e-7)).numpy()
    recalled = model.feature(again, draws=5, seed=0).dos
    several = (
        torch.cdist(fractions.double(), fractions.double()) < 1e-6
    )  # single elements are there many times
    wanted = several.float() @ dos / several.sum(dim=1, keepdim=True)
    torch.testing.assert_close(recalled, wanted, rtol=1e-5, atol=1e-5)
    hidden = model.feature(again, draws=5, seed=0, hide_own_system=True).dos
    assert (hidden - dos).abs().mean() > 0.1
    elsewhere = 0.9 * again + 0.1 * again.mean(axis=0)
    assert model.samples(torch.from_numpy(elsewhere), draws=5, seed=0).std(dim=1).min() > 0


def test_a_hidden_system_does_not_enter() -> None:
    model, (fractions, _), _ = trained()
    before = [model.feature(fractions[7:8].numpy(), **_how(hide)).dos for hide in (True, False)]
    own = is_superset_of(fractions[7:8], fractions)[0]
    assert 1 < own.sum() < len(own)
    model.memory.dos[own] = 1000.0
    after = [model.feature(fractions[7:8].numpy(), **_how(hide)).dos for hide in (True, False)]
    assert torch.equal(after[0], before[0])
    assert (after[1] > 900).all()
    model.memory.dos[~own] += 1.0
    moved = model.feature(fractions[7:8].numpy(), **_how(True)).dos
    assert (moved - before[0]).abs().mean() > 0.3


def _how(hide: bool) -> dict[str, Any]:
    return {"draws": 3, "seed": 0, "hide_own_system": hide}


def test_in_training_a_material_recalls_other_systems_alone() -> None:
    _, (fractions, dos), _ = trained()
    model = generator(DosScaler.fit(synthetic_dos(20)[1]))
    x, rows = model.condition(fractions), torch.randperm(len(fractions))

    def recalled(values: torch.Tensor) -> torch.Tensor:
        found = gan_training._recalled(model, Materials(fractions, values), x, rows, queries=1)
        assert found is not None
        return found

    own = is_superset_of(fractions[rows[:1]], fractions)[0]
    own_changed, others_changed = dos.clone(), dos.clone()
    own_changed[own] = 50.0
    others_changed[~own] = 50.0
    torch.testing.assert_close(recalled(own_changed), recalled(dos))
    torch.testing.assert_close(recalled(others_changed), torch.full((1, GRID.n), 50.0))
    recalled(dos).square().sum().backward()
    assert model.key[0].weight.grad.abs().max() > 0  # keys learn, those of the memory too


def test_others_hold_a_system_where_they_have_all_of_its_elements() -> None:
    mixed = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    wanted = [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 1]]
    assert is_superset_of(mixed, mixed).int().tolist() == wanted


def test_of_a_large_table_all_is_known_and_a_part_is_recalled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recall, "MOST_REMEMBERED", 30)
    made = generator(DosScaler.fit(synthetic_dos(20)[1]))
    dos = torch.arange(61.0)[:, None].expand(61, GRID.n).contiguous()
    fractions = torch.rand(61, len(VOCABULARY), generator=torch.Generator().manual_seed(0))
    made.memory = Materials(fractions, dos)
    made.save(tmp_path / "generator.safetensors", provenance={})
    model = Generator.from_file(tmp_path / "generator.safetensors")
    feature = model.feature(fractions.numpy(), draws=3, seed=0)
    assert feature.known.all()
    assert torch.equal(feature.dos, dos)
    other = 0.5 * fractions[:5] + 0.5 * fractions[5:10]
    recalled = model._recalled(other, hide_own_system=False)
    assert recalled is not None
    assert not recalled.known.any()
    kept = recall.remembered_rows(61)
    assert len(kept) == 30
    keys, near = model._keys(fractions[kept]), model._keys(other)
    wanted = model.attend(near, keys, dos[kept].double(), None)
    torch.testing.assert_close(recalled.dos, wanted.float())


def test_the_best_epoch_is_kept() -> None:
    model, _, history = trained()
    fractions, dos = synthetic_dos(60, seed=1)
    validation = Materials(torch.from_numpy(fractions), model.scaler.scale(dos))
    score = gan_training._validate(model, validation)
    best = min(row["validation_energy_score"] for row in history)
    assert score["validation_energy_score"] == pytest.approx(best, rel=1e-5)
    assert [row["epoch"] for row in history] == list(range(1, SETTINGS.epochs + 1))
    assert history[best_epoch(history) - 1]["validation_energy_score"] == best


def test_an_epoch_that_diverged_is_not_the_best() -> None:
    scores = [float("nan"), 0.5, 0.3, float("inf"), 0.3]
    rows = [{"epoch": i, "validation_energy_score": s} for i, s in enumerate(scores, start=1)]
    assert best_epoch(rows) == 3


def test_the_refit_follows_the_same_schedule_and_takes_the_last_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    real = gan_training._set_rate
    monkeypatch.setattr(gan_training, "_set_rate", lambda o, r: (rates.append(r), real(o, r))[1])
    trained()
    _, _, history = refitted()
    assert rates[SETTINGS.epochs :] == rates[:7]
    assert [row["epoch"] for row in history] == list(range(1, 8))
    with monkeypatch.context() as patch:
        patch.setattr(gan_training, "_generator_step", _spoil)
        with pytest.raises(UserError, match="diverged"):
            refitted("spoilt")


def _spoil(model: Generator, *_: object) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        model.log_sharpness.fill_(float("nan"))
    return {"mean_error": torch.zeros(())}


class _Killed(Exception):
    pass


@pytest.mark.parametrize(("train", "epochs"), [(trained, SETTINGS.epochs), (refitted, 7)])
def test_a_killed_training_resumes_to_the_same_bytes(
    train: Callable[..., tuple[Generator, Any, Any]], epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(key="whole")[0].save("whole.safetensors", provenance={})
    real, calls = gan_training._epoch, []

    def counted(*args: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 5:
            raise _Killed
        return real(*args)

    monkeypatch.setattr(gan_training, "_epoch", counted)
    with pytest.raises(_Killed):
        train(key="killed")
    train(key="killed")[0].save("resumed.safetensors", provenance={})
    assert len(calls) == epochs + 1
    assert Path("resumed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings", [SETTINGS, PLAIN, NO_CRITIC], ids=["recalling", "plain", "no_critic"]
)
def test_save_load_equal(settings: GanConfig) -> None:
    model, _, _ = trained(settings=settings.model_copy(update={"epochs": 2}))
    model.save("generator.safetensors", provenance={"step": "pretrain_gan"})
    loaded = Generator.from_file("generator.safetensors")
    fractions = np.concatenate([synthetic_dos(7)[0], synthetic_dos(7, seed=8)[0]])
    for hide in (True, False):
        how = _how(hide)
        assert torch.equal(
            loaded.feature(fractions, **how).dos, model.feature(fractions, **how).dos
        )
    assert loaded.grid == GRID
    assert loaded.vocabulary == VOCABULARY
    assert (loaded.memory is None) == (settings is PLAIN)
    Path("other.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(UserError, match=r"other\.safetensors: not a generator"):
        Generator.from_file("other.safetensors")


def test_unseen_elements_enter_by_their_vector_alone() -> None:
    scaler = DosScaler.fit(synthetic_dos(20)[1])
    model = generator(scaler)
    model.seen[0] = 0
    condition = model.condition(torch.eye(len(VOCABULARY)))
    assert (condition[0, : len(VOCABULARY)] == 0).all()
    torch.testing.assert_close(condition[0, len(VOCABULARY) :], model.vectors[0])
    assert condition[1, 1] == 1


@pytest.mark.parametrize("heavy", [False, True])
def test_scaler_round_trip_and_statistics(heavy: bool) -> None:
    dos = synthetic_dos(100, heavy=heavy)[1]
    dos[:, 0] = 0.0  # an energy without states in any material
    scaler = DosScaler.fit(dos)
    scaled = scaler.scale(dos)
    np.testing.assert_allclose(scaler.unscale(scaled).numpy(), dos, rtol=1e-3, atol=1e-3)
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled[:, 5:16].std(dim=0), torch.ones(11), rtol=0.02, atol=0)
    assert (scaled[:, 0] == 0).all()


def test_energy_score_by_hand_and_proper() -> None:
    truth = torch.zeros(1, 4)
    two = torch.stack([torch.ones(4), -torch.ones(4)])[None]
    # E|X - y| = 2, E|X - X'| = 4 over the one pair, both per sqrt(4)
    assert float(energy_score(two, truth)) == pytest.approx((2 - 4 / 2) / 2)
    torch.manual_seed(0)
    truth = torch.randn(400, 3)
    right, narrow, shifted = torch.randn(3, 400, 60, 3)
    scores = [
        float(energy_score(samples, truth).mean())
        for samples in (right, 0.2 * narrow, shifted + 0.7)
    ]
    assert scores[0] < min(scores[1:])


def test_wasserstein_along_the_energy_axis_by_hand() -> None:
    truth, shifted = np.zeros((2, 1, 21))
    truth[0, 5], shifted[0, 8] = 3.0, 7.0  # areas do not matter: three steps of 0.2 eV apart
    assert _wasserstein(shifted, truth, GRID) == pytest.approx(0.6)
    assert _wasserstein(truth, truth, GRID) == 0
    assert _wasserstein(np.zeros_like(truth), truth, GRID) is None, "no shape to compare"
