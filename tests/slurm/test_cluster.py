"""A machine that has a Slurm of its own is left alone."""

from pathlib import Path

import pytest

from tests.slurm import cluster

pytestmark = pytest.mark.slurm


def test_a_slurm_of_the_machines_own_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "slurm.conf"
    own.write_text("ClusterName=real\n")
    monkeypatch.setattr(cluster, "BUILT_IN", own)
    monkeypatch.setattr(cluster, "PROGRAMS", ())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "has a Slurm of its own" in (cluster.obstacle() or "")
    with pytest.raises(FileExistsError), cluster._linked(tmp_path / "test.conf"):
        pass
    assert own.read_text() == "ClusterName=real\n"


def test_two_tests_do_not_share_a_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "slurm.conf"
    other.write_text(f"{cluster.MARK}\n")
    monkeypatch.setattr(cluster, "BUILT_IN", other)
    monkeypatch.setattr(cluster, "PROGRAMS", ())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cluster.obstacle() is None, "what a killed run left is no obstacle"
    with cluster._locked(other):
        assert "other tests are using" in (cluster.obstacle() or "")
