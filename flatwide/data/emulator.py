"""Games of the Arcade Learning Environment: an emulator on the host, that can be saved and restored at any instant."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flatwide.data.files import DataError

SCREEN = (210, 160)
SIDE = 84  # pixels of what the network sees
STACKED = 4  # of the latest screens are seen at once
SEEN = (SIDE, SIDE, STACKED)
FRAME_SKIP = 4  # frames for which an action is held
_CAPACITY = 16_384  # bytes for an emulator's state; it writes its random numbers as text, so lengths differ
_COLUMNS, _ROWS = 40, 5  # an output pixel covers 40/21 columns and 5/2 rows of a screen


@dataclass(frozen=True)
class Emulator:
    """A game as its cartridge gives it.

    rom: the name of a cartridge that ale-py ships, such as "breakout".
    repeat_action_probability: that the console ignores a frame's action and repeats the one before.
    longest: actions after which a game is stopped.
    """

    rom: str
    repeat_action_probability: float = 0.25
    longest: int = 27_000


class Turn(NamedTuple):
    """What an action of each game led to: points [N] as the game counts them, and whether the game is over [N]."""

    rewards: np.ndarray
    is_over: np.ndarray


class Consoles:
    """Games that are played side by side; where one is over, the next begins by itself.

    The consoles draw no random numbers: whoever plays brings the chances, so that what is saved is all there is.

    num_actions: how many actions do something in the game.
    observations: uint8 [N, 84, 84, 4], the latest screens in grey, the last one last. A screen is the lighter of an
      action's last two frames, pixel by pixel, since consoles draw some things on every second frame only; shrunk by
      averaging. The first screen of a game counts four times.

    Raises: DataError if ale-py is not installed.
    """

    def __init__(self, emulator: Emulator, num_games: int):
        self._emulator, self._consoles = emulator, [_switched_on(emulator) for _ in range(num_games)]
        self._actions = list(self._consoles[0].getMinimalActionSet())
        self.num_actions = len(self._actions)
        self._held = np.zeros(num_games, np.int32)  # the actions of the last frame
        self._frames = np.zeros((num_games, 2, *SCREEN), np.uint8)
        self.observations = np.zeros((num_games, *SEEN), np.uint8)
        for game in range(num_games):
            self._begin(game)
        self._look(np.ones(num_games, bool), np.ones(num_games, bool))

    def step(self, actions: np.ndarray, chances: np.ndarray, *, played: np.ndarray | None = None) -> Turn:
        """Take one action in each game.

        Args:
          actions: [N], integers in [0, num_actions).
          chances: [N, 4], uniform in [0, 1); where one is below `repeat_action_probability`, the console holds the
            action of the frame before for another frame.
          played: [N], the games that an action is taken in, while the others stand still; None for all.
        """
        played = np.ones(len(actions), bool) if played is None else played
        self._frames[:] = 0
        rewards, is_over = np.zeros(len(actions), np.float32), np.zeros(len(actions), bool)
        repeats = (chances < self._emulator.repeat_action_probability).tolist()
        for game in np.flatnonzero(played).tolist():
            console, action, held = self._consoles[game], int(actions[game]), int(self._held[game])
            for frame, is_repeated in enumerate(repeats[game]):
                held = held if is_repeated else action
                rewards[game] += console.act(self._actions[held])
                if console.game_over():
                    is_over[game], held = True, 0
                    self._begin(game)
                    break
                if frame >= FRAME_SKIP - 2:
                    console.getScreenGrayscale(self._frames[game, frame - FRAME_SKIP + 2])
            self._held[game] = held
        self._look(is_over, played)
        return Turn(rewards, is_over)

    def save(self) -> dict[str, np.ndarray]:
        """Return all that the games depend on: the consoles, the actions that they hold, and the screens seen."""
        saved, lengths = np.zeros((len(self._consoles), _CAPACITY), np.uint8), []
        for row, console in zip(saved, self._consoles, strict=True):
            written = np.frombuffer(console.cloneState(include_rng=True).serialize(), np.uint8)
            if len(written) > _CAPACITY:
                raise ValueError(f"a console's state has {len(written)} bytes; expected at most {_CAPACITY}.")
            row[: len(written)] = written
            lengths.append(len(written))
        return {
            "consoles": saved,
            "lengths": np.array(lengths, np.int32),
            "held": self._held.copy(),
            "observations": self.observations.copy(),
        }

    def restore(self, saved: dict[str, np.ndarray]) -> None:
        """Restore the state that `save` returned, in this or another process."""
        for console, row, length in zip(self._consoles, saved["consoles"], saved["lengths"].tolist(), strict=True):
            console.restoreState(_ale().ALEState(row[:length].tobytes()))
        self._held, self.observations = np.array(saved["held"]), np.array(saved["observations"])

    def _begin(self, game: int) -> None:
        self._consoles[game].reset_game()
        self._consoles[game].getScreenGrayscale(self._frames[game, 0])

    def _look(self, is_new: np.ndarray, played: np.ndarray) -> None:
        """Put the latest screens behind the earlier ones, in new arrays, since others may hold the old ones."""
        screens = shrink(np.maximum(self._frames[:, 0], self._frames[:, 1]))
        seen = np.empty_like(self.observations)
        seen[..., :-1], seen[..., -1] = self.observations[..., 1:], screens
        seen[is_new] = screens[is_new, ..., None]
        seen[~played] = self.observations[~played]
        self.observations = seen


def shrink(screens: np.ndarray) -> np.ndarray:
    """Bring screens [N, 210, 160] to [N, 84, 84], each pixel the mean over the area that it covers, in whole numbers.

    Equation: 5 rows become 2, with weights (2, 2, 1, 0, 0) and (0, 0, 1, 2, 2); 40 columns become 21 in the like way.
    """
    fives = screens.reshape(len(screens), -1, _ROWS, SCREEN[1]).astype(np.uint16)
    middle = fives[:, :, 2]
    upper, lower = 2 * (fives[:, :, 0] + fives[:, :, 1]) + middle, 2 * (fives[:, :, 3] + fives[:, :, 4]) + middle
    rows = np.stack([upper, lower], axis=2).reshape(len(screens), SIDE, SCREEN[1])
    first, weights = _columns()
    parts = [weight * rows[..., np.minimum(first + part, SCREEN[1] - 1)] for part, weight in enumerate(weights)]
    total = parts[0] + parts[1] + parts[2]
    whole = _ROWS * _COLUMNS  # 255 times this fits into 16 bits
    return ((total + np.uint16(whole // 2)) // np.uint16(whole)).astype(np.uint8)


@functools.cache
def _columns() -> tuple[np.ndarray, np.ndarray]:
    """Return the first column that each output pixel covers, [84], and its share of that and the next two, [3, 84]."""
    scale = _COLUMNS * SIDE // SCREEN[1]  # parts of a column
    starts = np.arange(SIDE) * _COLUMNS
    first = starts // scale
    edges = (first + np.arange(4)[:, None]) * scale
    covered = np.clip(edges[1:], starts, starts + _COLUMNS) - np.clip(edges[:-1], starts, starts + _COLUMNS)
    return first, covered.astype(np.uint16)


def digest(emulator: Emulator) -> str:
    """Digest a game: its cartridge, byte for byte, and how it is played and seen."""
    seen = f"{emulator} {SIDE} {STACKED} {FRAME_SKIP}".encode()
    return hashlib.sha256(_cartridge(emulator.rom).read_bytes() + seen).hexdigest()


def _switched_on(emulator: Emulator) -> Any:
    console = _ale().ALEInterface()
    console.setInt("random_seed", 0)  # of what the memory holds at first
    # Its own repeats depend on the action before, which its saved state leaves out.
    console.setFloat("repeat_action_probability", 0.0)
    console.setInt("max_num_frames_per_episode", FRAME_SKIP * emulator.longest)
    console.loadROM(_cartridge(emulator.rom))
    return console


def _cartridge(rom: str) -> Path:
    return Path(_ale().__file__).parent / "roms" / f"{rom}.bin"


@functools.cache
def _ale() -> Any:
    try:
        import ale_py
    except ImportError as error:
        raise DataError(
            f"ale-py, whose wheel holds the emulator and its games, cannot be imported ({error}); "
            "install it by pip install 'flatwide[atari]'."
        ) from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py
