"""HTML reports of a work directory, or of a CSV table of runs that were trained elsewhere."""

from flatwide.report.csv_table import write_table
from flatwide.report.workdir import write

__all__ = ["write", "write_table"]
