"""The commands that trained the runs of a work directory `W`, stored with their configs in `W/commands`."""

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide.config import digest
from flatwide.runs import disk
from flatwide.runs.directory import write_json


class Command(NamedTuple):
    """A command that trained runs.

    arguments: those after `python main.py`. config_path, config_text: the file named by `--config`, and its text then.
    started: when this command was first run, as ISO 8601 in UTC. config: the fields of the run, or of the study.
    """

    arguments: tuple[str, ...]
    config_path: str
    config_text: str
    started: str
    config: Mapping[str, Any] = {}


def keep(
    workdir: Path | str, arguments: Sequence[str], *, config_path: str, config_text: str, config: Mapping[str, Any]
) -> Path:
    """Store a command, unless the same one is stored already.

    Args:
      arguments: those after `python main.py`.
      config_path, config_text: the config file, and its text.
      config: the result of the file, its imports and the flags: the resolved fields of a run, or those of a study with
        its axes.
    Returns: `W/commands/<time>-<digest>.json`; files in that folder are never overwritten.
    """
    content = {"arguments": [*arguments], "config_path": config_path, "config_text": config_text}
    content |= {"config": json.loads(json.dumps(config, default=str))}
    folder, name = Path(workdir) / "commands", digest(content)
    if stored := sorted(folder.glob(f"*-{name}.json")):
        return stored[0]
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}-{name}.json"
    write_json(path, content | {"started": now.isoformat()})
    return path


def with_axes(arguments: Sequence[str], axes: Mapping[str, str], *, workdir: Path | None = None) -> str:
    """Write a recorded command of a study with other axes in place of its own, as one line for a shell.

    Args:
      axes: field -> its values as a flag has them, such as `(0,0.1)`. workdir: another one; None is that recorded.
    """
    flags = {f"--config.study.axes.{name}": values for name, values in axes.items()}
    replaced = {*flags, *(["--workdir"] if workdir else [])}
    kept = [argument for argument in arguments if argument.partition("=")[0] not in replaced]
    front = [f"--workdir={workdir}"] if workdir else []
    return shlex.join(["python", "main.py", *front, *kept, *(f"{flag}={text}" for flag, text in flags.items())])


def read(workdir: Path | str) -> list[Command]:
    """Read the stored commands of a work directory, in the order in which they were first run.

    Damaged and foreign files are left out.
    """
    commands = []
    for path in sorted((Path(workdir) / "commands").glob("*.json")):
        try:
            content = json.loads(disk.read(path) or b"")
            texts = {name: str(content[name]) for name in ("config_path", "config_text", "started")}
            config = content["config"] if isinstance(content.get("config"), dict) else {}  # a run's is stored as text
            commands.append(Command(arguments=tuple(map(str, content["arguments"])), **texts, config=config))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return commands
