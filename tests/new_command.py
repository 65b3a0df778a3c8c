"""``hclmp new`` as the tests call it."""

from __future__ import annotations

from hclmp.config import Config, load_config
from tests.conftest import Answer, Command


def new(command: Command, *options: object, table: str = "table.csv") -> Answer:
    return command("new", "mine", "--targets", table, "--left-out", "O", *options)


def made(command: Command, *options: object) -> tuple[Config, str]:
    """The configuration that ``hclmp new`` wrote, and what it said."""
    answer = new(command, *options)
    assert answer.code == 0, answer.text
    return load_config("mine/config/config.yaml"), answer.text
