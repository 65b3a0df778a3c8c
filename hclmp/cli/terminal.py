"""Tables and sentences on the output, whole also where it is narrower or no terminal at all."""

from rich.console import Console
from rich.table import Table

from hclmp.progress import quiet

WIDEST = 1000  # columns of a table, at most


def show_table(table: Table) -> None:
    """Print a table; lines longer than the output is wide rather than values cut off."""
    wanted = Console(width=WIDEST).measure(table).maximum
    Console(width=max(wanted, Console().width)).print(table)


def note(text: str) -> None:
    """Say what ``--quiet`` leaves out."""
    if not quiet():
        say(text)


def say(text: str) -> None:
    """Print a sentence on one line, as it is: paths and formulas are no markup."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
