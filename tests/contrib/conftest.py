"""The study of the tests of executors."""

from command_line import alone, study

__all__ = ["alone", "study"]
