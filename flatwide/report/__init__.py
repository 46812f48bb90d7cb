"""One HTML file that answers, shows and can be repeated from: of a work directory, or of anybody's table."""

from flatwide.report.own_table import write_table
from flatwide.report.workdir import write

__all__ = ["write", "write_table"]
