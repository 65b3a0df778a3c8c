"""Tables and sentences on the terminal, which are never cut off, and lists in options."""

from rich.console import Console
from rich.table import Table

from hclmp.progress import quiet

WIDEST = 1000  # columns of a table, at most


def listed(text: str) -> list[str]:
    """The parts of an option that is separated by commas, such as ``Fe,Co``."""
    return [part.strip() for part in text.split(",") if part.strip()]


def show_table(table: Table) -> None:
    """Print a table; lines longer than the output is wide rather than values cut off."""
    wanted = Console(width=WIDEST).measure(table).maximum
    Console(width=max(wanted, Console().width)).print(table)


def note(text: str) -> None:
    """Print a sentence, unless ``--quiet``."""
    if not quiet():
        say(text)


def say(text: str) -> None:
    """Print a sentence on one line, without markup: it may contain paths and formulas."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
