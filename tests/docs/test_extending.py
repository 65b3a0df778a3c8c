"""docs/extending.md: a new source and a new model are one module and one line each."""

from __future__ import annotations

from tests.docs.blocks import blocks_of


def test_each_example_is_one_module_and_one_line() -> None:
    blocks = blocks_of("docs/extending.md")
    added = [
        sum(line.startswith("+") and not line.startswith("+++") for line in block.text.splitlines())
        for block in blocks
        if block.language == "diff"
    ]
    assert added == [1, 1], "lines that a new source and a new model add to existing files"
    modules = [b for b in blocks if b.language == "python"]
    assert len(modules) == 2
