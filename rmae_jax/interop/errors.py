"""What goes wrong when weights change hands."""


class InteropError(ValueError):
    """Weights that cannot be read, written or made to fit; the message is one line that says which and why."""


def listed(names: list[str], most: int = 6) -> str:
    """Names for a message, a long list cut short."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
