"""Printed plates of metal oxides: optical transmission of millions of patches (CaltechDATA).

The folder ``ten_replicas`` of https://data.caltech.edu/records/g1tyb-nje27 (Yang et al., PNAS 118,
e2106042118, 2021): one CSV file per plate, one row per patch. Patches stream from the files into
buckets on disk, one bucket holding all replicas of its compositions, and are averaged bucket by
bucket: memory follows the number of compositions, not that of patches.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hclmp.config import PlatesConfig, PropertyConfig, TargetsConfig
from hclmp.data.formula import formula_text
from hclmp.data.tables import Floats, Property
from hclmp.errors import UserError, join_some
from hclmp.progress import progress
from hclmp.provenance import sha256
from hclmp.sources.plates.rows import PARTS, Buckets, Header, patches_of, read_header, scratch
from hclmp.sources.raw import RawTargets

WAVELENGTHS = (375, 395, 455, 530, 590, 617, 660, 735, 850)
"""Of ``signal_0`` to ``signal_8``, in nm."""
EV_NM = 1239.841984
"""Planck's constant times the speed of light, in eV nm (CODATA 2018)."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
FEWEST = 7
"""Replicas below which no patch is called an outlier: the deviation of few is no sure scale. Of
good, normally distributed patches five robust standard deviations lose 23 % with five replicas,
12 % with seven, 4 % with ten, 1 % with eighteen (simulated, nine independent wavelengths)."""
ABOUT = {
    "licence": "CC BY 4.0",
    "citation": "Yang et al., PNAS 118, e2106042118 (2021), doi:10.1073/pnas.2106042118; "
    "CaltechDATA g1tyb-nje27",
}


def read_targets(config: TargetsConfig) -> RawTargets:
    """Average the replicas of every composition.

    The values are the means over the patches that are neither impossible nor outliers. Their noise
    is the standard error of that mean: the standard deviation of the n patches (over n - 1) divided
    by the root of n; NaN (unknown) for a single patch. It is a lower bound: errors that all patches
    of a print session share are not in it.

    Rows come in the order of a hash of the composition, so that the first of them (``limit``) are a
    sample of all systems. Neither names and order of the files nor block sizes change a bit.

    Raises:
        UserError: no such folder, no plates in it, or a file that is not as the record says.
    """
    files = input_files(config)
    folder = files[0].parent
    headers = [read_header(file) for file in files]
    metals = sorted({metal for header in headers for metal in header.metals})
    properties, columns = _chosen(config)
    with scratch() as temporary:
        size = sum(file.stat().st_size for file in files)
        with Buckets(temporary, metals, size) as buckets:
            counts, digest = _spread(headers, buckets, config.plates)
        parts, values, noise, averaged = _averaged(buckets, config, columns)
    counts.update(averaged)
    sentences = _sentences(counts, config)
    if not len(values):
        raise UserError(f"{folder}: no patch can be used: {'; '.join(sentences)}")
    formulas = [formula_text(metals, row / PARTS) for row in parts]
    facts: dict[str, Any] = ABOUT | {
        "file": str(folder),
        "sha256": digest,
        "plates": len(files),
        "metals": metals,
        "ignored_columns": sorted({c for header in headers for c in header.unknown}),
        "counts": dict(sorted(counts.items())),
        "sentences": sentences,
    }
    return RawTargets(
        origin=str(folder),
        sample_id=list(formulas),
        formula=list(formulas),
        properties=properties,
        values=values,
        noise=noise,
        simulated=False,
        facts=facts,
    )


def plate_folder(path: str) -> Path:
    """The folder of the plates: ``path``, or ``ten_replicas`` in it.

    Raises:
        UserError: it is no folder.
    """
    folder = Path(path)
    if folder.is_file():
        raise UserError(f"{path}: a file; `targets.path` is the unpacked folder `ten_replicas`")
    if not folder.is_dir():
        raise UserError(
            f"{path}: no such folder (paths are relative to the working directory); "
            "`hclmp fetch plates` says where the plates are"
        )
    inner = folder / "ten_replicas"
    return inner if inner.is_dir() else folder


def input_files(section: TargetsConfig) -> list[Path]:
    """The CSV files of the plates, by name; hidden files are none of them.

    Raises:
        UserError: there are none.
    """
    folder = plate_folder(str(section.path))
    files = sorted(f for f in folder.glob("*.csv") if f.is_file() and not f.name.startswith("."))
    if not files:
        raise UserError(
            f"{folder}: no .csv file here. `targets.path` is the folder `ten_replicas` of the "
            "record, one CSV file per plate, or the folder that holds it."
        )
    return files


def _chosen(config: TargetsConfig) -> tuple[tuple[Property, ...], list[int]]:
    """The properties, all nine or those of ``targets.properties``, and their columns."""
    names = [f"{config.plates.quantity}_{nm}nm" for nm in WAVELENGTHS]
    if unknown := sorted(config.properties.keys() - set(names)):
        raise UserError(
            f"`targets.properties` names {join_some(unknown)}; `source: plates` with "
            f"`quantity: {config.plates.quantity}` has {join_some(names, most=len(names))}"
        )
    columns = [i for i, name in enumerate(names) if name in (config.properties or names)]
    properties = []
    for i in columns:
        given = config.properties.get(names[i], PropertyConfig()).model_dump()
        if given["coordinate"] is None:
            given["coordinate"] = EV_NM / WAVELENGTHS[i]
        properties.append(Property(name=names[i], **given))
    return tuple(properties), columns


def _spread(
    headers: Sequence[Header], buckets: Buckets, plates: PlatesConfig
) -> tuple[Counter[str], str]:
    """All usable patches into the buckets; counts, and a hash over the files' hashes."""
    counts: Counter[str] = Counter()
    seen: dict[str, Path] = {}
    with progress("plates", len(headers)) as advance:
        for done, header in enumerate(headers, start=1):
            digest = sha256(header.file)
            if digest in seen:
                raise UserError(
                    f"{header.file}: the same bytes as {seen[digest].name}; its patches would "
                    "count twice. Remove one of the two."
                )
            seen[digest] = header.file
            for patches in patches_of(header, positive=plates.quantity == "absorbance"):
                counts.update(patches.counts)
                buckets.add(header.metals, patches)
            advance(done, f"{counts['patches']} patches")
    return counts, hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()


def _averaged(
    buckets: Buckets, config: TargetsConfig, columns: list[int]
) -> tuple[NDArray[np.int32], Floats, Floats, Counter[str]]:
    """Parts [n, V], means [n, L] and their standard errors [n, L]; what was counted on the way."""
    parts = [np.empty((0, len(buckets.metals)), dtype=np.int32)]
    values, noise = [np.empty((0, len(columns)))], [np.empty((0, len(columns)))]
    counts: Counter[str] = Counter()
    wanted = config.limit
    for rows in buckets:
        # a bucket is in the order of its compositions, and the buckets are in theirs
        starts = np.flatnonzero(np.r_[True, (rows["parts"][1:] != rows["parts"][:-1]).any(axis=1)])
        group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(rows)]))
        if wanted is not None and len(starts) > wanted:
            rows, group, starts = rows[: starts[wanted]], group[: starts[wanted]], starts[:wanted]
        signal = rows["signals"]
        quantity = 0.0 - np.log10(signal) if config.plates.quantity == "absorbance" else signal
        kept = ~outliers(quantity, group, config.plates.outlier)
        mean, error, n = mean_and_error(quantity[kept][:, columns], group[kept], len(starts))
        counts["outliers"] += int((~kept).sum())
        counts["averaged"] += int(kept.sum())
        counts["single"] += int((n == 1).sum())
        counts["without_patches"] += int((n == 0).sum())
        parts.append(rows["parts"][starts[n > 0]])
        values.append(mean[n > 0])
        noise.append(error[n > 0])
        if wanted is not None:
            wanted -= int((n > 0).sum())
            if not wanted:
                break
    found = np.concatenate(parts)
    counts["compositions"] = len(found)
    return found, np.concatenate(values), np.concatenate(noise), counts


def outliers(values: Floats, group: NDArray[np.int64], most: float) -> NDArray[np.bool_]:
    """Which patches are outliers among the replicas of their composition.

    Farther from the median of the replicas, at any wavelength, than ``most`` times 1.4826 median
    absolute deviations. No patch is one among fewer than ``FEWEST`` replicas, nor where more than
    half the replicas read exactly the same: there the deviation is 0 and tells no scale.

    Args:
        values: [n, 9].
        group: [n] number of the composition.
        most: robust standard deviations.
    """
    median = pd.DataFrame(values).groupby(group).transform("median").to_numpy()
    away = np.abs(values - median)
    mad = pd.DataFrame(away).groupby(group).transform("median").to_numpy()
    enough = np.bincount(group)[group] >= FEWEST
    far = (away > most * NORMAL * mad) & (mad > 0)
    return np.asarray(far.any(axis=1) & enough)


def mean_and_error(
    values: Floats, group: NDArray[np.int64], groups: int
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Means [groups, L] and standard errors (NaN below two patches), and numbers of patches."""
    by_group = pd.DataFrame(values).groupby(group)
    n = np.bincount(group, minlength=groups)
    mean = by_group.mean().reindex(range(groups)).to_numpy()
    std = by_group.std(ddof=1).reindex(range(groups)).to_numpy()
    return mean, std / np.sqrt(np.maximum(n, 1))[:, None], n


def _sentences(counts: Counter[str], config: TargetsConfig) -> list[str]:
    """What the user should know about what became of the patches."""
    lines = [
        f"{counts['averaged']} of {counts['patches']} patches averaged to "
        f"{counts['compositions']} compositions"
        + (" (as many as `targets.limit` asks for)" if config.limit else "")
    ]
    about = {
        "blank": "patches without any metal (bare substrate) left out",
        "not_finite": "patches left out whose transmission is blank or not finite",
        "impossible": "patches left out whose transmission is not positive, so that they have no "
        "absorbance",
        "outliers": f"patches left out as outliers: farther than {config.plates.outlier:g} robust "
        f"standard deviations from the median of at least {FEWEST} replicas",
        "without_patches": "compositions left out, all of whose patches are outliers",
        "single": "compositions of a single patch, whose noise is unknown",
        "blank_amounts": "blank amounts of metals taken for 0",
        "above_one": "patches transmit more than all light (above 1) somewhere; they are used",
    }
    return lines + [f"{counts[key]} {text}" for key, text in about.items() if counts[key]]
