"""Damaged files, and whether the report and the table name them while they are in place."""

import contextlib
import io
import random
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatwide import cli
from flatwide.runs.table import collect_rows, read_runs

_HOW = ("flipped a byte of", "cut", "emptied", "zeroed the end of", "deleted", "changed a number in", "swapped")
_WEIGHTS = (1, 1, 1, 1, 1, 3, 3)  # the last two leave valid files, which only a checksum or an identity tells apart
_OF_A_RUN = ("config.json", "result.json", "metrics.csv", "measurements/*", "checkpoints/*", "snapshots/*")


class Damage(NamedTuple):
    """A damaged file: what it held, and what it holds now (None: it was deleted)."""

    path: Path
    how: str
    before: bytes
    after: bytes | None

    def __str__(self) -> str:
        """Name the damage and the file."""
        return f"{self.how} {self.path.parent.name}/{self.path.name}"

    @property
    def run(self) -> Path:
        """The folder of the run, for a file of one."""
        return self.path.parent if (self.path.parent / "config.json").exists() else self.path.parents[1]

    def is_left(self) -> bool:
        """Whether nothing has written the file since."""
        return (self.path.read_bytes() if self.path.exists() else None) == self.after

    def undo(self) -> None:
        """Put the file back, as from a backup."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.before)

    def is_read_by_reports(self) -> bool:
        """Whether the table of runs depends on the file as it is: it needs the end of a run, and not its checkpoints.

        A run without its config is no run, and one without its result is not done: neither is damaged.
        """
        if self.path.parent.name == "measurements":
            is_there = self.path.with_suffix(".json").exists()
        elif self.path.name == "metrics.csv":
            is_there = (self.run / "result.json").exists()
        else:
            is_there = self.path.name in ("config.json", "result.json") and self.after is not None
        return is_there and (self.run / "config.json").exists() and not self._means_the_same()

    def _means_the_same(self) -> bool:
        """Whether only white space at the end of a JSON file is lost."""
        return self.path.suffix == ".json" and self.after is not None and self.before.strip() == self.after.strip()


def damage(workdir: Path, choose: random.Random) -> list[Damage]:
    """Damage a file as disks, editors and power failures do, or swap two; empty if there is none, or they are equal.

    Each kind of file is as likely as another, however many there are; of checkpoints the newest is taken.
    """
    kinds = [sorted(filter(Path.is_file, workdir.glob(f"runs/*/{kind}"))) for kind in _OF_A_RUN]
    others = {path for path in workdir.rglob("*") if path.is_file() and path.name != "lock"}
    kinds = [paths for paths in [*kinds, sorted(others.difference(*kinds))] if paths]
    if not kinds:
        return []
    path = choose.choice(choose.choice(kinds))
    if path.name.startswith("step_"):
        path = max(path.parent.glob("step_*.npz"))  # the one from which the run resumes
    how = choose.choices(_HOW, _WEIGHTS)[0]
    before = path.read_bytes()
    if how == "swapped":
        alike = [other for other in _alike(workdir, path) if other.read_bytes() != before]
        if not alike:
            return []
        partner = choose.choice(alike)
        pair = [(path, before, partner.read_bytes()), (partner, partner.read_bytes(), before)]
        damages = [Damage(item, how, was, now) for item, was, now in pair]
    else:
        damages = [Damage(path, how, before, _changed(path, how, before, choose))]
    for item in damages:
        item.path.unlink()
        if item.after is not None:
            item.path.write_bytes(item.after)
    return [item for item in damages if item.after != item.before]


def _alike(workdir: Path, path: Path) -> list[Path]:
    """List the files with which one may be confused: of the same name in other runs, or of another epoch of its run."""
    if "runs" not in path.relative_to(workdir).parts:
        return []
    run = workdir / Path(*path.relative_to(workdir).parts[:2])
    same_name = [other for other in workdir.glob(f"runs/*/{path.relative_to(run)}") if other != path]
    stem = re.split(r"[-_]", path.stem)[0]
    return sorted(same_name) + sorted(other for other in path.parent.glob(f"{stem}[-_]*{path.suffix}") if other != path)


def _changed(path: Path, how: str, before: bytes, choose: random.Random) -> bytes | None:
    at = choose.randrange(len(before)) if before else 0
    if how == "deleted":
        return None
    if how == "changed a number in":
        return _with_another_number(before, choose) if path.suffix == ".npz" else _with_another_digit(before, choose)
    return {
        "flipped a byte of": before[:at]
        + bytes([byte ^ (1 << choose.randrange(8)) for byte in before[at : at + 1]])
        + before[at + 1 :],
        "cut": before[:at],
        "emptied": b"",
        "zeroed the end of": before[:at] + bytes(len(before) - at),
    }[how]


def _with_another_digit(before: bytes, choose: random.Random) -> bytes:
    digits = [match.start() for match in re.finditer(rb"[1-9]", before)]
    if not digits:
        return before
    at = choose.choice(digits)
    other = choose.choice([digit for digit in b"123456789" if digit != before[at]])
    return before[:at] + bytes([other]) + before[at + 1 :]


def _with_another_number(before: bytes, choose: random.Random) -> bytes:
    """Add 1 to a number of an npz, whose archive stays valid."""
    try:
        with zipfile.ZipFile(io.BytesIO(before)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
            comment = archive.comment
    except zipfile.BadZipFile:  # it was damaged before
        return before
    arrays = [name for name in members if name.endswith(".npy") and np.load(io.BytesIO(members[name])).size]
    name = choose.choice(arrays)
    array = np.load(io.BytesIO(members[name]))
    array.flat[choose.randrange(array.size)] += 1
    written, content = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    with zipfile.ZipFile(written, "w") as archive:
        archive.comment = comment
        for member, old in members.items():
            archive.writestr(zipfile.ZipInfo(member), content.getvalue() if member == name else old)
    return written.getvalue()


def unnamed(workdir: Path, damages: list[Damage]) -> list[str]:
    """List what the report in the terminal, or the table of runs, does not say of the damages that are in place.

    One file of each damaged run must be named: what depends on it is not read any more.
    """
    first: dict[Path, bytes] = {}
    for damage in damages:
        first.setdefault(damage.path, damage.before)
    # A file that was swapped twice holds its own content again.
    left = [damage for damage in damages if damage.is_left() and damage.after != first[damage.path]]
    shown = [damage for damage in left if damage.is_read_by_reports()]
    if not shown:
        return []
    problems = " ".join(str(row.get("problem")) for row in collect_rows(read_runs(workdir)))
    page, printed = workdir.with_name(f"{workdir.name}.html"), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = cli.main(["report", str(workdir), f"--output={page}"])
    except Exception as error:  # the command would end with a traceback, whatever the error
        return [f"report raises {error!r}"]
    page.unlink(missing_ok=True)
    missing = [] if code == 0 else [f"report ends with {code}: {printed.getvalue().strip()}"]
    for run in sorted({damage.run for damage in shown}):
        of_run = [str(damage.path) for damage in shown if damage.run == run]
        for where, text in (("the table", problems), ("report", printed.getvalue())):
            if not any(path in text for path in of_run):
                missing.append(f"{where} does not name {of_run[0]}")
    return missing
