"""Progress of long loops: a bar with loss and time left on a terminal, a few lines in a log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)
LINES_IN_A_LOG = 10


class Advance(Protocol):
    """Tell that ``done`` of the loop's turns are over, with a word on how it goes."""

    def __call__(self, done: int, note: str = "") -> None: ...


def silent(done: int, note: str = "") -> None:
    """Progress that nobody is told of."""


def quiet() -> bool:
    """Whether nothing but results, warnings and errors is asked for: ``--quiet``."""
    return not log.isEnabledFor(logging.INFO)


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show the progress of a loop of ``total`` turns on stderr."""
    console = Console(stderr=True)
    if quiet():
        yield silent
        return
    if not console.is_terminal:
        yield _logged(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note="": bar.update(task, completed=done, note=note)


def _logged(what: str, total: int) -> Advance:
    every = max(1, total // LINES_IN_A_LOG)
    before = 0

    def advance(done: int, note: str = "") -> None:
        nonlocal before
        if done // every > before // every or done == total:
            log.info("%s %d/%d %s", what, done, total, note)
        before = done

    return advance
