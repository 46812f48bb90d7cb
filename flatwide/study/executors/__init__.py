"""Where workers run: a crew starts them, tells which have ended, and stops them; nothing else differs.

`CREWS` has one line an executor.
"""

from collections.abc import Callable

from flatwide.study.executors.crew import Crew, Ended, Site
from flatwide.study.executors.local import LocalCrew

CREWS: dict[str, Callable[[Site], Crew]] = {"local": LocalCrew}

__all__ = ["CREWS", "Crew", "Ended", "Site"]
