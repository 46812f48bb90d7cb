"""Data sets of the Hugging Face hub, from the hub, its local cache or a local copy."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flatwide.data import images
from flatwide.data.files import DataError
from flatwide.data.splits import Resident, fingerprint

_SECONDS_TO_ANSWER = 3
_ROWS = 1000
_INSTALL = "reading from there needs pip install 'flatwide[hub]'"


class Images(NamedTuple):
    """A data set of images with one class each.

    repository: its name on the hub, or a local directory of the same layout (Parquet files, or folders of images).
    inputs, targets: the columns of images and classes.
    train, test: the splits.
    """

    repository: str
    inputs: str = "image"
    targets: str = "label"
    train: str = "train"
    test: str = "test"


def load_images(
    source: Images, *, shape: tuple[int, ...], num_classes: int, name: str, files: str
) -> tuple[Resident, Resident]:
    """Load all images into memory.

    Args:
      shape: height, width and channels (1 or 3) that every image must have.
      num_classes: K; the targets must be in [0, K).
      name, files: as for `tables`.
    Returns: train, test; the inputs are uint8.
    Raises: DataError if the data are unavailable or not as described.
    Cost: some 20 us of one core for each small image, at every start.
    """
    parts = []
    for table, split in zip(_tables_of(source, name=name, files=files), (source.train, source.test), strict=True):
        location = f"{source.repository!r}, split {split!r}"
        cells = _cells(table, source.inputs, location=location)
        inputs = np.empty((len(table), *shape), np.uint8)
        for start in range(0, len(table), _ROWS):  # looking up a slice of rows costs as much as looking up one
            for index, cell in enumerate(cells[start : start + _ROWS][source.inputs], start):
                where = f"{location}, row {index}"
                image = images.decode_small(_content(cell), is_color=shape[-1] == 3, location=where)
                if image.shape != shape:
                    actual, expected = (" x ".join(map(str, sizes)) for sizes in (image.shape, shape))
                    raise DataError(f"{where}: an image of {actual}; expected {expected}.")
                inputs[index] = image
        parts.append(
            Resident({"inputs": inputs, "targets": _classes(table, source.targets, num_classes, location=location)})
        )
    return parts[0], parts[1]


def open_images(source: Images, *, name: str, files: str) -> tuple[images.Encoded, images.Encoded, int]:
    """Open images that are read when they are needed; return train, test, and the number of classes.

    Args and raises: as `tables`.
    """
    train, test = _tables_of(source, name=name, files=files)
    names = getattr(train.features[source.targets], "names", None)
    num_classes = len(names) if names else int(np.max(train.with_format("numpy")[source.targets][:])) + 1
    splits = _encoded(train, source, num_classes, source.train), _encoded(test, source, num_classes, source.test)
    return *splits, num_classes


def _tables_of(source: Images, *, name: str, files: str) -> list[Any]:
    """Open the train and the test table of a source; see `tables`."""
    columns, splits = (source.inputs, source.targets), (source.train, source.test)
    return tables(source.repository, splits=splits, columns=columns, name=name, files=files)


def tables(repository: str, *, splits: Sequence[str], columns: Sequence[str], name: str, files: str) -> list[Any]:
    """Open splits of a data set, as tables of the `datasets` library that stay on disk.

    Args:
      repository: a name on the hub, or a local directory.
      splits: which ones.
      columns: what they must have.
      name: `config.dataset`, for messages.
      files: what to put into `config.data_dir` instead, for messages.
    Returns: one `datasets.Dataset` a split.
    Raises: DataError if they are unavailable; without a network within seconds.
    """
    problem = f"config.dataset={name!r}: config.data_dir is not set, and {repository!r}"
    advice = f"Put {files} into a folder, and set config.data_dir to that folder."
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DataError(f"{problem} is on the Hugging Face hub: {_INSTALL}. {advice}") from error
    is_local = Path(repository).is_dir()
    is_offline = is_local or not _is_reachable()
    try:
        with _offline() if is_offline else contextlib.nullcontext():
            opened = [datasets.load_dataset(repository, split=split) for split in splits]
    except Exception as error:  # the library and its dependencies raise errors of many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if is_offline and not is_local:
            reason = "no network, or HF_HUB_OFFLINE is set, and it is not in the local cache"
        raise DataError(f"{problem} cannot be had from the Hugging Face hub ({reason}). {advice}") from error
    for table, split in zip(opened, splits, strict=True):
        if missing := [column for column in columns if column not in table.column_names]:
            raise DataError(
                f"{repository!r}, split {split!r}: has no column {', '.join(missing)}; "
                f"its columns are {', '.join(table.column_names)}."
            )
    return opened


def _is_reachable() -> bool:
    """Ask the hub once: the library itself would try for half a minute, and longer where packets are dropped."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
    except Exception:  # of either HTTP library that it has used, or of a proxy
        return False
    return True


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Let the library use what is on this machine only."""
    from datasets import config
    from huggingface_hub import constants

    switches: tuple[Any, ...] = (config, constants)  # each copies the environment's once, when it is imported
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def _cells(table: Any, column: str, *, location: str) -> Any:
    """Keep one column of a table, its images encoded."""
    import datasets

    if not isinstance(table.features[column], datasets.Image):
        raise DataError(f"{location}: the column {column!r} holds {table.features[column]}; expected images.")
    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _content(cell: dict[str, Any]) -> bytes:
    """Return an encoded image, whether the table holds its bytes or its path."""
    return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def _classes(table: Any, column: str, num_classes: int, *, location: str) -> np.ndarray:
    labels = np.asarray(table.select_columns([column]).with_format("numpy")[column][:])
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise DataError(f"{location}: the column {column!r} holds {table.features[column]}; expected integer classes.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{location}: labels from {labels.min()} to {labels.max()}; expected classes in [0, {num_classes}) "
            "(a label -1 marks a split whose labels are kept secret)."
        )
    return labels.astype(np.int32)


def _encoded(table: Any, source: Images, num_classes: int, split: str) -> images.Encoded:
    location = f"{source.repository!r}, split {split!r}"
    targets = _classes(table, source.targets, num_classes, location=location)
    cells = _cells(table, source.inputs, location=location)
    return images.Encoded(
        content=lambda index: _content(cells[index][source.inputs]),
        location=lambda index: f"{location}, row {index}",
        targets=targets,
        digest=fingerprint([targets, _sizes(table, source.inputs)]),
    )


def _sizes(table: Any, column: str) -> np.ndarray:
    """Return the number of bytes of each encoded image, without reading them."""
    import pyarrow.compute as pc

    cells = table.data.column(column)
    sizes = pc.binary_length(pc.struct_field(cells, "bytes"))  # type: ignore[attr-defined]
    if sizes.null_count == 0:
        return np.asarray(sizes)
    return np.array([os.path.getsize(path) for path in pc.struct_field(cells, "path").to_pylist()])  # type: ignore
