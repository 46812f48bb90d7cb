"""Executors: each has a crew that starts workers, reports which have ended, and stops them; nothing else differs.

`EXECUTORS` has one line per executor. Everything specific to it is in its file, which is imported only if a study
uses it.
"""

from flatwide import registry
from flatwide.study.executors.crew import Crew, Ended, Site
from flatwide.study.executors.placement import Share

EXECUTORS: dict[str, str] = {
    "local": "flatwide.study.executors.local:LocalCrew",
    "slurm": "flatwide.study.executors.slurm:SlurmCrew",
    "ray": "flatwide.contrib.ray:RayCrew",
}

__all__ = ["EXECUTORS", "Crew", "Ended", "Share", "Site", "find"]


def find(name: str) -> type[Crew]:
    """Import the crew of an executor, or that of the user's file.

    Raises: ValueError if the name is unknown.
    """
    crew: type[Crew] = registry.find("config.study.executor", name, EXECUTORS)  # type: ignore[assignment]
    return crew
