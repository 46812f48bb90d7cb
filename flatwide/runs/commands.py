"""What trained the runs of a work directory: each command with its config, kept in `W/commands` when it starts."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flatwide.config import digest
from flatwide.runs import disk
from flatwide.runs.directory import write_json


class Command(NamedTuple):
    """A command that trained runs.

    arguments: what followed `python main.py`. config_path, config_text: the file that `--config` named, as it was.
    started: when this command was first given, as ISO 8601 in UTC.
    """

    arguments: tuple[str, ...]
    config_path: str
    config_text: str
    started: str


def keep(
    workdir: Path | str, arguments: Sequence[str], *, config_path: str, config_text: str, config: Mapping[str, Any]
) -> Path:
    """Write down a command, unless the same one is kept already.

    Args:
      arguments: what followed `python main.py`.
      config_path, config_text: the config file, and what it says.
      config: what that file and the flags make together: the resolved fields of a run, or those of a study with its
        axes. It holds what the file imports from others, too.
    Returns: `W/commands/<time>-<digest>.json`; no file of that folder is ever written again.
    """
    content = {"arguments": [*arguments], "config_path": config_path, "config_text": config_text}
    content |= {"config": json.loads(json.dumps(config, default=str))}
    folder, name = Path(workdir) / "commands", digest(content)
    if kept := sorted(folder.glob(f"*-{name}.json")):
        return kept[0]
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}-{name}.json"
    write_json(path, content | {"started": now.isoformat()})
    return path


def read(workdir: Path | str) -> list[Command]:
    """Read the commands that a work directory keeps, in the order in which they were first given.

    A file that is damaged, or that somebody else has put there, is left out.
    """
    found = []
    for path in sorted((Path(workdir) / "commands").glob("*.json")):
        try:
            content = json.loads(disk.read(path) or b"")
            texts = {name: str(content[name]) for name in ("config_path", "config_text", "started")}
            found.append(Command(arguments=tuple(map(str, content["arguments"])), **texts))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
