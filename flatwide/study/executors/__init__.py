"""Where workers run: a crew starts them, tells which have ended, and stops them; nothing else differs.

`CREWS` has one line an executor; what only a cluster needs is imported when a study uses one.
"""

from collections.abc import Callable
from importlib.util import find_spec

from flatwide.study.executors.crew import Crew, Ended, Site
from flatwide.study.executors.local import LocalCrew


def _slurm(site: Site) -> Crew:
    from flatwide.study.executors.slurm import SlurmCrew

    return SlurmCrew(site)


def _ray(site: Site) -> Crew:
    from flatwide.study.executors.ray import RayCrew

    return RayCrew(site)


CREWS: dict[str, Callable[[Site], Crew]] = {"local": LocalCrew, "slurm": _slurm, "ray": _ray}
_PACKAGES = {"slurm": "submitit", "ray": "ray"}  # each in the extra of the executor's name

__all__ = ["CREWS", "Crew", "Ended", "Site", "missing"]


def missing(executor: str) -> str:
    """Say what must be installed before an executor can be used, or ""."""
    package = _PACKAGES.get(executor)
    if package is None or find_spec(package) is not None:
        return ""
    return f"config.study.executor={executor!r} needs {package}: pip install 'flatwide[{executor}]'"
