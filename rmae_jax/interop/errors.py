"""The error of weight conversion, and how its messages list names."""


class InteropError(ValueError):
    """Error for weights that cannot be read, written or converted; its message is one line that gives the reason."""


def join_names(names: list[str], most: int = 6) -> str:
    """Joins names for a message; only the first `most` of a longer list are named."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
