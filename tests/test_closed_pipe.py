"""`hclmp ... | head`: who stops reading ends the command, which is no fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fixtures/model_v1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["version"],  # written when the command ends
        ["sources"],  # by Rich
        ["--help"],  # by Typer
        ["-q", "predict", str(FOLDER), *["Fe0.3Ti0.5W0.2"] * 200, "--json"],  # more than a buffer
    ],
)
def test_a_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    program = [sys.executable, "-m", "hclmp.cli.main", *arguments]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
    assert running.returncode == 0, said
    assert "Broken" not in said
    assert "Traceback" not in said
    assert "Exception" not in said
