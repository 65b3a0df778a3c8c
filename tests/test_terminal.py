"""What is printed is whole and as it is, however narrow the output."""

from __future__ import annotations

import pytest
from rich.table import Table

from hclmp.cli.terminal import say, show_table


def test_a_table_wider_than_the_output_is_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    cells = ["Co0.33333Fe0.33333Ti0.33333", "0.0264 ± 0.14", "<0.001", "yes", "!"]
    table = Table(*["composition", "alpha_5", "feasible", "front", ""])
    table.add_row(*cells)
    show_table(table)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "Co0" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == cells


def test_a_sentence_is_on_one_line_and_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = "a/folder/with/a/rather/long/name/[red]best[/red].csv: 20 compositions of [eV]"
    say(text)
    assert capsys.readouterr().out == f"{text}\n"
