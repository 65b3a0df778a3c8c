"""The input of the model: labelled compositions of one or several folds, and the rows of a step.

Shapes: F folds of up to n compositions, m members (of all folds, those of a fold side by side),
b compositions of up to k elements, L properties.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Batch(NamedTuple):
    """The input for b compositions; m is 1 if all members see the same ones."""

    elements: Tensor  # [m, b, k]
    fractions: Tensor  # [m, b, k]
    statistics: Tensor  # [m, b, S], of the elements, standardised (``descriptors``)
    present: Tensor  # [m, b, V], 1 for the elements of the composition, else 0
    dos: Tensor | None  # [m, b, D], the DOS feature
    longest: Sequence[int] | None = None  # ``longest_of_parts``; None if it is not known yet

    def rows(self, rows: Tensor, fold: Tensor | None = None) -> "Batch":
        """Rows of tables [F, n, ...]: [b] for all members, or [m, b].

        ``fold`` is the table of each member, [m, 1]; None if all see the first.
        """
        at, table = rows if rows.dim() == 2 else rows[None], 0 if fold is None else fold
        return self._of_each(lambda tensor: tensor[table, at])

    def to(self, device: torch.device) -> "Batch":
        """On a device."""
        return self._of_each(lambda tensor: tensor.to(device))._replace(longest=self.longest)

    @classmethod
    def concatenate(cls, parts: "Sequence[Batch]") -> "Batch":
        """Tables [1, n, ...] of one length as one of [F, n, ...]."""
        *tensors, dos, _ = zip(*parts, strict=True)
        return cls._make(
            (*map(torch.cat, tensors), None if dos[0] is None else torch.cat(dos), None)
        )

    def _of_each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        dos = None if self.dos is None else change(self.dos)
        return Batch._make((*map(change, self[:4]), dos, None))


class Labels(NamedTuple):
    """Standardised labels and their weights, both [m or 1, b, L] and 0 where one is missing."""

    values: Tensor
    weights: Tensor

    def rows(self, rows: Tensor, fold: Tensor | None = None) -> "Labels":
        """As ``Batch.rows``."""
        at, table = rows if rows.dim() == 2 else rows[None], 0 if fold is None else fold
        return Labels(self.values[table, at], self.weights[table, at])


class Table(NamedTuple):
    """All labelled compositions of F folds, padded to the longest table.

    Padding repeats a row, with labels of weight 0. Inputs and labels are [F, n, ...].
    """

    inputs: Batch
    labels: Labels
    counts: tuple[int, ...]  # rows of each fold
    complete: bool  # whether no label is missing

    @classmethod
    def of(cls, inputs: Batch, labels: Labels) -> "Table":
        """The table of one fold, [1, n, ...]."""
        complete = bool((labels.weights > 0).all())
        return cls(inputs, labels, (inputs.present.shape[1],), complete)

    @classmethod
    def stack(cls, tables: "Sequence[Table]") -> "Table":
        """The tables of several folds."""
        if len(tables) == 1:
            return tables[0]
        counts = tuple(count for table in tables for count in table.counts)
        at = torch.arange(max(counts), device=tables[0].labels.values.device)
        repeated = [t.take(at.clamp(max=t.counts[0] - 1)) for t in tables]
        valid = torch.stack([at < count for count in counts])[..., None]
        joined = [torch.cat(parts) for parts in zip(*(t.labels for t in repeated), strict=True)]
        labels = Labels(*(part * valid for part in joined))
        complete = all(table.complete for table in tables)
        return cls(Batch.concatenate([t.inputs for t in repeated]), labels, counts, complete)

    def take(self, rows: Tensor) -> "Table":
        """Rows [b] of the table of a single fold."""
        return Table.of(self.inputs.rows(rows), self.labels.rows(rows))

    def to(self, device: torch.device) -> "Table":
        """On a device."""
        labels = Labels(*(part.to(device) for part in self.labels))
        return Table(self.inputs.to(device), labels, self.counts, self.complete)

    def rows(self, rows: Tensor) -> tuple[Batch, Labels]:
        """Rows [m, b] for m members, each from the table of its fold."""
        fold = self.fold(len(rows))
        return self.inputs.rows(rows, fold), self.labels.rows(rows, fold)

    def fold(self, members: int) -> Tensor | None:
        """The fold of each of m members, [m, 1]; None if there is only one."""
        folds = len(self.counts)
        if folds == 1:
            return None
        each = torch.arange(folds, device=self.labels.values.device)
        return each.repeat_interleave(members // folds)[:, None]


def pad_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Row numbers of F folds, padded with 0, and which of them are no padding: [F, b] each."""
    at = torch.arange(max(len(part) for part in rows))
    valid = torch.stack([at < len(part) for part in rows])
    return pad_sequence(list(rows), batch_first=True), valid
