"""A fitted H-CLMP: scalers, saving and loading, resuming, uncertainty."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from scipy.stats import t as student

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Labelled
from hclmp.errors import UserError
from hclmp.models import checkpoint as checkpoints
from hclmp.models.calibration import Calibration
from hclmp.models.hclmp import training as loop
from hclmp.models.hclmp.ensemble import Ensemble
from hclmp.models.interface import Prediction
from hclmp.models.scaling import Scaler
from hclmp.tensors import read_tensors, write_tensors
from tests.made_up.synthetic import fit_one, inputs, labelled

JOULE = 2.0**-62  # of an electronvolt, nearly: a power of 2, which changes no digit
SMALL = ModelConfig(message_hidden=16, latent=8, property_size=16, token_size=16)
FEW_EPOCHS = TrainingConfig(epochs=4, batch_size=16, members=2)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fitted(
    training: TrainingConfig = FEW_EPOCHS,
    *,
    dos: int | None = None,
    properties: int = 3,
    changes: dict[str, Any] | None = None,
) -> tuple[Ensemble, list[dict[str, Any]]]:
    return fit_one(
        labelled(60, dos=dos, properties=properties),
        labelled(20, dos=dos, properties=properties, seed=1),
        model=SMALL.model_copy(update=changes or {}),
        training=training,
        key={"training": training.model_dump(mode="json"), "dos": dos, "changes": changes},
    )


@pytest.mark.parametrize("changes", [{}, {"token_noise": "drawn"}, {"memory": 0}], ids=str)
@pytest.mark.parametrize("dos", [None, 11])
@pytest.mark.parametrize("properties", [1, 3])
def test_save_load_predict_equal(changes: dict[str, Any], dos: int | None, properties: int) -> None:
    model, _ = fitted(dos=dos, properties=properties, changes=changes)
    model.save("model.safetensors", provenance={"step": "train"})
    loaded = Ensemble.from_file("model.safetensors")
    given = inputs(25, dos=dos, seed=2)
    for name, value in vars(model.predict(given)).items():
        np.testing.assert_array_equal(getattr(loaded.predict(given), name), value, err_msg=name)
    assert loaded.vocabulary == given.compositions.vocabulary


def test_what_is_no_model_is_refused_by_name() -> None:
    Path("model.safetensors").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model\.safetensors: not a model"):
        Ensemble.from_file("model.safetensors")
    with pytest.raises(UserError, match="no such file"):
        Ensemble.from_file("other.safetensors")


def test_a_model_without_its_calibration_is_refused_by_name() -> None:
    ensemble, _ = fitted()
    ensemble.save("model.safetensors", provenance={})
    with read_tensors("model.safetensors", what="", remedy="") as (header, tensors):
        kept = {name: tensor for name, tensor in tensors.items() if "calibration" not in name}
    write_tensors("model.safetensors", kept, header)
    with pytest.raises(UserError, match=r"model\.safetensors: not a model.*hclmp train"):
        Ensemble.from_file("model.safetensors")


def test_same_seed_same_bytes_other_seed_other_model() -> None:
    paths = []
    for i, seed in enumerate([0, 0, 1]):
        model, _ = fitted(TrainingConfig(epochs=2, batch_size=16, seed=seed))
        paths.append(Path(f"{i}.safetensors"))
        model.save(paths[-1], provenance={})
    first, again, other = (p.read_bytes() for p in paths)
    assert first == again
    assert first != other


def test_scalers_see_training_rows_only() -> None:
    train, validation = labelled(60, dos=11), labelled(20, dos=11, seed=1)
    far = Labelled(validation.inputs, validation.t + 1000)
    model, _ = fit_one(
        train, far, model=SMALL, training=TrainingConfig(epochs=1), key={"far": True}
    )
    assert train.inputs.dos is not None
    np.testing.assert_allclose(model.scalers.labels.mean, train.t.mean(axis=0))
    np.testing.assert_allclose(model.scalers.labels.std, train.t.std(axis=0))
    assert model.scalers.dos is not None
    np.testing.assert_allclose(model.scalers.dos.mean, train.inputs.dos.mean(axis=0), atol=1e-6)


class _Killed(Exception):
    pass


def test_a_killed_training_resumes_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, history = fitted()
    whole.save("whole.safetensors", provenance={})
    real, epochs = loop.validation_errors, []

    def dies_in_the_third_epoch(*args: Any) -> list[float]:
        epochs.append(1)
        if len(epochs) == 3:
            raise _Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "validation_errors", dies_in_the_third_epoch)
        with pytest.raises(_Killed):
            fitted()
    torch.manual_seed(12345)  # a new process has another random state
    calls: list[int] = []
    monkeypatch.setattr(loop, "validation_errors", lambda *a: (calls.append(1), real(*a))[1])
    resumed, resumed_history = fitted()
    resumed.save("resumed.safetensors", provenance={})
    assert len(calls) == 2, "only the epochs that were not finished are trained"
    assert resumed_history == history
    assert Path("resumed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert not list(checkpoints.FOLDER.glob("*")), "checkpoints are removed on success"


def test_a_training_killed_in_the_refit_resumes_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, history = fitted()
    assert [row["stage"] for row in history if row["member"] == 0] == [
        *["selection"] * FEW_EPOCHS.epochs,
        *["refit"] * FEW_EPOCHS.refit_epochs,
    ]
    whole.save("whole.safetensors", provenance={})
    real, epochs = loop._epoch, []

    def dies_in_the_second_of_the_refit(*args: Any) -> Any:
        epochs.append(1)
        if len(epochs) == FEW_EPOCHS.epochs + 2:
            raise _Killed
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_epoch", dies_in_the_second_of_the_refit)
        with pytest.raises(_Killed):
            fitted()
    torch.manual_seed(12345)  # a new process has another random state
    before = len(epochs)
    monkeypatch.setattr(loop, "_epoch", lambda *a: (epochs.append(1), real(*a))[1])
    resumed, resumed_history = fitted()
    resumed.save("resumed.safetensors", provenance={})
    assert len(epochs) - before == FEW_EPOCHS.refit_epochs - 1
    assert resumed_history == history
    assert Path("resumed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert not list(checkpoints.FOLDER.glob("*")), "checkpoints are removed on success"


def test_the_refit_learns_from_the_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = loop._epoch

    def counted(*args: Any) -> Any:
        seen.append(args[3].counts)
        return real(*args)

    monkeypatch.setattr(loop, "_epoch", counted)
    fitted()
    assert seen == [(60,)] * FEW_EPOCHS.epochs + [(80,)] * FEW_EPOCHS.refit_epochs


def test_another_configuration_finds_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    args = (labelled(60), labelled(20, seed=1))
    kwargs: dict[str, Any] = {"model": SMALL, "training": TrainingConfig(epochs=2)}
    fit_one(*args, **kwargs, key={"learning_rate": 1}, keep=True)
    calls: list[int] = []
    real = loop.validation_errors
    monkeypatch.setattr(loop, "validation_errors", lambda *a: (calls.append(1), real(*a))[1])
    fit_one(*args, **kwargs, key={"learning_rate": 2})
    assert len(calls) == 2
    fit_one(*args, **kwargs, key={"learning_rate": 1})
    assert len(calls) == 2, "a finished training is not repeated"


def test_a_checkpoint_cut_short_is_not_used() -> None:
    whole, history = fitted()
    fit_one(
        labelled(60),
        labelled(20, seed=1),
        model=SMALL,
        training=FEW_EPOCHS,
        key={"training": FEW_EPOCHS.model_dump(mode="json"), "dos": None, "changes": None},
        keep=True,
    )
    used = list(checkpoints.FOLDER.rglob("*.safetensors"))
    assert len(used) == 2
    for path in used:
        path.write_bytes(path.read_bytes()[:100])
    again, history_again = fitted()
    assert history_again == history
    np.testing.assert_array_equal(again.predict(inputs(5)).mean, whole.predict(inputs(5)).mean)


def test_the_best_epoch_by_validation_is_kept_of_each_member() -> None:
    model, history = fitted(
        TrainingConfig(
            epochs=16,
            batch_size=8,
            learning_rate=0.05,
            schedule="halve",
            members=3,
            refit_epochs=0,
        )
    )
    errors = [[r["validation_mae"] for r in history if r["member"] == i] for i in range(3)]
    best = [int(np.argmin(member)) for member in errors]
    assert len(set(best)) > 1, "these members are meant to have different best epochs"
    assert any(epoch < 15 for epoch in best), "this training is meant to get worse again"
    train = labelled(60)  # recalled alone while the best epoch is chosen
    model.network.remember(model.scalers.table(train))
    kept = loop.validation_errors(model.network, model.scalers.table(labelled(20, seed=1)))
    assert kept == pytest.approx([min(member) for member in errors], rel=1e-4)


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(UserError, match="diverged"):
        fitted(TrainingConfig(epochs=1, batch_size=8, learning_rate=1e30))


def test_it_learns_more_than_the_mean() -> None:
    model, _ = fitted(TrainingConfig(epochs=60, batch_size=8))
    test = labelled(100, seed=3)
    error = np.abs(model.predict(test.inputs).mean - test.t).mean()
    assert error < 0.6 * np.abs(labelled(60).t.mean(axis=0) - test.t).mean()


def test_uncertainty_of_members_and_of_residuals() -> None:
    given = inputs(25, seed=2)
    pair = fitted(TrainingConfig(epochs=3, members=2))[0].predict(given)
    single = fitted(TrainingConfig(epochs=3, members=1))[0].predict(given)
    assert (pair.std_epistemic > 0).all()
    assert (single.std_epistemic == 0).all()
    assert (single.std_aleatoric > 0).all()
    assert single.covariance is not None
    typical = np.sqrt(np.diag(single.covariance))
    assert (single.std_aleatoric.min(axis=0) <= 1.5 * typical).all()
    assert (single.std_aleatoric.max(axis=0) >= 0.67 * typical).all()
    np.linalg.cholesky(single.covariance)  # positive definite


def test_the_correlation_of_the_scatter_is_learned() -> None:
    """Labels with a scatter that two properties share and a third does not."""
    rng = np.random.default_rng(0)
    data = [labelled(400), labelled(100, seed=1)]
    noisy = []
    for part in data:
        shared, own, third = rng.normal(size=(3, len(part)))
        scatter = np.stack([shared, 0.95 * shared + 0.3 * own, third], axis=1)
        noisy.append(Labelled(part.inputs, part.t + 3 * scatter))
    training = TrainingConfig(epochs=25, batch_size=16, members=1)
    few = SMALL.model_copy(update={"memory": 64})
    model, _ = fit_one(*noisy, model=few, training=training, key={})
    covariance = model.calibration.covariance()
    std = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(std, std)
    assert correlation[0, 1] > 0.8
    assert np.abs(correlation[:2, 2]).max() < 0.35


def test_joint_samples_have_the_spread_of_the_row_and_the_correlation_of_the_model() -> None:
    covariance = np.array([[4.0, 1.8, 0.0], [1.8, 1.0, 0.0], [0.0, 0.0, 9.0]])
    mean, apart = (
        np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]),
        np.array([[3.0, 4.0, 0.0], [1, 1, 1]]),
    )
    aleatoric = np.array([[4.0, 3.0, 2.0], [1.0, 1.0, 1.0]])
    drawn = Prediction(mean, aleatoric, apart, covariance).samples(40_000, seed=1)
    assert drawn.shape == (2, 40_000, 3)
    np.testing.assert_allclose(drawn.mean(axis=1), mean, atol=0.1)
    np.testing.assert_allclose(drawn[0].std(axis=0), [5, 5, 2], rtol=0.02)
    for row in drawn:
        correlation = np.corrcoef(row.T)
        assert correlation[0, 1] == pytest.approx(0.9, abs=0.01)
        assert abs(correlation[0, 2]) < 0.02
    alone = Prediction(mean[1:], aleatoric[1:], apart[1:], covariance).samples(40_000, seed=1)
    np.testing.assert_array_equal(alone[0], drawn[1])
    independent = Prediction(mean, aleatoric, apart).samples(40_000, seed=1)
    assert abs(np.corrcoef(independent[0].T)[0, 1]) < 0.02
    fixed = Prediction(mean, aleatoric, apart, np.ones((3, 3))).samples(100, seed=1)[1]
    np.testing.assert_allclose(fixed, fixed[:, :1] * np.ones(3), atol=1e-6)


def test_joint_samples_of_a_trained_model_follow_its_covariance() -> None:
    model, _ = fitted(TrainingConfig(epochs=3, members=2))
    predicted = model.predict(inputs(4))
    assert predicted.covariance is not None
    typical = np.sqrt(np.diag(predicted.covariance))
    drawn = predicted.samples(50_000, seed=0)
    expected = predicted.covariance / np.outer(typical, typical)
    np.testing.assert_allclose(np.corrcoef(drawn[2].T), expected, atol=0.03)


def test_calibration_finds_the_variance_that_made_the_residuals() -> None:
    rng = np.random.default_rng(0)
    spread, apart = rng.uniform(0.1, 2.0, size=(2, 20_000, 1))
    new = np.where(rng.random((20_000, 2)) < 0.3, rng.random((20_000, 2)), 0.0)
    variance = 0.3 + 2.0 * spread**2 + 0.5 * apart**2 + new @ [[5.0], [1.0]]
    residuals = rng.normal(size=variance.shape) * np.sqrt(variance)
    found = Calibration.fit(
        residuals,
        spread,
        apart,
        new,
        unmeasured=np.ones(1),
        weights=np.ones_like(residuals),
        learned=np.ones((1, 1)),
    )
    aleatoric, epistemic = found.stds(spread, apart, new)
    np.testing.assert_allclose(np.hypot(aleatoric, epistemic), np.sqrt(variance), rtol=0.08)
    assert found.spread_weight[0] == pytest.approx(2.0, rel=0.15)
    assert found.novelty_weight[:, 0] == pytest.approx([5.0, 1.0], rel=0.3)
    assert found.typical[0] == pytest.approx(np.sqrt((aleatoric**2).mean()), rel=1e-6)


def test_calibration_without_spread_or_labels() -> None:
    residuals = np.array([[3.0, np.nan, 0.0], [-3.0, np.nan, 0.0], [np.nan, np.nan, 0.0]])
    zero = np.zeros_like(residuals)  # weights of 1 also where a label is missing
    learned = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 9.0]])
    found = Calibration.fit(
        residuals,
        zero,
        zero,
        zero[:, :2],
        unmeasured=np.array([1.0, 7.0, 2e6]),
        weights=zero + 1,
        learned=learned,
    )
    widened = 3.0 * student.ppf(0.95, 2) / norm.ppf(0.95)  # two residuals tell little
    aleatoric, epistemic = found.stds(zero, zero, zero[:, :2])
    np.testing.assert_allclose(aleatoric[0], [widened, 7.0, 2.0], rtol=1e-4)
    assert (epistemic == 0).all()
    # Nobody knows how large errors are with a new element: as large as the labels differ.
    half_new = np.array([[0.5, 0.0]])
    epistemic = found.stds(zero[:1], zero[:1], half_new)[1]
    np.testing.assert_allclose(epistemic[0], np.sqrt(0.5) * np.array([1.0, 7.0, 2e6]))
    # no row has all three labels: what was learned is all there is
    np.testing.assert_allclose(found.correlation, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("rows", [1, 3, 10, 40])
def test_intervals_from_few_rows_are_wide_enough(rows: int) -> None:
    """Residuals that neither spread nor disagreement tells anything of, again and again."""
    rng = np.random.default_rng(0)
    unit = np.ones(1)
    inside, surprise = [], []
    for _ in range(150):
        size = (rows + 200, 1)
        residuals, spread, apart = (
            rng.normal(size=size),
            rng.uniform(0.3, 1.5, size),
            rng.random(size),
        )
        found = Calibration.fit(
            residuals[:rows],
            spread[:rows],
            apart[:rows],
            np.zeros((rows, 2)),
            unmeasured=unit,
            weights=np.ones((rows, 1)),
            learned=np.ones((1, 1)),
        )
        std = np.hypot(*found.stds(spread[rows:], apart[rows:], np.zeros((200, 2))))
        inside.append(np.abs(residuals[rows:]) <= norm.ppf(0.95) * std)
        surprise.append(-norm.logpdf(residuals[rows:], scale=std).mean())
    assert 0.87 <= np.mean(inside) <= 0.93
    best = 0.5 * np.log(2 * np.pi * np.e)
    assert np.median(surprise) <= best + 2.0 / rows


def test_correlation_of_validation_residuals_outweighs_what_was_learned() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 4]], size=5000)
    zero = np.zeros_like(residuals)
    learned = np.array([[1.0, -0.9], [-0.9, 1.0]])
    found = Calibration.fit(
        residuals, zero, zero, zero, unmeasured=np.ones(2), weights=zero + 1, learned=learned
    )
    assert found.correlation[0, 1] == pytest.approx(0.3, abs=0.04)
    np.testing.assert_allclose(np.diag(found.covariance()), [1, 4], rtol=0.1)


def test_the_correlation_is_that_of_residuals_over_their_standard_deviations() -> None:
    """Rows of very different uncertainty: the largest residuals alone would tell little."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        z = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=300)
        spread = np.exp(1.5 * rng.normal(size=(300, 1))) * np.ones(2)
        fitted = Calibration.fit(
            z * spread,
            spread,
            np.zeros_like(z),
            np.zeros_like(z),
            unmeasured=np.ones(2),
            weights=np.ones_like(z),
            learned=np.array([[1.0, 0.6], [0.6, 1.0]]),
        )
        found.append(fitted.correlation[0, 1])
    assert np.mean(found) == pytest.approx(0.6, abs=0.03)
    assert np.std(found) < 0.06  # 0.037 of 300 equal rows


def test_the_unit_of_a_property_is_nothing_to_the_model() -> None:
    """Joule instead of electronvolt: numbers of 1e-19 are not taken for constant."""
    parts = [labelled(60), labelled(20, seed=1)]
    joule = [replace(part, t=part.t * JOULE) for part in parts]
    few = TrainingConfig(epochs=3, members=2)
    found, expected = (
        fit_one(*each, model=SMALL, training=few, key={})[0].predict(inputs(10, seed=2))
        for each in (joule, parts)
    )
    for name in ("mean", "std_aleatoric", "std_epistemic"):
        np.testing.assert_allclose(getattr(found, name) / JOULE, getattr(expected, name), rtol=1e-3)


def test_scaler_round_trip_and_constant_columns() -> None:
    values = np.array([[1.0, 0.1, 2.0], [3.0, 0.1, 2.0], [8.0, 0.1, 5.0]])
    scaler = Scaler.fit(values)
    scaled = scaler.scale(values)
    np.testing.assert_allclose(scaler.unscale(scaled), values)
    np.testing.assert_allclose(scaled[:, [0, 2]].std(axis=0), 1)
    np.testing.assert_allclose(scaled[:, 1], 0, atol=1e-12)
