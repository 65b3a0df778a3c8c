"""The one exception for a user's mistake."""

from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: the message names the file, the row, the value and the remedy.

    The command line prints the message alone (no traceback) and exits with code 2.
    """


def join_some(items: Iterable[object], *, most: int = 5) -> str:
    """Join items for a message, at most ``most`` of them, and say how many more there are."""
    texts = [str(item) for item in items]
    shown = ", ".join(texts[:most])
    return shown if len(texts) <= most else f"{shown} and {len(texts) - most} more"
