"""An argument parser that raises ConfigError."""

import argparse
from typing import NoReturn

from flatwide.config.schema import ConfigError


class FlagParser(argparse.ArgumentParser):
    """An argument parser with `--help`; its errors are ConfigErrors that end with the usage."""

    def __init__(self, how_to_use: str):
        super().__init__(add_help=False, allow_abbrev=False)
        self._how_to_use = how_to_use
        self.add_argument("--help", "-h", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the message and the usage."""
        raise ConfigError([f"{message}; usage:\n{self._how_to_use}"])
