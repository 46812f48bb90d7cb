"""A parser of flags whose faults are those of a config."""

import argparse
from typing import NoReturn

from flatwide.config.schema import ConfigError


class FlagParser(argparse.ArgumentParser):
    """Parse flags, `--help` among them; a fault is a ConfigError that ends in how the command is used."""

    def __init__(self, how_to_use: str):
        super().__init__(add_help=False, allow_abbrev=False)
        self._how_to_use = how_to_use
        self.add_argument("--help", "-h", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong, with the usage."""
        raise ConfigError([f"{message}; usage:\n{self._how_to_use}"])
