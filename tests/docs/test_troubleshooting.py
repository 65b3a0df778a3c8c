"""Every message that the troubleshooting page quotes still stands in the source."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
QUOTED = [quote.strip() for quote in re.findall(r"^\| ``(?!`)(.+?)(?<!`)`` \|", PAGE, re.MULTILINE)]


def texts() -> list[str]:
    """All texts of the source, with ``…`` for what is filled in."""
    found = []
    for file in [*ROOT.glob("hclmp/**/*.py"), *ROOT.glob("workflow/**/*.py")]:
        tree = ast.parse(file.read_text())
        names = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(_part(part, names) for part in node.values))
    return found


def _part(part: ast.expr, names: dict[str, str]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return names.get(part.value.id, "…") if isinstance(part.value, ast.Name) else "…"


TEXTS = texts()


def stands_in(quote: str, text: str) -> bool:
    """Whether the parts of a quote between its ``…`` come one after another in a text."""
    place = 0
    for part in quote.split("…"):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


@pytest.mark.parametrize("quote", QUOTED)
def test_the_message_stands_in_the_source(quote: str) -> None:
    assert max(map(len, quote.split("…"))) > 10, "too short to be looked for"
    assert any(stands_in(quote, text) for text in TEXTS), "no such message any more"


def test_all_rows_with_a_message_are_read() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ``")]
    assert len(QUOTED) == len(rows) > 40


def test_a_message_that_is_nowhere_is_found_out() -> None:
    assert not any(stands_in("…: no such sheet of paper", text) for text in TEXTS)
    assert stands_in("a … c", "a b c")
    assert not stands_in("c … a", "a b c")
