"""The command line: where it starts, and where a user's mistake becomes one message."""

import errno
import logging
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from hclmp.cli import steps
from hclmp.cli.commands import COMMANDS
from hclmp.errors import UserError
from hclmp.pipeline.jobs import STEPS, module_of

FULL = (errno.ENOSPC, errno.EDQUOT)
BARRED = (errno.EACCES, errno.EPERM, errno.EROFS)
app = typer.Typer(
    name="hclmp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in (*COMMANDS, *(getattr(steps, module_of(step)) for step in STEPS)):
    app.command()(_command)  # named as the function, with `-` for `_`


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2.

    Who reads the output through a pipe may stop when they have enough, as `head` does: that ends
    the command, and is no fault.
    """
    _log_to_stderr()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a closed pipe is to be noticed here, not when Python ends
    except (BrokenPipeError, SystemExit) as end:
        # Typer and Rich turn a closed pipe into exit code 1
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to write
        sys.exit(0)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (*FULL, *BARRED):
            raise
        message = _of_the_system(error) if isinstance(error, OSError) else str(error)
        Console(stderr=True, soft_wrap=True, highlight=False).print("error:", message, markup=False)
        sys.exit(2)


def _of_the_system(error: OSError) -> str:
    """What the user can do about a full disk, or a file that may not be read or written."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in FULL:
        return f"{place}no space left on the disk. Free some and repeat the command."
    return (
        f"{place}{error.strerror}. Choose another folder, or ask its owner for the permission to "
        "read and write there."
    )


def _log_to_stderr() -> None:
    """Bare messages on a terminal; with the time in a log file."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(
            console=Console(stderr=True), show_time=False, show_path=False, show_level=False
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("hclmp")
    logger.handlers = [handler]  # one, however often this is called
    logger.setLevel(logging.INFO)


@app.callback()
def options(
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print only results, warnings and errors."),
    ] = False,
) -> None:
    """Predict vectors of correlated materials properties from composition: H-CLMP(T).

    Exit codes: 0 done; 1 a fault of hclmp itself, or a problem that `hclmp doctor` found;
    2 a mistake that the message says how to mend; 130 interrupted.
    """
    if quiet:
        logging.getLogger("hclmp").setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
