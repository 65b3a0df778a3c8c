"""Folds: which systems are held out together, and how the samples divide around them."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hclmp.config import Config
from hclmp.errors import UserError, join_some

RANDOM_TEST_FRACTION = 0.2
# Folds that measure the intervals of the final model (calibration_folds.py), beside the sheet's.
CALIBRATION = ("calibration-1", "calibration-2", "calibration-3")
RowNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class FoldRows:
    """The rows of one fold: row numbers, ascending; no row is in two of them."""

    train: RowNumbers
    validation: RowNumbers
    test: RowNumbers
    left_out: RowNumbers
    """In none of these: their elements are a strict superset of a held-out or validation system."""


def read_systems(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read the sheet of held-out systems: fold -> its systems, both in the sheet's order.

    Raises:
        UserError: no such file, a missing column, an empty sheet, a system named twice, or a
            system or fold that cannot be part of a file name.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such sheet; `hclmp systems` makes one from a table")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file in UTF-8: {error}") from error
    return dict(_folds_of(path, text))


@lru_cache(maxsize=4)  # a workflow of 500 folds asks 12,000 times
def _folds_of(path: str | Path, text: str) -> dict[str, tuple[str, ...]]:
    """Parse the text of a sheet: see ``read_systems``."""
    fold_of: dict[str, str] = {}
    for row, (named, fold) in enumerate(_sheet_rows(path, text), start=1):
        system = "-".join(sorted(part.strip() for part in named.split("-")))
        fold = system if fold is None else fold
        if not all(part.isalpha() for part in system.split("-")):
            raise UserError(f"{path}: row {row}: {named!r} is not elements joined by `-`")
        if not fold or not all(c.isalnum() or c in "-_+" for c in fold):
            raise UserError(
                f"{path}: row {row}: fold {fold!r} must be letters, digits, `-`, `_` or `+`"
            )
        if fold in CALIBRATION:
            raise UserError(
                f"{path}: row {row}: `{fold}` is the name of a fold that measures the intervals of "
                "the final model; give yours another"
            )
        if system in fold_of:
            raise UserError(
                f"{path}: row {row}: system {system} is named twice (folds {fold_of[system]} and "
                f"{fold}); remove one of the two"
            )
        fold_of[system] = fold
    if not fold_of:
        raise UserError(f"{path}: no systems in it; `hclmp systems` makes a sheet from a table")
    folds: dict[str, tuple[str, ...]] = {}
    for system, fold in fold_of.items():
        folds[fold] = (*folds.get(fold, ()), system)
    return folds


def _sheet_rows(path: str | Path, text: str) -> list[tuple[str, str | None]]:
    """System and fold of each row (None without that column); ``#`` starts a comment."""
    lines = [line.split("#")[0].rstrip() for line in text.splitlines()]
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines if line]
    if not cells or "system" not in cells[0]:
        raise UserError(f"{path}: no column `system` (columns are separated by tabs)")
    header, *rows = cells
    for row, found in enumerate(rows, start=1):
        if len(found) > len(header):
            raise UserError(
                f"{path}: row {row} has {len(found)} cells, but the header has {len(header)}"
            )
        found += [""] * (len(header) - len(found))
    system = header.index("system")
    fold = header.index("fold") if "fold" in header else None
    return [(found[system], None if fold is None else found[fold]) for found in rows]


def sheet_text(sheet: dict[str, str]) -> str:
    """The sheet as it is written: tab-separated, system and fold."""
    return "".join(f"{system}\t{fold}\n" for system, fold in [("system", "fold"), *sheet.items()])


def held_out_systems(config: Config) -> dict[str, tuple[str, ...]]:
    """The folds of a run with their systems; a split of another kind is a fold without systems."""
    return read_systems(config.systems) if config.split == "systems" else {config.split: ()}


def fold_names(config: Config) -> list[str]:
    """The names of the folds of a run, in the order of the sheet; else the split's own name."""
    return list(held_out_systems(config))


def calibration_folds(config: Config) -> list[str]:
    """The folds whose models size the intervals of the final model; none without such a model.

    Where whole systems are held out they are folds of their own; else those of the evaluation.
    """
    if config.final_variant is None:
        return []
    return list(CALIBRATION) if config.split == "systems" else fold_names(config)


def split_fold(
    systems: Sequence[str],
    held_out: Sequence[str],
    *,
    validation_fraction: float,
    seed: int,
    fold: str,
) -> FoldRows:
    """Divide samples around held-out systems.

    Test: samples whose system is held out. Validation: whole systems of as many elements as the
    held-out ones, drawn from the rest (any systems of the rest where there are none of that
    size). Samples whose elements are a strict superset of a test or validation system are in
    neither set, because they would show the model the system that it is tested on.

    Args:
        systems: the system of each sample.
        held_out: the systems of the fold.
        validation_fraction: share of the candidate systems that become validation.
        seed: of the draw.
        fold: its name, for messages.

    Raises:
        UserError: a held-out system has no sample, or no training or validation data is left.
    """
    known = sorted(set(systems))
    if absent := sorted(set(held_out) - set(known)):
        raise UserError(
            f"fold `{fold}`: the table has no sample of {join_some(absent)}. Correct the sheet of "
            "systems, or make one from the table with `hclmp systems`."
        )
    rest = [s for s in known if s not in set(held_out) and not is_superset(s, held_out)]
    sizes = {len(s.split("-")) for s in held_out}
    candidates = [s for s in rest if len(s.split("-")) in sizes]
    if len(candidates) < 2:
        candidates = rest
    drawn = np.random.default_rng([seed, 1]).permutation(len(candidates))
    count = max(1, round(validation_fraction * len(candidates)))
    validation = {candidates[i] for i in drawn[:count]}
    train = {s for s in rest if s not in validation and not is_superset(s, validation)}
    if not train or not validation:
        raise UserError(
            f"fold `{fold}` leaves no training data: holding out {join_some(held_out)} takes every "
            "sample but those of the validation systems. Hold out fewer systems per fold."
        )
    return rows_of(systems, train=train, validation=validation, test=set(held_out))


def split_random(
    formulas: Sequence[str], groups: RowNumbers, *, validation_fraction: float, seed: int
) -> FoldRows:
    """Divide samples at random: a fifth for the test, a share of the rest for validation.

    Args:
        formulas, groups: of each of n samples, its formula and the group that must not be divided.
        validation_fraction: share of the rest, in samples.
        seed: of the draw.

    Raises:
        UserError: fewer than five samples, or a group is too large.
    """
    if (n := len(groups)) < 5:
        raise UserError(f"a random split needs at least 5 samples, the table has {n}")
    first, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng([seed, 2]).permutation(len(sizes))
    test = _fill(drawn, sizes, round(RANDOM_TEST_FRACTION * n))
    rest, left = drawn[~np.isin(drawn, test)], n - int(sizes[test].sum())
    validation = _fill(rest, sizes, max(1, round(validation_fraction * left)))
    if len(test) + len(validation) == len(sizes):
        largest = int(sizes.argmax())
        raise UserError(
            f"a random split cannot be made of {n} samples in {len(sizes)} groups of nearly equal "
            f"composition: the largest, about {formulas[first[largest]]}, has {sizes[largest]} "
            "samples, and no group may be divided. Set `split: systems`, or divide the rows "
            "yourself (`split: column`)."
        )
    tested, validated = np.isin(group, test), np.isin(group, validation)
    parts = (~tested & ~validated, validated, tested, np.zeros(n, dtype=bool))
    return FoldRows(*map(np.flatnonzero, parts))


def _fill(groups: RowNumbers, sizes: RowNumbers, wanted: int) -> RowNumbers:
    """Of groups in this order, each that still fits into so many rows; the smallest if none does.

    A group that is larger than that is thus never among them, if there are small ones.
    """
    chosen = []
    for group in groups.tolist():
        if sizes[group] <= wanted:
            chosen.append(group)
            wanted -= int(sizes[group])
    return np.array(chosen or sorted(groups.tolist(), key=lambda g: sizes[g])[:1], dtype=np.int64)


def split_given(
    systems: Sequence[str],
    given: Sequence[str],
    groups: RowNumbers,
    *,
    validation_fraction: float,
    seed: int,
) -> FoldRows:
    """Divide samples as their table says: ``train``, ``val`` or ``test``; others are left out.

    Without rows ``val``, a share of the groups of training rows is drawn at random. If the test
    systems are all new to training, whole systems are drawn instead, so that epochs and uncertainty
    are chosen on new systems too.

    Args:
        systems, given, groups: of each sample, its system, what the table says, and the group that
            must not be divided between training and validation.
        validation_fraction: share of the groups of training rows, or of their systems.
        seed: of the draw.

    Raises:
        UserError: no training or no test rows.
    """
    words = np.array(list(given))
    train, validation, test = (
        np.flatnonzero(words == word).astype(np.int64) for word in ("train", "val", "test")
    )
    if not len(validation) and len(train) > 1:
        names = np.array(list(systems))
        known = sorted(set(names[train]))
        new = len(known) > 1 and set(known).isdisjoint(names[test])
        unit = names[train] if new else groups[train]
        if len(units := np.unique(unit)) == 1:
            unit = units = train
        drawn = np.random.default_rng([seed, 2]).permutation(units)
        chosen = drawn[: max(1, round(validation_fraction * len(units)))]
        validated = np.isin(unit, chosen)
        validation, train = train[validated], train[~validated]
    if not len(train) or not len(validation) or not len(test):
        raise UserError(
            f"the given split has {len(train)} rows `train`, {len(validation)} `val` and "
            f"{len(test)} `test`; each of them needs some"
        )
    rest = np.setdiff1d(np.arange(len(words)), np.concatenate([train, validation, test]))
    return FoldRows(train, validation, test, rest)


def group_systems(
    systems: Sequence[str], *, elements_per_system: int, min_samples: int, folds: int | None
) -> dict[str, str]:
    """Choose held-out systems from a table: system -> fold.

    Args:
        systems: the system of each sample.
        elements_per_system: how many elements a held-out system has.
        min_samples: the fewest samples of a held-out system.
        folds: how many folds of about equal numbers of samples; None: each system its own.

    Raises:
        UserError: no system qualifies, or fewer than there are folds.
    """
    chosen = _large_systems(systems, elements_per_system, min_samples)
    if folds is not None and len(chosen) < folds:
        raise UserError(
            f"only {len(chosen)} systems of {elements_per_system} elements have at least "
            f"{min_samples} samples, too few for {folds} folds. Lower --folds or --min-samples, or "
            "choose another --elements-per-system."
        )
    if folds is None:
        return {system: system for system in sorted(chosen)}
    # The largest go first, each into the smallest fold; equal ones are shuffled, so that neighbours
    # in the alphabet, which share elements, are not in the same fold.
    names = sorted(chosen)
    order = np.random.default_rng(0).permutation(len(names))
    sizes = [0] * folds
    assigned: dict[str, str] = {}
    for i in sorted(order, key=lambda i: -chosen[names[i]]):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += chosen[names[i]]
        assigned[names[i]] = f"fold-{smallest + 1}"
    # sorted by the number of the fold
    return dict(sorted(assigned.items(), key=lambda one: (int(one[1].removeprefix("fold-")), one)))


def _large_systems(
    systems: Sequence[str], elements_per_system: int, min_samples: int
) -> dict[str, int]:
    """The systems of so many elements that have so many samples, and how many they have."""
    counts = Counter(systems)
    elements = {s: len(s.split("-")) for s in counts}
    sized = {s: n for s, n in counts.items() if elements[s] == elements_per_system}
    if not sized:
        raise UserError(
            f"no sample is of {elements_per_system} elements, but of "
            f"{join_some(sorted(set(elements.values())))}: choose another --elements-per-system"
        )
    chosen = {s: n for s, n in sized.items() if n >= min_samples}
    if not chosen:
        raise UserError(
            f"none of the {len(sized)} systems of {elements_per_system} elements has "
            f"{min_samples} samples; the largest has {max(sized.values())}. Lower --min-samples, "
            "or choose another --elements-per-system."
        )
    return chosen


def is_superset(system: str, others: Iterable[str]) -> bool:
    """Whether a system's elements are a strict superset of any of the others'."""
    elements = set(system.split("-"))
    return any(set(other.split("-")) < elements for other in others)


def seen_of(systems: Sequence[str], held_out: Collection[str]) -> list[bool]:
    """Which systems are neither held out nor a superset of one that is."""
    return [s not in held_out and not is_superset(s, held_out) for s in systems]


def rows_of(
    systems: Sequence[str], *, train: set[str], validation: set[str], test: set[str]
) -> FoldRows:
    """Row numbers of the systems of each part; what is in no part is left out."""
    names = np.array(list(systems))
    parts = [np.isin(names, sorted(part)) for part in (train, validation, test)]
    left_out = ~np.any(parts, axis=0)
    return FoldRows(*(np.flatnonzero(mask).astype(np.int64) for mask in (*parts, left_out)))
