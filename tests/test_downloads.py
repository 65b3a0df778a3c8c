"""Downloads against a local server: verified, whole or not at all, and never twice."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import hclmp
from hclmp.config import DosConfig, GanConfig, TargetsConfig
from hclmp.errors import UserError
from hclmp.sources.downloads import REGISTRY, fetch, read_registry, registry_file
from tests.conftest import Answer, Command

BODY = b"0123456789" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()
ROOT = Path(__file__).parents[1]


class Server(ThreadingHTTPServer):
    """Serves BODY at /file; what was asked for is in ``asked``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/short-unsaid":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:4000] if "short" in self.path else BODY)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def registry(address: str, **changes: Any) -> None:
    """A registry of one file in the working directory."""
    entry = {
        "what": "a test's file",
        "used_as": "nothing",
        "file": "thing.bin",
        "url": address,
        "sha256": DIGEST,
        "size": len(BODY),
        "licence": "none",
        "citation": "nobody",
    } | changes
    REGISTRY.parent.mkdir(exist_ok=True)
    REGISTRY.write_text(yaml.safe_dump({"thing": entry}))


def assert_nothing_kept(answer: Answer, *words: str) -> None:
    assert answer.code == 2, answer.text
    assert answer.text.count("error:") == 1
    for word in words:
        assert word in answer.text
    assert [path for path in Path("data").rglob("*") if path.is_file()] == []


def test_a_file_is_downloaded_verified_and_not_asked_for_again(
    command: Command, server: Server
) -> None:
    registry(f"{server.url}/file")
    answer = command("fetch", "thing")
    assert answer.code == 0, answer.text
    assert f"sha256 verified ({DIGEST})" in answer.text
    assert Path("data/raw/thing.bin").read_bytes() == BODY
    assert server.asked == ["/file"]
    again = command("fetch", "thing")
    assert again.code == 0
    assert "was there already" in again.text
    assert server.asked == ["/file"]


def test_out_is_another_folder(command: Command, server: Server) -> None:
    registry(f"{server.url}/file")
    assert command("fetch", "thing", "--out", "else/where").code == 0
    assert Path("else/where/thing.bin").read_bytes() == BODY
    assert not Path("data").exists()


def test_another_hash_is_an_error_with_both_and_keeps_nothing(
    command: Command, server: Server
) -> None:
    wrong = "0" * 64
    registry(f"{server.url}/file", sha256=wrong)
    assert_nothing_kept(command("fetch", "thing"), wrong, DIGEST, "Nothing was kept")


def test_a_file_that_is_there_with_another_hash_is_left_alone(
    command: Command, server: Server
) -> None:
    registry(f"{server.url}/file")
    file = Path("data/raw/thing.bin")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    answer = command("fetch", "thing")
    assert answer.code == 2
    for word in (DIGEST, hashlib.sha256(b"mine").hexdigest(), "Move it away"):
        assert word in answer.text
    assert file.read_bytes() == b"mine"
    assert server.asked == []


@pytest.mark.parametrize("digest", [DIGEST, None])
@pytest.mark.parametrize("path", ["/short", "/short-unsaid"])
def test_a_download_cut_off_is_noticed(
    command: Command, server: Server, path: str, digest: str | None
) -> None:
    """By the length that the server announced, or by that of the registry."""
    registry(f"{server.url}{path}", sha256=digest)
    words = ("too short", "4000") if path == "/short-unsaid" else ("4000", "6000")
    assert_nothing_kept(command("fetch", "thing"), *words)


def test_an_unknown_hash_is_said_and_shown(command: Command, server: Server) -> None:
    registry(f"{server.url}/file", sha256=None, size=None)
    for _ in range(2):
        answer = command("fetch", "thing")
        assert answer.code == 0
        for word in ("NOT VERIFIED", DIGEST, "10000 bytes", "`sha256` and `size` of `thing`"):
            assert word in answer.text
    assert server.asked == ["/file"]
    assert "not verified" in command("sources").text


def test_a_missing_page_is_one_message(command: Command, server: Server) -> None:
    registry(f"{server.url}/gone")
    assert_nothing_kept(command("fetch", "thing"), f"{server.url}/gone", "404")


def test_no_network_is_one_message(command: Command) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        registry(url)
        assert_nothing_kept(command("fetch", "thing"), url, "cannot be downloaded", "browser")


def test_by_hand_prints_what_to_do(command: Command, workdir: Path) -> None:
    registry("", url=None, how="Ask the authors.", sha256=None, size=None)
    assert_nothing_kept(command("fetch", "thing"), "by hand", "Ask the authors.", "thing.bin")
    file = Path("data/raw/thing.bin")
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    answer = command("fetch", "thing")
    assert answer.code == 0
    assert DIGEST in answer.text


def test_an_unknown_name_is_told_the_known_ones(command: Command, server: Server) -> None:
    registry(f"{server.url}/file")
    answer = command("fetch", "thong")
    assert answer.code == 2
    assert "no entry `thong`; there are thing" in answer.text
    assert "`demo` needs no download" in command("fetch", "demo").text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha265": "x"}, "unknown key `thing.sha265`; did you mean `sha256`?"),
        ({"sha256": "abc"}, "`thing.sha256` is 'abc'"),
        ({"how": "twice"}, "either `url` or `how`"),
        ({"url": None}, "either `url` or `how`"),
        ({"file": None}, "are those of a `file`"),
        ({"file": "../up"}, "`thing.file` is '../up'"),
        ({"url": "ftp://x/y"}, "`thing.url` is 'ftp://x/y'"),
        ({"licence": None}, "`thing.licence` is None"),
    ],
)
def test_a_bad_registry_names_the_key(workdir: Path, changes: dict[str, Any], words: str) -> None:
    registry("http://localhost/file", **changes)
    with pytest.raises(UserError) as caught:
        read_registry(REGISTRY)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_a_registry_that_is_no_mapping_is_refused(workdir: Path, text: str) -> None:
    Path("downloads.yaml").write_text(text)
    with pytest.raises(UserError, match=r"downloads\.yaml: "):
        read_registry(Path("downloads.yaml"))


def test_the_registry_is_that_of_the_directory_or_else_of_the_checkout(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry_file() == ROOT / REGISTRY
    registry("http://localhost/file")
    assert registry_file() == REGISTRY
    REGISTRY.unlink()
    monkeypatch.setattr(hclmp, "__file__", str(workdir / "site" / "hclmp" / "__init__.py"))
    with pytest.raises(UserError, match=r"neither in the working directory nor at .*site/config"):
        fetch("thing", workdir)


def test_the_advice_for_the_materials_project_is_that_of_its_page() -> None:
    """Without --config the command wants a run before it."""
    advised = "hclmp pull-dos --config config/config.yaml"
    assert f"`{advised}`" in (read_registry(ROOT / REGISTRY)["materials_project"].how or "")
    assert f"\n{advised}\n" in (ROOT / "docs/materials-project.md").read_text()


def test_the_projects_registry_is_valid_and_invents_no_hash() -> None:
    """Only the generator, whose bytes the project has, has a hash."""
    entries = read_registry(ROOT / REGISTRY)
    assert {name for name, entry in entries.items() if entry.sha256 or entry.size} == {"pretrained"}
    assert entries["plates"].licence == entries["materials_project"].licence == "CC BY 4.0"


def test_sources_lists_every_source_of_the_configuration(command: Command) -> None:
    answer = command("sources")
    assert answer.code == 0
    words = {
        word
        for section in (TargetsConfig, DosConfig, GanConfig)
        for word in get_args(section.model_fields["source"].annotation)
    } - {"none", "train"}
    assert {"demo", "table", "materials_project", "reference", "plates", "pretrained"} == words
    for word in words:
        assert f"│ {word} │" in answer.text
    for word in ("CC BY 4.0", "MP_API_KEY", "e2106042118", "hclmp fetch pretrained"):
        assert word in answer.text
