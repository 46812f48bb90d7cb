"""The user's function that gets the metrics of a run while it trains, `config.on_metrics`."""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flatwide import registry
from flatwide.config import one_line
from flatwide.runs import logs


def caller(name: str | None, run: Path) -> Callable[[int, Mapping[str, Any]], None]:
    """Return a function of a step and its values that calls the user's; an error in that is reported once, as a line.

    Args:
      name: `path/to/file.py:function`, called with `run`, the step, and a dict of the values that are not None.
      run: the run directory.
    """
    if name is None:
        return lambda step, row: None
    function, file, reported = registry.find("config.on_metrics", name, {}), str(registry.own_file(name)), set()

    def call(step: int, row: Mapping[str, Any]) -> None:
        plain = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        try:
            function(run, step, {key: value for key, value in plain.items() if value is not None})
        except (Exception, SystemExit) as error:  # it is no reason to lose a run
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f" (line {frame.lineno})" for frame in frames if frame.filename == file]
            message = f"{name}{lines[-1] if lines else ''}: {type(error).__name__}: {one_line(error)}"
            if message not in reported:
                logs.say(f"warning: config.on_metrics={message}. {run.name} goes on without it.")
            reported.add(message)

    return call
