"""The command line of whatever follows a recipe: --config=FILE --config.KEY=VALUE and flags of its own."""

import sys
from collections.abc import Mapping

from absl import flags


def parse(argv: list[str], required: Mapping[str, str]) -> list[str]:
    """Parses flags, "config" among them; ends Python with one line where something is wrong with them.

    Args:
      argv: the command line.
      required: names of flags that must be given, each with an example of a value.
    """
    try:
        positional = flags.FLAGS(argv)
        for name, example in required.items():
            if not flags.FLAGS[name].value:
                raise flags.Error(f"--{name} is required, for example --{name}={example}")
        flags.FLAGS["config"].value.keys()  # a file that could not be read is complained of only here
        if positional[1:]:
            raise flags.Error(f"unexpected argument {positional[1]!r}; flags begin with --")
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    return positional
