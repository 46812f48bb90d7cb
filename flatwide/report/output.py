"""Places of report files, never those of files that flatwide did not write."""

from pathlib import Path

from flatwide import registry
from flatwide.runs import disk

MARKER = '<meta name="generator" content="flatwide'
_MOST_FOLDERS = 100  # in a path; creating a thousand nested folders exceeds Python's recursion limit
_FOLDER_MARKER = ".flatwide"


def check_page(path: Path) -> None:
    """Check that a page can be written, which is done before the work on it too.

    Raises: ValueError if the path is a folder, a file that flatwide did not write, or in a folder that cannot be made.
    """
    folder_beside(path)
    if path.is_dir():
        raise ValueError(f"--output={path}: it is a folder; name a file in it, such as {path / 'report.html'}.")
    if path.exists() and not (path.is_file() and _is_ours(path)):
        raise ValueError(
            f"--output={path}: flatwide did not write this file and will not replace it; choose another --output=."
        )
    if not path.absolute().parent.parent.is_dir():
        raise ValueError(f"--output={path}: there is no folder {path.parent.parent}; make it first.")
    disk.check_folder(path.parent, f"--output={path}")


def folder_beside(page: Path) -> Path:
    """Return the folder of the files of a page: the path of the page without its suffix."""
    if len(page.parts) > _MOST_FOLDERS:
        raise ValueError(f"--output={registry.shown(str(page))}: expected at most {_MOST_FOLDERS} folders in a path.")
    if not page.name:
        raise ValueError(f"--output={page}: it is a folder; name a file in it, such as {page / 'report.html'}.")
    return page.with_suffix("") if page.suffix else page.with_name(f"{page.name}.files")


def claim_folder(folder: Path) -> None:
    """Create a folder for files that are rewritten by each report.

    Raises: ValueError if it has files that flatwide did not write.
    """
    marker = folder / _FOLDER_MARKER
    if folder.exists() and not marker.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: flatwide did not write it and will not change it; choose another --output=.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _is_ours(path: Path) -> bool:
    with disk.open_regular(path) as file:
        return MARKER.encode() in file.read(4096)
