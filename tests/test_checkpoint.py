"""How often a training is noted."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hclmp.models import checkpoint as checkpoints
from hclmp.models.checkpoint import Checkpoint, State

EPOCHS, SECONDS = 30, 3.0  # of an epoch


@pytest.mark.parametrize(
    ("saving", "saved_after"),
    [
        (0.5, list(range(1, EPOCHS + 1))),  # quick: after each
        (2.0, [1, 7, 13, 19, 25, 30]),  # every 20 seconds; the last one always
        (100.0, [1, 30]),
    ],
)
def test_savings_that_take_long_are_rare(
    saving: float, saved_after: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    now, real = [1000.0], checkpoints.write_tensors

    def slow(*args: Any, **kwargs: Any) -> None:
        now[0] += saving
        real(*args, **kwargs)

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "write_tensors", slow)
    network, checkpoint, state = nn.Linear(2, 1), Checkpoint("key", "selection"), State()
    networks: dict[str, nn.Module] = {"model": network}
    seen = []
    for epoch in range(1, EPOCHS + 1):
        now[0] += SECONDS
        state.finish_epoch([{}], scores=[1.0], network=network)
        checkpoint.save(state, networks, {}, last=epoch == EPOCHS)
        seen.append(Checkpoint("key", "selection").resume(networks, {}).epoch)
    assert sorted(set(seen)) == saved_after
