"""The pull from the Materials Project: the real client against servers on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hclmp.config import DosConfig
from hclmp.data.tables import EnergyGrid
from hclmp.errors import UserError
from hclmp.sources.materials_project import client as mp_client
from hclmp.sources.materials_project import snapshot as mp_snapshot
from hclmp.sources.materials_project.read import read_dos, resample
from hclmp.sources.materials_project.resample import Resampler
from tests.made_up.materials_project import CATIONS, Material
from tests.made_up.materials_project_servers import Servers
from tests.mp.pulled import (
    CLEAN,
    LISTING_REQUESTS,
    ODD,
    USABLE_ODD,
    by_name,
    folder,
    record,
    settings,
    table_reads,
)

pytestmark = pytest.mark.mp

GRID = EnergyGrid(-8.0, 8.0, 161, "eV")


def expected(material: Material, row: int = 0) -> np.ndarray:
    """States/eV/atom of the servers' row, by the definition."""
    values = material.rows[row]
    total = np.array(values["spin_up_densities"])
    if values["spin_down_densities"] is not None and len(values["spin_down_densities"]):
        total = total + values["spin_down_densities"]
    relative = values["energies"] - values["efermi"]
    return Resampler(GRID, 0.0)(relative, np.maximum(total, 0)) / material.atoms


def test_the_bulk_pull_equals_the_clients_own_call_per_material(servers: Servers) -> None:
    pulled = by_name(read_dos(settings()))
    client = mp_client.connect()
    chosen = [*CLEAN[:15], ODD["empty spin down"], ODD["narrow"], ODD["higher twin"]]
    for material in chosen:
        dos = client.materials.electronic_structure_dos.get_dos_from_material_id(
            material.material_id
        )
        one = Resampler(GRID, 0.0)(dos.energies - dos.efermi, dos.get_densities())
        np.testing.assert_array_equal(pulled[material.material_id], one / material.atoms)
        assert one.max() > 0


def test_every_material_is_there_with_its_electrons(servers: Servers) -> None:
    raw = read_dos(settings())
    pulled = by_name(raw)
    usable = CLEAN + [ODD[kind] for kind in USABLE_ODD if kind != "two run types"]
    assert set(pulled) == {m.material_id for m in usable} | {ODD["two run types"].material_id}
    assert dict(zip(raw.material_id, raw.formula, strict=True)) == {
        m.material_id: m.formula for m in [*usable, ODD["two run types"]]
    }
    for material in usable:
        got, row = pulled[material.material_id], material.rows[0]
        np.testing.assert_allclose(got, expected(material), rtol=1e-12)
        # the count in the window by another way: the trapezoid of the row with the limits added
        up, down = row["spin_up_densities"], row["spin_down_densities"]
        total = np.maximum(up if down is None or not len(down) else up + down, 0)
        relative = row["energies"] - row["efermi"]
        points = np.union1d(relative, [-8.05, 8.05])
        points = points[(points >= -8.05 - 1e-12) & (points <= 8.05 + 1e-12)]
        count = np.trapezoid(np.interp(points, relative, total, left=0, right=0), points)
        if material is not ODD["narrow"]:  # whose ends fall between the added limits
            assert got.sum() * 0.1 * material.atoms == pytest.approx(count, rel=1e-6)
    assert (raw.unit, raw.norm, raw.reference) == ("states/eV/atom", "atom", "Fermi level")
    assert not raw.simulated


def test_what_cannot_be_used_is_skipped_and_counted_by_reason(servers: Servers) -> None:
    counts = read_dos(settings()).facts["counts"]
    hidden = sum("hidden" in kind for kind in ODD)
    assert counts["listed"] == len(CLEAN) + len(ODD) - hidden
    assert counts["kept"] == counts["with_dos"] == len(CLEAN) + len(USABLE_ODD)
    assert counts["skipped"] == {
        "not in the table of DOS": 1,
        "of run type r2SCAN alone": 1,
        "of run type unknown alone": 1,
        "with densities and energies of different length": 1,
        "with energies that do not ascend": 1,
        "with values that are not finite": 1,
        "without Fermi level": 1,
        "without calculation of a DOS": 1,
        "without energies or densities": 2,
        "without structure": 1,
    }
    assert counts["listed"] == counts["kept"] + sum(counts["skipped"].values())
    assert counts["rows_of_other_run_types"] == {"r2SCAN": 2, "unknown": 1}
    assert counts["unusable_rows_of_wanted_run_types"] == {
        reason: n
        for reason, n in counts["skipped"].items()
        if not reason.startswith(("of run type", "not in", "without calculation"))
    }
    assert counts["further_rows_of_wanted_run_types"] == 1
    assert counts["energies_do_not_span_the_window"] == 1
    assert counts["negative_densities_set_to_0"] == 1
    assert counts["spin_polarised"] == sum(
        m.rows[0]["spin_down_densities"] is not None for m in CLEAN
    )


def test_unusable_rows_are_counted_beside_a_usable_one(workdir: Path) -> None:
    energies, fermi = [-9.0, 0.0, 9.0], 0.0
    rows = [
        ("task-a", "GGA", None, energies, [1.0, 2.0, 1.0]),
        ("task-a", "GGA+U", fermi, energies, [1.0, 2.0, 1.0]),
        ("task-a", "GGA", fermi, energies, [1.0, float("nan"), 1.0]),
        ("task-b", "GGA", None, energies, [1.0, 2.0, 1.0]),
    ]
    found = [dict(zip(mp_snapshot.ROWS.names, (*row, None, 4), strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(found, mp_snapshot.ROWS), "dos-0.parquet")
    run_types = {"query": {"run_types": ["GGA", "GGA+U"]}}
    got = resample(mp_snapshot.Snapshot(Path(), run_types, []), GRID, 0.0)
    assert list(got.found) == ["task-a"]
    assert got.unusable == {"without Fermi level": 2, "with values that are not finite": 1}
    assert got.surplus == 0


@pytest.mark.parametrize("preferred", ["GGA", "GGA+U"])
def test_of_several_run_types_the_one_listed_first_is_taken(
    servers: Servers, preferred: str
) -> None:
    kinds = ["GGA", "GGA+U"] if preferred == "GGA" else ["GGA+U", "GGA"]
    material = ODD["two run types"]
    assert [row["run_type"] for row in material.rows] == ["GGA+U", "GGA", "r2SCAN"]
    pulled = by_name(read_dos(settings(run_types=kinds)))
    row = 1 if preferred == "GGA" else 0
    np.testing.assert_allclose(pulled[material.material_id], expected(material, row), rtol=1e-12)
    assert not np.allclose(expected(material, 0), expected(material, 1))


def test_the_requests_do_not_grow_with_the_materials(servers: Servers) -> None:
    raw = read_dos(settings())
    seen = servers.control()
    assert len(seen["rest"]) == LISTING_REQUESTS
    assert all(path == "/materials/summary/" for _, path, _ in seen["rest"])
    reads = table_reads(seen)
    files = set(reads)
    assert len(files) <= 9
    assert len(reads) <= 3 * len(files) < len(raw.material_id)


def test_a_second_run_asks_for_nothing_whatever_the_grid(servers: Servers) -> None:
    first = read_dos(settings())
    servers.control(reset=True)
    again = read_dos(settings())
    np.testing.assert_array_equal(again.dos, first.dos)
    assert again.facts == first.facts
    grid = {"start": -4.0, "stop": 4.0, "n": 41}
    other = read_dos(settings(energies=grid, norm="cation", broadening=0.2, duplicates="lowest"))
    assert other.dos.shape[1] == 41
    seen = servers.control()
    assert not seen["rest"]
    assert not seen["s3"]


def test_per_cation_counts_atoms_other_than_oxygen(servers: Servers) -> None:
    per_atom, per_cation = by_name(read_dos(settings())), read_dos(settings(norm="cation"))
    assert (per_cation.unit, per_cation.norm) == ("states/eV/cation", "cation")
    for material in CLEAN:
        cations = material.atoms - material.cell["O"]
        want = per_atom[material.material_id] * material.atoms / cations
        np.testing.assert_allclose(by_name(per_cation)[material.material_id], want, rtol=1e-12)


def test_limit_exclude_and_duplicates(servers: Servers) -> None:
    whole = read_dos(settings())
    few = read_dos(settings(limit=7))
    assert few.facts["counts"]["listed"] == 7
    assert few.material_id == whole.material_id[:7]
    less = read_dos(settings(exclude=["Fe", CLEAN[0].material_id, "mp-aaaaaadx"]))
    gone = {m.material_id for m in CLEAN if "Fe" in m.cell} | {"mp-101", CLEAN[0].material_id}
    assert "mp-101" in whole.material_id
    assert set(whole.material_id) - set(less.material_id) == gone
    lowest = read_dos(settings(duplicates="lowest"))
    best: dict[str, Material] = {}
    for material in [*CLEAN, *(ODD[kind] for kind in USABLE_ODD)]:
        rival = best.setdefault(material.formula, material)
        if material.hull < rival.hull:
            best[material.formula] = material
    assert ODD["higher twin"] not in best.values()
    assert set(lowest.material_id) == {m.material_id for m in best.values()}
    dropped = len(whole.material_id) - len(best)
    skipped = lowest.facts["counts"]["skipped"]
    assert skipped["of higher energy than another of its composition"] == dropped >= 2


def test_what_goes_on_record(servers: Servers) -> None:
    raw = read_dos(settings())
    facts = raw.facts
    assert facts["database_version"] == "2026.04.13"
    assert facts["table_version"] >= 2
    assert facts["client"].startswith("mp-api 0.")
    assert facts["licence"] == "CC BY 4.0"
    assert "Materials Project" in facts["attribution"]
    assert facts["query"]["elements"] == sorted(CATIONS)
    assert facts["record"] == str(folder() / "record.json")
    assert len(facts["sha256"]) == 64
    # the date would make tables of equal data differ: it goes to the record alone
    assert record()["date"][:2] == "20"
    assert record()["date"] not in json.dumps(facts)
    assert raw.volatile == {name: record()[name] for name in ("date", "files")}


def test_a_download_that_was_tampered_with_is_refused(servers: Servers) -> None:
    read_dos(settings())
    victim = sorted(folder().glob("dos-*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{victim.name} is missing or has changed.*delete"):
        read_dos(settings())


def test_two_downloads_of_equal_data_are_equal(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        raw = read_dos(settings(limit=20))
        found.append((record()["files"], raw.facts, raw.dos.tobytes()))
    assert found[0] == found[1]
    assert len(found[0][0]) >= 4


def test_the_query_decides_the_folder_and_the_grid_does_not(workdir: Path) -> None:
    def key(**changed: Any) -> str:
        return mp_snapshot.query_of(settings(**changed)).folder.name

    same = [key(), key(norm="cation"), key(broadening=0.1), key(energies={"n": 11})]
    assert len(set(same)) == 1
    other = [key(), key(max_elements=3), key(limit=3), key(exclude=["Fe"]), key(run_types=["GGA"])]
    assert len(set(other)) == 5


def test_the_papers_cations_take_fifty_listing_requests(workdir: Path) -> None:
    query = mp_snapshot.query_of(DosConfig(source="materials_project"))
    requests = query.requests()
    assert len(requests) == 50
    systems = [system for request in requests for system in request]
    assert len(systems) == len(set(systems)) == 39 + 39 * 38 // 2 + 39 * 38 * 37 // 6
    assert all("O" in system.split("-") for system in systems)
    assert max(len(",".join(request)) for request in requests) < 3000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"elements": ["Xx", "Fe"]}, "Xx is no element"),
        ({"elements": ["O"]}, "no element beside oxygen"),
        ({"exclude": ["mp-12!4"]}, "mp-12!4 is no material"),
        ({"run_types": ["PBE0+X"]}, "PBE0.X is none; there are .*GGA"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(
    workdir: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_dos(settings(**changed))
    assert not Path("data").exists()
