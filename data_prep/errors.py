"""Exceptions of data_prep and of datasets. Each message is one line that says what is wrong and what to do."""


class PrepError(Exception):
    """A problem that the user has to fix: an option, an input file or the output folder."""


class DatasetError(PrepError, ValueError):
    """A dataset that is missing, incomplete or corrupt; the message names the file."""


class RecordError(DatasetError):
    """A record whose bytes are corrupt, however often they are read; the other records can be used."""


def one_line(error: Exception) -> str:
    """Returns an error's message without line breaks, or its class name if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
