"""Tables exported from W&B and MLflow, with names and rows as in other tables."""

from typing import Any

# The column of states and the state of a finished run: as in W&B's exports, and as in those of MLflow's search_runs.
_FINISHED = {"State": "finished", "status": "FINISHED"}
_PREFIXES = ("params.", "config.", "metrics.", "summary.")  # a setting comes before a metric of the same name


def plain(table: Any, name: str) -> tuple[Any, list[str]]:
    """Return the finished runs of an exported table, without prefixes of columns, and notes; other tables unchanged.

    Args:
      name: of the file, for messages.
    Raises: ValueError if no run has finished.
    """
    state = next((column for column, done in _FINISHED.items() if done in set(table.get(column, ()))), None)
    if state is None:
        if "run_id" in table.columns or {"Name", "State"} <= set(table.columns):
            raise ValueError(f"{name}: no run of this export has finished; export it again when one has.")
        return table, []
    is_done = table[state] == _FINISHED[state]
    others = ", ".join(sorted(set(table[state][~is_done].map(str))))
    left_out = f"{name}: {(~is_done).sum()} of {len(table)} runs are left out; their {state} is {others}."
    names: dict[str, str] = {}
    for prefix in _PREFIXES:
        for column in filter(lambda column: column.startswith(prefix), table.columns):
            short = column.removeprefix(prefix)
            if short not in table.columns and short not in names.values():
                names[column] = short
    return table[is_done].rename(columns=names), [] if is_done.all() else [left_out]
