"""Flag parsing of commands that take a recipe: --config=FILE --config.KEY=VALUE and the command's own flags."""

import sys
from collections.abc import Mapping

from absl import flags


def parse_flags(argv: list[str], required: Mapping[str, str]) -> list[str]:
    """Parses the flags, among them "config"; on an error, prints one line and exits.

    Args:
      argv: the command line.
      required: names of the required flags, each with an example value for the error message.

    Returns:
      The arguments that are not flags, the program's name first.
    """
    try:
        positional = flags.FLAGS(argv)
        for name, example in required.items():
            if not flags.FLAGS[name].value:
                raise flags.Error(f"--{name} is required, for example --{name}={example}")
        flags.FLAGS["config"].value.keys()  # raises if the file could not be read
        if positional[1:]:
            raise flags.Error(f"unexpected argument {positional[1]!r}; flags begin with --")
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    return positional
