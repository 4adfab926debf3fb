"""The error that ends a job, and how errors of others are told."""


class PrepError(Exception):
    """Something that the user has to change; the message says what and how, in one line."""


def one_line(error: Exception) -> str:
    """An error's message without line breaks; its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
