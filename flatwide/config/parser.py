"""An argument parser that raises ConfigError."""

import argparse
import re
from typing import NoReturn

from flatwide.config.schema import ConfigError


class HelpShown(Exception):
    """The help that a command was asked for instead of its work."""


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises what `--help` shows, and errors as ConfigErrors that end with the usage.

    Args:
      how_to_use: the usage, one line or several. example: one command, shown at the end of the help.
    """

    def __init__(self, how_to_use: str, *, description: str = "", example: str = ""):
        super().__init__(
            usage=how_to_use,
            description=description,
            epilog=f"example:\n  {example}" if example else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self._how_to_use = how_to_use
        self.add_argument("--help", "-h", action="help", help="print this help and exit")

    def print_help(self, file: object = None) -> NoReturn:
        """Raise HelpShown with the help."""
        raise HelpShown(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message and the usage."""
        short = re.sub(r"(\S{80})\S{40,}", r"\1…", message)
        raise ConfigError([f"{short}; usage:\n{self._how_to_use}"])
