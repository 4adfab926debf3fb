"""Flag parsing of commands that take a recipe: --config=FILE --config.KEY=VALUE and the command's own flags."""

import sys
from collections.abc import Mapping
from pathlib import Path

import ml_collections
from absl import flags

from data_prep.storage.paths import local_path

_PACKAGE = Path(__file__).parent
# The folder of configs/: the checkout's, or the one to which setup.py copies it in a wheel.
RECIPES = _PACKAGE.parent if (_PACKAGE.parent / "configs" / "rmae_b.py").is_file() else _PACKAGE / "recipes"


def parse_flags(argv: list[str], required: Mapping[str, str]) -> list[str]:
    """Parses the flags, among them "config"; on an error, prints one line and exits.

    Args:
      argv: the command line. In any current folder, configs/NAME.py is this project's recipe unless such a file exists.
      required: names of the required flags, each with an example value for the error message.

    Returns:
      The arguments that are not flags, the program's name first.
    """
    try:
        positional = flags.FLAGS(_find_recipe(argv))
        for name, example in required.items():
            if flags.FLAGS[name].value in (None, "", []):
                raise flags.Error(f"--{name} is required, for example --{name}={example}")
        flags.FLAGS["config"].value.keys()  # raises if the file could not be read
        if not isinstance(flags.FLAGS["config"].value, ml_collections.ConfigDict):
            raise flags.Error("get_config of the recipe must return an ml_collections.ConfigDict")
        if positional[1:]:
            raise flags.Error(f"unexpected argument {positional[1]!r}; flags begin with --")
    except (ImportError, SyntaxError) as error:
        sys.exit(f"error: the recipe cannot be loaded: {' '.join(str(error).split())}")
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        text = error
        while text.args and isinstance(text.args[0], Exception):  # an unknown key of the recipe
            text = text.args[0]
        text = text.args[0] if isinstance(text, KeyError) else text  # str(KeyError) quotes the message
        sys.exit(f"error: {' '.join(str(text).split())}")
    return positional


def _find_recipe(argv: list[str]) -> list[str]:
    """Replaces the value of --config by the path of the recipe, and lets recipes import those in configs/."""
    argv = list(argv)
    for number, argument in enumerate(argv):
        flag, separator, value = argument.partition("=")
        if flag in ("--config", "-config") and (separator or number + 1 < len(argv)):
            path = local_path(value if separator else argv[number + 1])
            if not path.exists() and (RECIPES / path).is_file():
                path = RECIPES / path
            if not path.exists() and ":" not in path.name:  # FILE:ARGUMENT passes an argument to get_config
                raise flags.Error(f"{path}: no such file; give a recipe, for example --config=configs/rmae_tiny.py")
            argv[number : number + 1 if separator else number + 2] = [f"--config={path}"]
            ours = path.resolve().is_relative_to(RECIPES)  # another package of the user may also be named configs
            sys.path.insert(0 if ours else len(sys.path), str(RECIPES))
            break
    return argv
