"""Training in progress, its best epoch and its checkpoints: tensors and JSON, never pickles."""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from hclmp.errors import UserError
from hclmp.tensors import pack, read_tensors, unpack, write_tensors

log = logging.getLogger(__name__)
FOLDER = Path(".hclmp/checkpoints")
SLOW = 1.0  # seconds: a saving that takes longer is not done after every epoch, ...
REST = 10  # ... but after so many times as long at the earliest: it may take a tenth of the time
DIVERGED = "the training diverged: nothing finite came out of it. Lower the learning rate."


@dataclass
class State:
    """All that changes during a training, besides the networks and their optimisers.

    Attributes:
        epoch: how many are finished.
        best_scores: the lowest validation score so far, of each member.
        best: the tensors of the network that had it.
        history: one row per epoch and member.
    """

    epoch: int = 0
    best_scores: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def finish_epoch(
        self, rows: Sequence[dict[str, Any]], *, scores: Sequence[float], network: nn.Module
    ) -> None:
        """Note an epoch, and keep each member whose validation score is the lowest so far.

        Args:
            rows, scores: of the members.
            network: of one member; or of several, its tensors then having them as first axis.
        """
        self.epoch += 1
        self.history += [{"epoch": self.epoch, **row} for row in rows]
        before = self.best_scores or [float("inf")] * len(scores)
        better = [i for i, score in enumerate(scores) if score < before[i]]
        self.best_scores = [min(pair) for pair in zip(before, scores, strict=True)]
        state = network.state_dict()
        if not self.best or len(better) == len(scores):
            self.best = {name: tensor.clone() for name, tensor in state.items()}
        elif better:
            for name, tensor in state.items():
                kept = self.best[name]  # of a resumed training on the CPU
                kept[better] = tensor[better].to(kept.device)

    def restore_best(self, network: nn.Module) -> None:
        """Put the network back to its best epoch, ready to predict.

        Raises:
            UserError: a member had a finite score in no epoch.
        """
        if not self.best or not all(math.isfinite(score) for score in self.best_scores):
            raise UserError(DIVERGED)
        network.load_state_dict(self.best)
        network.eval()


class Checkpoint:
    """The state after a finished epoch, under a key that determines the result.

    A killed training that is started again with the same data, configuration and source finds its
    own checkpoint; any other finds none.
    """

    def __init__(self, key: str, stage: str = "selection") -> None:
        self.key, self.path = key, FOLDER / key / f"{stage}.safetensors"
        self._saved = self._took = 0.0  # when the last saving began, and how long it took

    def of(self, stage: str) -> "Checkpoint":
        """The checkpoint of another stage of the same training, removed together with this one."""
        return Checkpoint(self.key, stage)

    def save(
        self,
        state: State,
        networks: dict[str, nn.Module],
        optimizers: dict[str, Optimizer],
        *,
        last: bool,
    ) -> None:
        """Replace the checkpoint; where that takes long, as for many folds at once, not each time.

        Args:
            state, networks, optimizers: after an epoch.
            last: whether it was the last one, which is always saved.
        """
        now = time.monotonic()
        if not last and self._took > SLOW and now - self._saved < REST * self._took:
            return
        tensors = pack("best", state.best)
        for name, network in networks.items():
            tensors |= pack(name, network.state_dict())
        for name, optimizer in optimizers.items():
            tensors |= pack(name, _optimizer_tensors(optimizer))
        header = {"epoch": state.epoch, "best_scores": state.best_scores, "history": state.history}
        # The columns of the history keep their order.
        write_tensors(self.path, tensors, header, sort_keys=False)
        self._saved, self._took = now, time.monotonic() - now

    def resume(self, networks: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> State:
        """Put networks and optimisers back to the last checkpoint; a fresh state without one."""
        try:
            with read_tensors(self.path, what="a checkpoint", remedy="", framework="pt") as read:
                header, tensors = read
        except UserError:
            return State()
        for name, network in networks.items():
            network.load_state_dict(unpack(name, tensors))
        for name, optimizer in optimizers.items():
            _restore_optimizer(optimizer, unpack(name, tensors))
        log.info("going on after epoch %d of an interrupted training", header["epoch"])
        return State(best=unpack("best", tensors), **header)

    def remove(self) -> None:
        """Remove the checkpoint: the training has ended and its result is written."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def staged(**stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The histories of the stages of a training as one, each row with its ``stage``."""
    return [{"stage": stage, **row} for stage, rows in stages.items() for row in rows]


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an Adam-like optimiser as named tensors."""
    return {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the state from ``_optimizer_tensors`` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
