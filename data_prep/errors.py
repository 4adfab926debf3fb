"""The error that ends a job."""


class PrepError(Exception):
    """Something that the user has to change; the message says what and how, in one line."""
