"""The errors of data_prep and of datasets. Each message is one line that says what is wrong and what to do."""


class PrepError(Exception):
    """Something that the user has to change: an option, an input file, the output folder."""


class DatasetError(PrepError, ValueError):
    """A dataset is missing, incomplete or corrupt; the message names the file."""


class RecordError(DatasetError):
    """The bytes of one record are corrupt, however often they are read; the other records can be used."""


def one_line(error: Exception) -> str:
    """Returns an error's message without line breaks, or its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
