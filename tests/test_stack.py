"""Folds that train as one model are what they are alone."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Labelled
from hclmp.models import checkpoint as checkpoints
from hclmp.models.checkpoint import Checkpoints, History
from hclmp.models.hclmp import training as loop
from hclmp.models.hclmp.batch import Table, pad_rows
from hclmp.models.hclmp.ensemble import Ensemble, Scalers
from hclmp.models.hclmp.fit import fit_hclmp
from hclmp.models.hclmp.layers import Draws, stack_members, take_members
from hclmp.models.hclmp.training import steps_of
from hclmp.models.interface import Part
from tests.made_up.synthetic import fit_one, inputs, labelled

SMALL = ModelConfig(message_hidden=8, latent=8, property_size=16, token_size=16, trunk=16)
FEW_EPOCHS = TrainingConfig(epochs=3, batch_size=32, members=2, refit_epochs=1)
# 66 and 67 rows have the same steps, 90 have others; in the refit none agree
SIZES = ((66, 20), (90, 20), (67, 20))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parts(*, dos: int | None = None, missing: bool = True) -> list[Part]:
    """Folds of different data, with validation tables of different lengths."""
    made = []
    for i, (rows, held_out) in enumerate(SIZES):
        train, validation = (
            labelled(rows, dos=dos, seed=10 + i),
            labelled(held_out + i, dos=dos, seed=20 + i),
        )
        if missing and i == 2:
            train.t[3, 1] = validation.t[2, 0] = np.nan
        made.append(Part(train, validation, {"fold": i, "dos": dos, "missing": missing}))
    return made


def together(
    folds: list[Part], training: TrainingConfig = FEW_EPOCHS, model: ModelConfig = SMALL
) -> list[tuple[Ensemble, History]]:
    with Checkpoints() as checkpoints:
        return fit_hclmp(folds, model=model, training=training, checkpoints=checkpoints)


def test_tables_of_nearly_as_many_rows_have_the_same_steps() -> None:
    def steps(n: int) -> tuple[int, ...]:
        return steps_of(n, batch_size=1024, memory=2048)

    assert steps(4100) == steps(4200) == (4, 1088, 2048)
    assert steps(978) == steps(985) == (4, 248, 960)
    assert len({steps(n) for n in range(2000, 4001)}) == 17
    for n in [*range(1, 300), 1000, 1023, 1024, 5000, 300_000]:
        for memory in (0, 64, 2048):
            for batch_size in (1, 16, 1024):
                count, queries, recalled = steps_of(n, batch_size=batch_size, memory=memory)
                assert count * queries >= n, "each row is predicted"
                assert count * queries <= n * 17 / 16 + count, "few are predicted twice"
                assert queries <= recalled <= n, "no row stands twice in a step"
                assert recalled >= min(memory, n * 16 / 17)


@pytest.mark.parametrize(
    ("dos", "changes"),
    [(None, {}), (11, {}), (11, {"memory": 0, "token_noise": "drawn", "attention_dropout": 0.1})],
    ids=["hclmp", "hclmp_t", "paper's parts"],
)
def test_stacked_folds_are_what_they_are_alone(dos: int | None, changes: dict[str, Any]) -> None:
    model, folds = SMALL.model_copy(update=changes), parts(dos=dos)
    given = inputs(15, dos=dos, seed=3)
    for part, (fitted, history) in zip(folds, together(folds, model=model), strict=True):
        alone, own = fit_one(
            part.train, part.validation, model=model, training=FEW_EPOCHS, key=part.key
        )
        assert [row.keys() for row in history] == [row.keys() for row in own]
        assert _best(history) == _best(own)
        for row, expected in zip(history, own, strict=True):
            assert row.pop("stage") == expected.pop("stage")
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)
        of_stack, of_alone = fitted.predict(given), alone.predict(given)
        for name, value in vars(of_alone).items():
            np.testing.assert_allclose(
                getattr(of_stack, name), value, rtol=2e-3, atol=2e-3, err_msg=name
            )
        for name, tensor in alone.network.memory().items():
            assert fitted.network.memory()[name].shape == tensor.shape


def _best(history: History) -> list[int]:
    """The epoch of each member with the lowest error on validation."""
    selection = [row for row in history if row["stage"] == "selection"]
    members = sorted({row["member"] for row in selection})
    return [
        min((row for row in selection if row["member"] == m), key=lambda r: r["validation_mae"])[
            "epoch"
        ]
        for m in members
    ]


def test_a_stack_is_trained_at_once_where_the_steps_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = loop._epoch, []

    def noted(*args: Any) -> Any:
        seen.append(args[3].counts)
        return real(*args)

    monkeypatch.setattr(loop, "_epoch", noted)
    together(parts())
    assert list(dict.fromkeys(seen)) == [(66, 67), (90,), (86,), (111,), (89,)]


def test_padding_of_a_fold_says_nothing() -> None:
    """Prediction and error of folds of different length, side by side and alone."""
    folds = parts()
    scalers = [Scalers.fit(part.train) for part in folds]
    networks, tables, held_out = [], [], []
    for i, (part, scaler) in enumerate(zip(folds, scalers, strict=True)):
        fit, _ = fit_one(part.train, part.validation, model=SMALL, training=ONE, key={"i": i})
        networks.append(fit.network)
        tables.append(scaler.table(part.train))
        held_out.append(scaler.table(part.validation))
    expected = []
    for network, table, other in zip(networks, tables, held_out, strict=True):
        network.remember(table)
        expected += loop.validation_errors(network, other)
    whole = stack_members([take_members(network, slice(None)) for network in networks])
    whole.remember(Table.stack(tables))
    assert loop.validation_errors(whole, Table.stack(held_out)) == pytest.approx(expected, rel=1e-5)
    # of the keys that pad the memory nothing is recalled, however near they are
    assert whole.memory_padding is not None
    padding = whole.memory_padding[0, 0].isinf()
    assert padding.sum() == 90 - 66
    whole.memory_keys[0, padding] = 0
    whole.memory_labels[0, padding] = 1e6
    whole.memory_weights[0, padding] = 1
    assert loop.validation_errors(whole, Table.stack(held_out)) == pytest.approx(expected, rel=1e-5)


ONE = TrainingConfig(epochs=1, batch_size=32, members=1, refit_epochs=0)


def test_draws_do_not_depend_on_what_is_beside() -> None:
    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (3, 4)]

    alone, three = Draws(generators()), Draws(generators(), folds=3)
    for _ in range(2):
        normal = alone.normal(5, 2)
        assert torch.equal(three.normal(5, 2), normal.repeat(3, 1, 1))
        ones = torch.ones(2, 7)
        assert torch.equal(
            three.dropout(ones.repeat(3, 1), 0.3), alone.dropout(ones, 0.3).repeat(3, 1)
        )
    rows, there = pad_rows([torch.tensor([4, 2]), torch.tensor([1])])
    assert rows.tolist() == [[4, 2], [1, 0]]
    assert there.tolist() == [[True, True], [True, False]]


class _Killed(Exception):
    pass


@pytest.mark.parametrize("after", [2, 7, 8], ids=["first stack", "refit", "last refit"])
def test_a_killed_stack_resumes_to_the_same_bytes(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, epochs = loop._epoch, []

    def counted(*args: Any) -> Any:
        epochs.append(1)
        return real(*args)

    monkeypatch.setattr(loop, "_epoch", counted)
    _write(together(parts()), "whole")
    whole = len(epochs)

    def dies(*args: Any) -> Any:
        if len(epochs) == whole + after:
            raise _Killed
        return counted(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_epoch", dies)
        with pytest.raises(_Killed):
            together(parts())
    assert list(checkpoints.FOLDER.glob("*"))
    torch.manual_seed(12345)  # a new process has another random state
    _write(together(parts()), "resumed")
    assert len(epochs) == 2 * whole, "only the epochs that were not finished are trained"
    for i in range(len(SIZES)):
        for end in ("safetensors", "history"):
            assert Path(f"resumed-{i}.{end}").read_bytes() == Path(f"whole-{i}.{end}").read_bytes()
    assert not list(checkpoints.FOLDER.glob("*")), "checkpoints are removed on success"


def _write(fits: list[tuple[Ensemble, History]], name: str) -> None:
    for i, (fitted, history) in enumerate(fits):
        fitted.save(f"{name}-{i}.safetensors", provenance={})
        Path(f"{name}-{i}.history").write_text(str(history))


def test_another_stack_finds_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    folds = parts(missing=False)
    fit = partial(fit_hclmp, model=SMALL, training=ONE, checkpoints=Checkpoints())
    fit(folds)  # its checkpoints stay
    real, seen = loop._epoch, []

    def noted(*args: Any) -> Any:
        seen.append(args[3].counts)
        return real(*args)

    monkeypatch.setattr(loop, "_epoch", noted)
    fit(folds)
    assert seen == []
    fit(folds[:2])
    assert seen == [(66,)], "that of the fold which trains alone, and no other"


def test_a_saved_fold_holds_its_own_rows_alone() -> None:
    folds = parts(missing=False)
    for part, (fitted, _) in zip(folds, together(folds, ONE), strict=True):
        fitted.save("fold.safetensors", provenance={})
        read = Ensemble.from_file("fold.safetensors")
        everything: Labelled = part.train.joined(part.validation)
        assert read.network.memory_keys.shape[:2] == (1, len(everything))
        assert read.network.memory_labels.shape[:2] == (1, len(everything))
