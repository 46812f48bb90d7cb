"""Where a report is written: never over a file of somebody else's."""

from pathlib import Path

from flatwide import registry
from flatwide.runs import disk
from flatwide.runs.directory import write_atomically

MARKER = '<meta name="generator" content="flatwide'
_MOST_FOLDERS = 100  # in a path; making a thousand would take Python more calls within calls than it allows
_FOLDER_MARKER = ".flatwide"


def write_page(path: Path, page: str) -> None:
    """Write a page, atomically.

    Raises: ValueError if there is a folder, or a file that flatwide has not written.
    """
    if path.is_dir():
        raise ValueError(f"--output={path}: it is a folder; name a file in it, such as {path / 'report.html'}.")
    if path.exists() and not _is_ours(path):
        raise ValueError(f"{path}: flatwide did not write this file, so it is kept; choose another with --output=.")
    write_atomically(path, page)


def folder_beside(page: Path) -> Path:
    """Name the folder of the files that go with a page: as the page, without its ending."""
    if len(page.parts) > _MOST_FOLDERS:
        raise ValueError(f"--output={registry.shown(str(page))}: expected at most {_MOST_FOLDERS} folders in a path.")
    if not page.name:
        raise ValueError(f"--output={page}: it is a folder; name a file in it, such as {page / 'report.html'}.")
    return page.with_suffix("") if page.suffix else page.with_name(f"{page.name}.files")


def claim_folder(folder: Path) -> None:
    """Make a folder for files that are written again and again.

    Raises: ValueError if there is one with files that flatwide has not written.
    """
    marker = folder / _FOLDER_MARKER
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: flatwide did not write it, so it is kept; choose another name with --output=.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _is_ours(path: Path) -> bool:
    with disk.open_regular(path) as file:
        return MARKER.encode() in file.read(4096)
