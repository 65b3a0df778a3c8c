"""Results over a remote: a folder and S3; what is damaged or lost there is named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.dvc.conftest import Repository, epochs

pytestmark = pytest.mark.dvc
MODEL = "results/models/hclmp_t/first/model.safetensors"
RESTORE = ("python", "-m", "workflow.stage", "restore")


def object_of(path: Path) -> str:
    """The name of a file's content in a remote."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a local S3 with a bucket ``box``."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="box")
    yield address
    server.stop()


def use_s3(run: Repository, address: str) -> None:
    run.done("dvc", "remote", "add", "--force", "--default", "box", "s3://box/hclmp")
    run.done("dvc", "remote", "modify", "box", "endpointurl", address)
    run.done("dvc", "remote", "modify", "box", "verify", "true")


def test_through_s3_and_a_changed_byte_there_is_named(
    recorded: Repository, tmp_path: Path, s3: str
) -> None:
    run = recorded.copy(tmp_path / "run")
    use_s3(run, s3)
    run.done("dvc", "push")
    run.commit("the remote")
    clone = run.clone(tmp_path / "clone")
    clone.done("dvc", "pull")
    assert clone.is_clean()
    assert (clone / MODEL).read_bytes() == (run / MODEL).read_bytes()
    clone.config(training={"epochs": 3})
    clone.done("dvc", "repro", "train")
    assert epochs(clone) == {3}
    clone.done("dvc", "push")
    clone.commit("three epochs")
    far = clone.clone(tmp_path / "far")
    far.done("dvc", "pull")
    assert epochs(far) == {3}

    client, key = boto3.client("s3", endpoint_url=s3), f"hclmp/{object_of(run / MODEL)}"
    body = client.get_object(Bucket="box", Key=key)["Body"].read()
    client.put_object(Bucket="box", Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))
    again = run.clone(tmp_path / "again")
    text = again.refused("dvc", "pull")
    assert "results/models" in text, "DVC names the folder"
    assert f"{MODEL}: not as dvc.lock records" in again.refused(*RESTORE)


def test_a_changed_byte_in_a_remote_that_is_not_verified_is_named(
    recorded: Repository, tmp_path: Path, remote: Path
) -> None:
    """DVC trusts such a remote: its pull and status say nothing."""
    damaged = tmp_path / "remote"
    shutil.copytree(remote, damaged)
    content = damaged / object_of(recorded / MODEL)
    content.chmod(0o644)
    content.write_bytes(content.read_bytes()[:-1] + b"\x7f")
    run = recorded.clone(tmp_path / "run")
    run.done("dvc", "remote", "modify", "box", "url", str(damaged))
    run.done("dvc", "pull")
    assert f"{MODEL}: not as dvc.lock records" in run.refused(*RESTORE)


def test_a_lost_file_of_a_remote_is_named(
    recorded: Repository, tmp_path: Path, remote: Path
) -> None:
    poorer = tmp_path / "remote"
    shutil.copytree(remote, poorer)
    (poorer / object_of(recorded / MODEL)).unlink()
    run = recorded.clone(tmp_path / "run")
    run.done("dvc", "remote", "modify", "box", "url", str(poorer))
    assert object_of(recorded / MODEL) in run.refused("dvc", "pull")
    assert "results/models: not all of it was pulled; `dvc status --cloud`" in run.refused(*RESTORE)
    assert MODEL in run.done("dvc", "status", "--cloud")
