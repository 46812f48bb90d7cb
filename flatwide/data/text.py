"""Texts for language models, in windows of which each token is predicted from those before it."""

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from flatwide.data import files
from flatwide.data.files import DataError
from flatwide.data.splits import Consecutive, fingerprint, overlapping
from flatwide.types import Array, Batch, Categories, Dataset

NUM_BYTES = 256
TEST_FRACTION = 0.1  # where nobody has made a split, the last tenth of the text is the test split
_SUFFIXES = (".txt", ".txt.gz", ".txt.xz")
# Modules of Python's standard library that have hardly changed for years; 200 kB of them are the embedded text.
_EMBEDDED, _EMBEDDED_BYTES = ("argparse", "difflib", "textwrap", "string", "statistics"), 200_000
_BIN_DTYPE = np.dtype("<u2")
_DIGESTED = 2**28  # bytes; of a larger file the fingerprint reads this much, in evenly spaced blocks
_BLOCK = 2**20


class _Tokens(NamedTuple):
    """A text as tokens.

    vocab_size: how many tokens there are. num_bytes: of each token of the vocabulary; None if each is one, or if it is
    not known. files: name -> content of what turns texts into these tokens.
    """

    train: np.ndarray
    test: np.ndarray
    vocab_size: int
    num_bytes: np.ndarray | None = None
    files: tuple[tuple[str, str], ...] = ()


def text(
    *,
    data_dir: str | None = None,
    context_length: int = 128,
    tokenizer: str = "bytes",
    vocab_size: int | None = None,
) -> Dataset:
    """Load a text as windows of tokens.

    An example is a window; each epoch cuts the training text at another offset, a function of the seed. The test text
    is scored in windows that overlap by half, each token once, so that all but the first have half a window before.

    Args:
      data_dir: a file, or a folder of .txt files, gzipped (.txt.gz) or compressed by xz (.txt.xz) or not: `train` and
        `val`, or any others, which are joined in the order of their names, and whose last tenth is the test text. None:
        200 kB of this Python's standard library.
      context_length: tokens of a window, L.
      tokenizer: "bytes"; "bpe", byte-pair encoding that is trained on the training text; or "none": `train.bin` and
        `val.bin` in data_dir are tokens, as nanoGPT writes them (16 bits each).
      vocab_size: of "bpe" and "none", which need it.
    Returns: inputs [L] are tokens, and targets [L] the tokens that follow them; with "bpe" also num_bytes [L] of the
      targets. Test windows have weights [L].
    Raises: DataError.
    """
    tokens = {"bytes": _bytes, "bpe": _pairs, "none": _ready}[tokenizer](data_dir, vocab_size)
    for name, part in (("training", tokens.train), ("test", tokens.test)):
        if len(part) <= context_length:
            raise DataError(
                f"config.data_dir={data_dir!r}: {len(part):,} tokens of {name} text; expected more than "
                f"config.context_length={context_length}. Give more text, or shorter windows."
            )
    num_windows = (len(tokens.train) - 1) // context_length
    train = _predicted(tokens, tokens.train[: num_windows * context_length + 1])
    letters = "\n".join(content for _, content in tokens.files).encode()
    rows = {name: array.reshape(num_windows, context_length) for name, array in train.items()}
    return Dataset(
        train=Consecutive(rows),
        test=overlapping(_predicted(tokens, tokens.test), context_length),
        prepare=as_integers,
        example=Categories((context_length,), tokens.vocab_size),
        num_outputs=tokens.vocab_size,
        fingerprint=fingerprint([_sampled(tokens.train), _sampled(tokens.test), np.frombuffer(letters, np.uint8)]),
        files=tokens.files,
    )


def as_integers(batch: Batch, key: Array | None, *, train: bool) -> Batch:
    """Widen the tokens, which are stored in as few bits as they need."""
    del key, train
    return batch | {name: jax.numpy.asarray(batch[name], jax.numpy.int32) for name in ("inputs", "targets")}


def _predicted(tokens: _Tokens, part: np.ndarray) -> dict[str, np.ndarray]:
    """Put beside each token the one that follows it."""
    arrays = {"inputs": part[:-1], "targets": part[1:]}
    return arrays if tokens.num_bytes is None else arrays | {"num_bytes": tokens.num_bytes[part[1:]]}


def _bytes(data_dir: str | None, vocab_size: int | None) -> _Tokens:
    if vocab_size not in (None, NUM_BYTES):
        raise DataError(
            f"config.vocab_size={vocab_size} with config.tokenizer='bytes': there are {NUM_BYTES} bytes; expected None."
        )
    train, test = (np.frombuffer(part, np.uint8) for part in _texts(data_dir))
    return _Tokens(train=train, test=test, vocab_size=NUM_BYTES)


def _pairs(data_dir: str | None, vocab_size: int | None) -> _Tokens:
    """Train a byte-pair encoding on the training text, and encode both."""
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise DataError(
            "config.tokenizer='bpe' needs the package tokenizers: pip install 'flatwide[text]', or set "
            "config.tokenizer=bytes."
        ) from error
    if vocab_size is None or not NUM_BYTES < vocab_size <= 2**16:
        raise DataError(
            f"config.vocab_size={vocab_size} with config.tokenizer='bpe': expected an integer in ({NUM_BYTES}, 65536]."
        )
    try:
        texts = [part.decode() for part in _texts(data_dir)]
    except UnicodeDecodeError as error:
        raise DataError(
            f"config.data_dir={data_dir!r}: byte {error.start:,} of the text is not UTF-8 ({error.reason}), which "
            "config.tokenizer='bpe' needs; save it as UTF-8, or set config.tokenizer=bytes."
        ) from error
    encoder = tokenizers.Tokenizer(models.BPE())
    encoder.pre_tokenizer, encoder.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    encoder.train_from_iterator(texts[0].splitlines(keepends=True), trainer)
    train, test = (np.array(encoder.encode(part).ids, np.uint16) for part in texts)
    size = encoder.get_vocab_size()
    # A token is spelled with one character for each of its bytes.
    num_bytes = np.array([len(encoder.id_to_token(token) or "") for token in range(size)], np.uint16)
    files = (("tokenizer.json", encoder.to_str()),)
    return _Tokens(train=train, test=test, vocab_size=size, num_bytes=num_bytes, files=files)


def _ready(data_dir: str | None, vocab_size: int | None) -> _Tokens:
    """Map the files of tokens into memory."""
    if data_dir is None or vocab_size is None:
        raise DataError(
            f"config.tokenizer='none' with config.data_dir={data_dir!r} and config.vocab_size={vocab_size}: expected "
            "the folder of train.bin and val.bin, and how many tokens there are, such as 50257."
        )
    parts = []
    for path in files.complete(data_dir, (), ("train.bin", "val.bin"), "both, tokens of 16 bits each"):
        if (size := path.stat().st_size) % _BIN_DTYPE.itemsize or not size:
            raise DataError(f"{path}: {size} bytes; expected tokens of 16 bits each. Get it again.")
        part = np.memmap(path, _BIN_DTYPE, mode="r")
        if (largest := int(part.max())) >= vocab_size:
            raise DataError(f"{path}: has token {largest}; expected tokens below config.vocab_size={vocab_size}.")
        parts.append(part)
    return _Tokens(train=parts[0], test=parts[1], vocab_size=vocab_size)


def _texts(data_dir: str | None) -> tuple[bytes, bytes]:
    """Read the training and the test text."""
    if data_dir is None:
        library = Path(sysconfig.get_path("stdlib"))
        return _parted(b"".join(files.read(library / f"{name}.py") for name in _EMBEDDED)[:_EMBEDDED_BYTES], data_dir)
    paths = files.listed(data_dir, _SUFFIXES)
    roles = [[path for path in paths if path.name.partition(".")[0] == role] for role in ("train", "val")]
    if all(roles):
        return _joined(roles[0]), _joined(roles[1])
    if not paths:
        has_tokens = Path(data_dir).expanduser().joinpath("train.bin").is_file()
        hint = "set config.tokenizer=none for its train.bin" if has_tokens else "give a folder of texts, or one file"
        raise DataError(f"config.data_dir={data_dir!r}: has no {', '.join(_SUFFIXES)} file; {hint}.")
    return _parted(_joined(paths), data_dir)


def _joined(paths: Sequence[Path]) -> bytes:
    return b"".join(map(files.read, paths))


def _parted(content: bytes, data_dir: str | None) -> tuple[bytes, bytes]:
    """Cut off the last tenth, not within a character of UTF-8."""
    if not content:
        raise DataError(f"config.data_dir={data_dir!r}: the text is empty; give some text.")
    cut = len(content) - round(TEST_FRACTION * len(content))
    cut += next((i for i in range(4) if content[cut + i : cut + i + 1] < b"\x80" or content[cut + i] >= 0xC0), 0)
    return content[:cut], content[cut:]


def _sampled(tokens: np.ndarray) -> list[np.ndarray]:
    """Return what identifies a text: its length, and all of its tokens, or evenly spaced blocks of very many."""
    each = _BLOCK // tokens.itemsize
    num_blocks = -(-len(tokens) // each)
    every = max(1, -(-tokens.nbytes // _DIGESTED))
    blocks = [tokens[block * each : (block + 1) * each] for block in range(0, num_blocks, every)]
    return [np.array(len(tokens)), *(blocks if every > 1 else [tokens])]
