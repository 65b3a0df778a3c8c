"""The fenced blocks of the README and the documentation, with what their pages say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")),
    "config/README.md",
    "benchmarks/README.md",
]
RUN = ("bash", "console", "python", "diff")  # executed; so is any block with a title: it is a file
SHOWN = ("yaml", "text", "json")  # only shown, but YAML is read

FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\s*$')
MARKER = re.compile(r"^ *<!-- (?:(?P<slow>slow)|not run: (?P<not_run>[^>]+)) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file, relative to the checkout.
        line: of its first fence, from 1.
        title: the file that its text is, if any.
        not_run: why it is not executed here, as the comment above it says.
        slow: whether it takes more than a minute, as the comment above it says.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None = None
    slow: bool = False

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is to be executed, now or when the slow ones are."""
        return (self.language in RUN or self.title is not None) and self.not_run is None

    def commands(self) -> str:
        """The lines to type: of a console, those behind a prompt."""
        if self.language != "console":
            return self.text
        lines = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return "\n".join(lines) + "\n"

    def shown_output(self) -> list[str]:
        """What a console shows between its prompts; ``...`` stands for lines left out."""
        if self.language != "console":
            return []
        lines = [line.rstrip() for line in self.text.splitlines() if not line.startswith("$ ")]
        return [line for line in lines if line.strip() not in ("", "...")]


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """The blocks of a page, in order.

    Raises:
        ValueError: a fence that is not closed or not understood, or a comment that marks nothing.
    """
    lines = ((ROOT / page).read_text() if text is None else text).splitlines()
    found: list[Block] = []
    marker: re.Match[str] | None = None
    inside: re.Match[str] | None = None
    start, body = 0, list[str]()
    for number, line in enumerate(lines, start=1):
        if inside is not None:
            if line.strip() == "```":
                found.append(_block(page, start, inside, marker, body))
                inside, marker = None, None
            else:
                body.append(line.removeprefix(inside["indent"]))
        elif line.lstrip().startswith("```"):
            inside = FENCE.match(line)
            if inside is None:
                raise ValueError(f"{page}:{number}: a fence that is not understood: {line}")
            start, body = number, []
        elif marker is not None and line.strip():
            raise ValueError(f"{page}:{number}: the comment above marks no block")
        elif line.strip():
            marker = MARKER.match(line)
            if marker is None and re.match(r" *<!-- *(slow|not run)", line):
                raise ValueError(f"{page}:{number}: a comment that is not understood: {line}")
    if inside is not None or marker is not None:
        raise ValueError(f"{page}: its last block is not closed, or a comment marks no block")
    return found


def _block(
    page: str, line: int, fence: re.Match[str], marker: re.Match[str] | None, body: list[str]
) -> Block:
    return Block(
        page=page,
        line=line,
        language=fence["language"],
        title=fence["title"],
        text="\n".join(body) + "\n",
        not_run=marker["not_run"] if marker else None,
        slow=bool(marker and marker["slow"]),
    )
