"""The paper's archive: ``data.zip`` of the H-CLMP release, or the folder it was unpacked to.

Kong et al., Appl. Phys. Rev. 8, 021409 (2021); https://github.com/gomes-lab/H-CLMP. It holds
measured optical absorption (`uvis_dataset_no_redundancy/`) with the indices of 69 held-out systems
and of a random split, and densities of states of the Materials Project (`20200828_MP_dos/`). Its
pickles are read without running anything from them (`hclmp.sources.reference.safe_pickle`), its
zip without unpacking.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hclmp.config import DosConfig, PropertyConfig, TargetsConfig
from hclmp.config.data import PAPER_CATIONS
from hclmp.data.formula import formula_text, system_of
from hclmp.data.tables import EnergyGrid, Floats, Property
from hclmp.errors import UserError, join_some
from hclmp.sources.raw import RawDos, RawTargets, row_names
from hclmp.sources.reference.archive import Archive, archive_folder
from hclmp.sources.reference.safe_pickle import load_npy, load_torch

log = logging.getLogger(__name__)

UVIS, DOS = "uvis_dataset_no_redundancy", "20200828_MP_dos"
LABELS = f"{UVIS}/uvis_dict.chkpt"
RANDOM = {part: f"{UVIS}/idx/rd_idx/{part}/rd_idx.npy" for part in ("train", "val", "test")}
DENSITIES = f"{DOS}/MP_comp39_dos161.npy"
DOS_PARTS = {part: f"{DOS}/{part}_idx.npy" for part in ("train", "test")}
# Absorption at ten photon energies. The release does not say which (nor in which unit), so the
# properties have no coordinates; `targets.properties` can give them.
LABEL_COUNT = 10
LABEL_NAMES = [f"fom_{i}" for i in range(LABEL_COUNT)]
FEATURE_COUNT = 161  # of `gen_dos_fea`, which is not used: our own generator makes the feature
TOLERANCE = 0.01  # of the sum of fractions, which may be rounded
FORMULA_DECIMALS = 8  # of a fraction in a formula: fractions may be 32-bit
CITATION = "Kong et al., Appl. Phys. Rev. 8, 021409 (2021), doi:10.1063/5.0047066"
LABEL_LICENSE = (
    "H-CLMP release, its code MIT; the absorption data is described at CaltechDATA record 1878 "
    "(data.caltech.edu/records/1878), see its terms"
)
DOS_LICENSE = "CC BY 4.0 (the MP DOS dataset of the H-CLMP release)"
Entries = dict[int, Mapping[str, Any]]


@dataclass(frozen=True)
class HeldOutSystem:
    """A system that the archive holds out."""

    name: str  # its elements, alphabetical, joined by ``-``
    published: frozenset[int]  # the samples that the archive tests it with
    ours: frozenset[int]  # the samples whose system it is
    validation_seen: int  # of the archive's validation samples, those that it trains on as well


def read_targets(config: TargetsConfig) -> RawTargets:
    """Read the optical absorption: 39 cation fractions, 10 properties ``fom_0`` to ``fom_9``.

    Raises:
        UserError: no such archive, it asks to run something, or an entry is not as described.
    """
    archive = Archive(str(config.path), top=[UVIS])
    entries, other = _entries(archive)
    fractions = _compositions(archive, entries)
    values = _numbers(archive, entries, "fom", LABEL_COUNT)
    settings = config.properties or dict.fromkeys(LABEL_NAMES, PropertyConfig())
    if unknown := [name for name in settings if name not in LABEL_NAMES]:
        raise UserError(
            f"{archive.path}: no property `{unknown[0]}` (`targets.properties`); there are "
            f"{join_some(LABEL_NAMES, most=LABEL_COUNT)}"
        )
    columns = [LABEL_NAMES.index(name) for name in settings]
    systems = _held_out(archive, entries, fractions)
    split, overlaps = _random_split(archive, entries)
    n = min(len(entries), config.limit or len(entries))
    sentences = _about_systems(systems) + _about_split(split, overlaps)
    if other:
        sentences.append(f"keys that are no samples, not used: {join_some(other)}")
    return RawTargets(
        origin=str(config.path),
        sample_id=[f"uvis-{key}" for key in entries][:n],
        formula=_formulas(fractions[:n]),
        properties=tuple(Property(name=name, **s.model_dump()) for name, s in settings.items()),
        values=values[:n, columns],
        noise=np.full((n, len(columns)), np.nan),
        simulated=False,
        facts=_facts(config, archive, LABEL_LICENSE, sentences, held_out_systems=len(systems)),
        split=None if split is None else split[:n],
    )


def read_dos(config: DosConfig) -> RawDos:
    """Read the densities of states of the Materials Project as the authors prepared them.

    Raises:
        UserError: no such archive, it asks to run something, or rows are not 39 fractions and as
            many DOS values as ``dos.energies`` has.
    """
    archive = Archive(str(config.path), top=[DOS])
    origin = archive.origin(DENSITIES)
    table = _float_array(archive, DENSITIES, "numbers")
    if table.ndim != 2 or not len(table):
        raise UserError(f"{origin}: shape {table.shape}, where rows of fractions and DOS belong")
    found = table.shape[1] - len(PAPER_CATIONS)
    if found != config.energies.n:
        raise UserError(
            f"{origin}: {max(found, 0)} DOS values per row beside {len(PAPER_CATIONS)} fractions, "
            f"but `dos.energies.n` is {config.energies.n}: set `dos.energies` to the archive's grid"
        )
    fractions, dos = np.split(table, [len(PAPER_CATIONS)], axis=1)
    _check_fractions(fractions, [f"row {i + 1}" for i in range(len(table))], origin)
    parts = {p: _indices(archive, name) for p, name in DOS_PARTS.items() if name in archive}
    sentences = []
    if parts:
        counts = join_some(f"{len(index)} {part}" for part, index in parts.items())
        sentences.append(
            f"its own division into {counts} rows is not used: whole systems are held out to "
            "measure the generator"
        )
        log.info("%s: %s", config.path, sentences[0])
    n = min(len(table), config.limit or len(table))
    return RawDos(
        origin=str(config.path),
        material_id=row_names(n),
        formula=_formulas(fractions[:n]),
        dos=dos[:n],
        grid=EnergyGrid(**config.energies.model_dump()),
        unit="states/eV",
        norm="as published (formula unit or cell)",
        reference="as published",
        simulated=False,
        facts=_facts(config, archive, DOS_LICENSE, sentences, rows=len(table)),
    )


def _facts(
    config: TargetsConfig | DosConfig, archive: Archive, terms: str, sentences: list[str], **n: int
) -> dict[str, Any]:
    about = {"file": str(config.path), "sha256": archive.sha256(), "citation": CITATION}
    return about | {"license": terms, "sentences": sentences} | n


def held_out_systems(path: str | Path) -> list[HeldOutSystem]:
    """The systems that the archive holds out, one by one: the file names of ``idx/test``.

    Raises:
        UserError: no such archive, or a file that is not named after a system.
    """
    archive = Archive(path, top=[UVIS])
    entries, _ = _entries(archive)
    systems = _held_out(archive, entries, _compositions(archive, entries))
    if not systems:
        raise UserError(f"{archive.origin(f'{UVIS}/idx/test')}: no held-out system is named there")
    return systems


def about_systems(systems: list[HeldOutSystem]) -> str:
    """A sentence that compares the archive's test samples with those of our rule."""
    differing = [
        f"{s.name} ({len(s.published)} there, {len(s.ours)} here, {len(s.published & s.ours)} "
        "in both)"
        for s in systems
        if s.published != s.ours
    ]
    text = (
        f"{len(systems)} held-out systems with {sum(len(s.published) for s in systems)} test "
        f"samples; {len(systems) - len(differing)} have just the samples of that system, as our "
        "test sets do"
    )
    return f"{text}; not so {join_some(differing, most=10)}" if differing else text


def input_files(section: TargetsConfig | DosConfig) -> list[Path]:
    """The zip file, or the files of the folder that is read; none where that folder is missing."""
    path = Path(str(section.path))
    if not path.is_dir():
        return [path]
    folder = archive_folder(path, UVIS if isinstance(section, TargetsConfig) else DOS)
    found = sorted(folder.rglob("*")) if folder else []
    return [file for file in found if file.is_file() and not file.name.startswith(".")]


def count_rows(section: TargetsConfig | DosConfig) -> int:
    """About how many samples or DOS there are, by the small index files; 0 without these."""
    top, parts = (UVIS, RANDOM) if isinstance(section, TargetsConfig) else (DOS, DOS_PARTS)
    try:
        archive = Archive(str(section.path), top=[top])
        found = [_indices(archive, name) for name in parts.values() if name in archive]
    except UserError:
        return 0
    return len({int(i) for index in found for i in index})


def _entries(archive: Archive) -> tuple[Entries, list[str]]:
    """The samples by their number, ascending, and the keys that are no number."""
    origin = archive.origin(LABELS)
    data = load_torch(archive.read(LABELS), origin=origin)
    if not isinstance(data, dict):
        raise UserError(f"{origin}: holds a {type(data).__name__}, not a dict of samples")
    entries = {int(k): v for k, v in data.items() if isinstance(k, int | np.integer)}
    strange = [number for number, entry in entries.items() if not isinstance(entry, dict)]
    if strange or not entries:
        named = f"sample {join_some(strange)} is no dict" if strange else "no samples in it"
        raise UserError(f"{origin}: {named}")
    other = [str(key) for key in data if not isinstance(key, int | np.integer)]
    return {number: entries[number] for number in sorted(entries)}, other


def _numbers(archive: Archive, entries: Entries, key: str, length: int) -> Floats:
    """What each sample holds under a key: [n, length] finite numbers."""
    rows, bad = [], []
    for number, entry in entries.items():
        try:
            row = np.asarray(entry[key], dtype=np.float64).reshape(-1)
        except (KeyError, TypeError, ValueError):
            row = np.empty(0)
        if len(row) != length or not np.isfinite(row).all():
            bad.append(number)
        rows.append(row)
    if bad:
        raise UserError(
            f"{archive.origin(LABELS)}: `{key}` is not {length} finite numbers in sample "
            f"{join_some(bad)}"
        )
    return np.stack(rows)


def _compositions(archive: Archive, entries: Entries) -> Floats:
    """Checked cation fractions: [n, 39]."""
    origin = archive.origin(LABELS)
    fractions = _numbers(archive, entries, "composition", len(PAPER_CATIONS))
    _check_fractions(fractions, [f"sample {number}" for number in entries], origin)
    rows = zip(entries.items(), fractions, strict=True)
    if wrong := [number for (number, entry), row in rows if not _agrees(row, entry)]:
        raise UserError(
            f"{origin}: `composition_nonzero`, `composition_nonzero_idx` or `nonzero_element_name` "
            f"do not agree with `composition` in sample {join_some(wrong)}"
        )
    if any("gen_dos_fea" in entry for entry in entries.values()):
        _numbers(archive, entries, "gen_dos_fea", FEATURE_COUNT)
    return fractions


def _agrees(row: Floats, entry: Mapping[str, Any]) -> bool:
    """Whether the other entries of a sample agree with its fractions [39]."""
    try:
        index = np.asarray(entry["composition_nonzero_idx"]).reshape(-1).astype(np.int64)
        nonzero = np.asarray(entry["composition_nonzero"], dtype=np.float64).reshape(-1)
        names = [str(name) for name in entry["nonzero_element_name"]]
        return (
            np.array_equal(np.sort(index), np.flatnonzero(row))
            and np.allclose(nonzero, row[index], atol=1e-5)
            and names == [PAPER_CATIONS[i] for i in index]
        )
    except (KeyError, TypeError, ValueError):
        return False


def _check_fractions(fractions: Floats, names: list[str], origin: str) -> None:
    """Fractions are finite, not negative, and sum to 1."""
    sums = fractions.sum(axis=1)
    good = (fractions >= 0).all(axis=1) & (np.abs(sums - 1) <= TOLERANCE)
    if not good.all():
        bad = join_some(f"{names[i]} (sum {sums[i]:g})" for i in np.flatnonzero(~good))
        raise UserError(f"{origin}: the cation fractions are negative or do not sum to 1 in {bad}")


def _formulas(fractions: Floats) -> list[object]:
    rows = np.round(fractions, FORMULA_DECIMALS).tolist()
    return [formula_text(PAPER_CATIONS, row) for row in rows]


def _float_array(archive: Archive, name: str, what: str) -> Floats:
    """An array of the archive as numbers."""
    origin = archive.origin(name)
    array = load_npy(archive.read(name), origin=origin)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{origin}: holds more than {what}: {error}") from error


def _indices(archive: Archive, name: str) -> NDArray[np.int64]:
    """An index array: [k]."""
    numbers = _float_array(archive, name, "indices").reshape(-1)
    if not (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 0)).all():
        raise UserError(f"{archive.origin(name)}: holds more than indices (whole numbers from 0)")
    return numbers.astype(np.int64)


def _samples(archive: Archive, name: str, entries: Entries) -> frozenset[int]:
    """The samples that an index array names; none where it is not there."""
    if name not in archive:
        return frozenset()
    samples = frozenset(_indices(archive, name).tolist())
    if unknown := sorted(samples - entries.keys()):
        raise UserError(f"{archive.origin(name)}: index {join_some(unknown)} is of no sample")
    return samples


def _held_out(archive: Archive, entries: Entries, fractions: Floats) -> list[HeldOutSystem]:
    members: dict[str, set[int]] = {}
    for number, row in zip(entries, fractions, strict=True):
        system = system_of({PAPER_CATIONS[i]: row[i] for i in np.flatnonzero(row)})
        members.setdefault(system, set()).add(number)
    found = []
    for name in archive.names(f"{UVIS}/idx/test", ".npy"):
        parts = re.findall(r"[A-Z][a-z]?", stem := PurePosixPath(name).stem)
        if re.sub(r"[-_ ]", "", stem) != "".join(parts) or not set(parts) <= set(PAPER_CATIONS):
            raise UserError(f"{archive.origin(name)}: not named after a system of known cations")
        system = system_of(dict.fromkeys(parts, 1.0))
        train, validation = (
            _samples(archive, name.replace("/test/", f"/{part}/"), entries)
            for part in ("train", "val_from_train")
        )
        ours = frozenset(members.get(system, ()))
        published = _samples(archive, name, entries)
        found.append(HeldOutSystem(system, published, ours, len(validation & train)))
    if repeated := {s.name for s in found if [t.name for t in found].count(s.name) > 1}:
        raise UserError(
            f"{archive.origin(f'{UVIS}/idx/test')}: {join_some(sorted(repeated))} twice"
        )
    return sorted(found, key=lambda s: s.name)


def _random_split(
    archive: Archive, entries: Entries
) -> tuple[list[str] | None, dict[tuple[str, str], int]]:
    """The part of each sample in the archive's random split, and how many stand in two parts."""
    if RANDOM["train"] not in archive or RANDOM["test"] not in archive:
        return None, {}
    parts = {part: _samples(archive, name, entries) for part, name in RANDOM.items()}
    # The later wins: what is tested or chosen by must not be trained on.
    chosen = {number: part for part, samples in parts.items() for number in samples}
    overlaps = {(a, b): len(parts[a] & parts[b]) for a, b in combinations(parts, 2)}
    return [chosen.get(number, "") for number in entries], overlaps


def _about_systems(systems: list[HeldOutSystem]) -> list[str]:
    lines = [about_systems(systems)] if systems else []
    if seen := [s for s in systems if s.validation_seen]:
        lines.append(
            f"the validation samples of {len(seen)} of its systems are trained on as well; here "
            "validation is drawn anew, of systems that are not"
        )
    return lines


def _about_split(split: list[str] | None, overlaps: dict[tuple[str, str], int]) -> list[str]:
    if split is None:
        return ["no random split in it"]
    counts = join_some(f"{split.count(part)} {part}" for part in RANDOM)
    lines = [f"its random split: {counts}"]
    if rest := split.count(""):
        lines.append(f"{rest} samples are in no part of its random split")
    return lines + [
        f"{count} samples of the random split stand in {first} and {second}: they are kept in "
        f"{second} alone"
        for (first, second), count in overlaps.items()
        if count
    ]
