"""Files with a JSON value on each line."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from data_prep.errors import DatasetError
from data_prep.storage.paths import AnyPath


def read_json_lines(path: AnyPath, is_entry: Callable[[object], bool], what: str) -> Iterator[Any]:
    """Yields the JSON value of each line of a file.

    Args:
      path: the file.
      is_entry: returns whether a value has the expected form.
      what: describes the expected form in the error message.

    Raises:
      DatasetError: the file cannot be read, or a line is malformed; names the first such line.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = None
                if not is_entry(entry):
                    raise DatasetError(f"{path}: line {number} is not {what}; copy the file again")
                yield entry
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
