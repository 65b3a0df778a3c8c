"""The site is built without a warning, and its pages ask for nothing on the network."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Fetched(HTMLParser):
    """What a browser fetches for a page, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "link" and found.get("rel") in ("canonical", "prev", "next"):
            return
        if address := found.get(FETCHED.get(tag, "")):
            self.addresses.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-6000:]
    return folder


def test_every_page_of_the_navigation_is_built(site: Path) -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    nav = text.split("\nnav:")[1].split("\ntheme:")[0]
    pages = re.findall(r"^ *- .*?([\w-]+)\.md$", nav, re.MULTILINE)
    assert len(pages) > 15
    for page in pages:
        assert (site / f"{page}.html").is_file()


def test_the_pages_that_are_kept_elsewhere_are_theirs(site: Path) -> None:
    commands = (site / "commands.html").read_text()
    for command in ("pull-dos", "predict", "new"):
        assert f"hclmp {command}" in commands
    assert "refit_epochs" in (site / "configuration.html").read_text()
    assert "Predictions for your own table" in (site / "index.html").read_text()
    assert "formula_column" in (site / "api.html").read_text()


def test_a_page_asks_for_nothing_on_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert fetched.addresses, f"{page}: no style, no script?"
        outside = [a for a in fetched.addresses if re.match(r"(https?:)?//", a)]
        assert not outside, f"{page.name} fetches {outside}"
    for sheet in site.rglob("*.css"):
        outside = re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']+", sheet.read_text())
        assert not outside, f"{sheet.name} fetches {outside}"


def test_the_configuration_of_the_site_fails_on_warnings() -> None:
    loaded = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert loaded["strict"] is True
    assert loaded["theme"]["font"] is False, "no fonts of Google's"
