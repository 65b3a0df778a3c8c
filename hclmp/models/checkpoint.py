"""Checkpoints of a training: its state and best epoch, as tensors and JSON, never as pickles."""

import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hclmp.errors import UserError
from hclmp.tensors import pack, read_tensors, unpack, write_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

log = logging.getLogger(__name__)
FOLDER = Path(".hclmp/checkpoints")
# Saving takes at most a tenth of the time: a saving that took longer than SLOW seconds is followed
# by the next one only after REST times as long.
SLOW, REST = 1.0, 10
DIVERGED = "the training diverged: nothing finite came out of it. Lower the learning rate."
History = list[dict[str, Any]]  # one row per epoch and member


@dataclass
class State:
    """All that changes during a training, besides the networks and their optimisers."""

    epoch: int = 0  # how many are finished
    best_scores: list[float] = field(default_factory=list)  # the lowest so far, of each member
    best: "dict[str, Tensor]" = field(default_factory=dict)  # of the network that had it
    history: History = field(default_factory=list)

    def finish_epoch(
        self, rows: Sequence[dict[str, Any]], *, scores: Sequence[float], network: "nn.Module"
    ) -> None:
        """Record an epoch, and keep each member whose validation score is the lowest so far.

        A network of several members has them as the first axis of its tensors.
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
                best = self.best[name]  # on the CPU if the training was resumed
                best[better] = tensor[better].to(best.device)

    def restore_best(self, network: "nn.Module") -> None:
        """Set the network to its best epoch.

        Raises:
            UserError: a member had a finite score in no epoch.
        """
        if not self.best or not all(math.isfinite(score) for score in self.best_scores):
            raise UserError(DIVERGED)
        network.load_state_dict(self.best)


class Checkpoint:
    """The state after a finished epoch, in a file named by a key that determines the result.

    A killed training that is started again with the same data, configuration and source finds its
    own checkpoint; any other training finds none.
    """

    def __init__(self, key: str, stage: str) -> None:
        self.path = FOLDER / key / f"{stage}.safetensors"
        self._saved = self._took = 0.0  # when the last saving began, and how long it took

    def save(
        self,
        state: State,
        networks: "dict[str, nn.Module]",
        optimizers: "dict[str, Optimizer]",
        *,
        last: bool,
    ) -> None:
        """Replace the checkpoint; if that takes long, not after every epoch, but after the last."""
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

    def resume(self, networks: "dict[str, nn.Module]", optimizers: "dict[str, Optimizer]") -> State:
        """Set networks and optimisers to the checkpoint; without a readable one, a new state."""
        try:
            with read_tensors(self.path, what="a checkpoint", remedy="", framework="pt") as read:
                header, tensors = read
        except UserError:
            return State()
        for name, network in networks.items():
            network.load_state_dict(unpack(name, tensors))
        for name, optimizer in optimizers.items():
            _restore_optimizer(optimizer, unpack(name, tensors))
        log.info("resuming an interrupted training after epoch %d", header["epoch"])
        return State(best=unpack("best", tensors), **header)


class Checkpoints:
    """The checkpoints of a step: ``with Checkpoints() as checkpoints``.

    They are removed when the block ends, so its last statement is to write the results; an
    exception or a kill leaves them for the next start.
    """

    def __init__(self) -> None:
        self.opened: list[Checkpoint] = []

    def open(self, key: str, stage: str) -> Checkpoint:
        """The checkpoint of a stage of the training with this key."""
        self.opened.append(Checkpoint(key, stage))
        return self.opened[-1]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            for checkpoint in self.opened:
                shutil.rmtree(checkpoint.path.parent, ignore_errors=True)


def check_finite(network: "nn.Module") -> None:
    """Refuse a network with a weight that is not finite.

    Raises:
        UserError: the training diverged.
    """
    if not all(weight.isfinite().all() for weight in network.parameters()):
        raise UserError(DIVERGED)


def join_stages(**stages: History) -> History:
    """The histories of the stages of a training as one, each row with its ``stage``."""
    return [{"stage": stage, **row} for stage, rows in stages.items() for row in rows]


def _optimizer_tensors(optimizer: "Optimizer") -> "dict[str, Tensor]":
    """The state of an Adam-like optimiser as named tensors."""
    tensors: dict[str, Tensor] = {}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= pack(str(index), values)
    return tensors


def _restore_optimizer(optimizer: "Optimizer", tensors: "dict[str, Tensor]") -> None:
    """Set an optimiser to what ``_optimizer_tensors`` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
