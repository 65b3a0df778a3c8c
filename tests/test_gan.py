"""The generator of density of states: scaling, scores, training, saving."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hclmp.config import GanConfig
from hclmp.errors import UserError
from hclmp.models import gan_training
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.gan import DosScaler, Generator
from hclmp.models.gan_training import energy_score, train_generator
from hclmp.steps.pretrain_gan import _wasserstein
from hclmp.tables import EnergyGrid
from tests.synthetic import VOCABULARY, compositions

GRID = EnergyGrid(-2.0, 2.0, 21, "eV")
SETTINGS = GanConfig(
    generator_hidden=(32,), critic_hidden=(32,), epochs=100, batch_size=32, noise=4
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def synthetic_dos(n: int, *, seed: int = 0, heavy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Fractions and DOS: a peak whose place follows the composition, with some scatter."""
    fractions = compositions(n, seed=seed).dense()
    rng = np.random.default_rng(seed)
    centre = fractions @ np.linspace(-1.5, 1.5, len(VOCABULARY)) + 0.1 * rng.normal(size=n)
    dos = np.exp(-((GRID.energies() - centre[:, None]) ** 2) / 0.2)
    if heavy:  # a few materials with values of hundreds, as in the published data
        dos = dos * np.exp(rng.normal(size=(n, 1))) * np.where(rng.random((n, 1)) < 0.02, 100, 4)
    return fractions, dos.astype(np.float32)


def generator(scaler: DosScaler, seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return Generator(
        vocabulary=VOCABULARY,
        vectors=torch.randn(len(VOCABULARY), 3),
        seen=torch.ones(len(VOCABULARY)),
        noise=SETTINGS.noise,
        hidden=SETTINGS.generator_hidden,
        grid=GRID,
        scaler=scaler,
    )


def trained(
    *, heavy: bool = False, key: str = "test"
) -> tuple[Generator, tuple[torch.Tensor, torch.Tensor], list[dict[str, float]]]:
    """A generator trained on synthetic DOS, its training data, and the history."""
    fractions, dos = synthetic_dos(200, heavy=heavy)
    scaler = DosScaler.fit(dos)
    more, other = synthetic_dos(60, seed=1, heavy=heavy)
    model = generator(scaler)
    train = torch.from_numpy(fractions), scaler.scale(dos)
    history = train_generator(
        model,
        train=train,
        validation=(torch.from_numpy(more), scaler.scale(other)),
        settings=SETTINGS,
        checkpoint=Checkpoint(key),
    )
    return model, train, history


@pytest.mark.parametrize("heavy", [False, True])
def test_conditional_mean_beats_training_mean_and_median(heavy: bool) -> None:
    model, (_, known), _ = trained(heavy=heavy)
    fractions, dos = synthetic_dos(100, seed=2, heavy=heavy)
    truth = model.scaler.scale(dos)
    error = (model.feature(fractions, draws=50, seed=0) - truth).abs().mean()
    assert error < 0.8 * (known.mean(dim=0) - truth).abs().mean()
    assert error < 0.8 * (known.median(dim=0).values - truth).abs().mean()
    samples = model.samples(torch.from_numpy(fractions), draws=20, seed=0)
    in_states = model.scaler.unscale(samples)
    assert in_states.isfinite().all()
    assert in_states.min() >= 0
    assert in_states.max() <= 1.01 * model.scaler.unit * np.expm1(model.scaler.top)


def test_samples_vary_and_the_feature_is_their_mean() -> None:
    model, _, _ = trained()
    fractions = synthetic_dos(5)[0]
    samples = model.samples(torch.from_numpy(fractions), draws=30, seed=3)
    assert samples.std(dim=1).mean() > 1e-3
    torch.testing.assert_close(model.feature(fractions, draws=30, seed=3), samples.mean(dim=1))
    # a row does not depend on its batch
    alone = model.feature(fractions[2:3], draws=30, seed=3)
    torch.testing.assert_close(alone[0], samples[2].mean(dim=0), rtol=1e-4, atol=1e-5)


def test_the_best_epoch_is_kept() -> None:
    model, _, history = trained()
    fractions, dos = synthetic_dos(60, seed=1)
    score = gan_training._validate(model, torch.from_numpy(fractions), model.scaler.scale(dos))
    best = min(row["validation_energy_score"] for row in history)
    assert score["validation_energy_score"] == pytest.approx(best, rel=1e-5)
    assert [row["epoch"] for row in history] == list(range(1, SETTINGS.epochs + 1))


class _Killed(Exception):
    pass


def test_a_killed_training_resumes_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    trained(key="whole")[0].save("whole.safetensors", provenance={})
    real, epochs = gan_training._validate, []

    def dies(*args: torch.Tensor) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == 15:
            raise _Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(gan_training, "_validate", dies)
        with pytest.raises(_Killed):
            trained(key="killed")
    calls: list[int] = []
    monkeypatch.setattr(gan_training, "_validate", lambda *a: (calls.append(1), real(*a))[1])
    trained(key="killed")[0].save("resumed.safetensors", provenance={})
    assert len(calls) == SETTINGS.epochs - 14
    assert Path("resumed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


def test_save_load_equal() -> None:
    model, _, _ = trained()
    model.save("generator.safetensors", provenance={"step": "pretrain_gan"})
    loaded = Generator.from_file("generator.safetensors")
    fractions = synthetic_dos(7)[0]
    assert torch.equal(
        loaded.feature(fractions, draws=9, seed=1), model.feature(fractions, draws=9, seed=1)
    )
    assert loaded.grid == GRID
    assert loaded.vocabulary == VOCABULARY
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
