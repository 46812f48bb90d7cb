"""Atari's Breakout: the real game, which the host plays."""

import functools

from flatwide.data import emulator, pixels, played

# Breakout-v5: a quarter of all frames repeats the action before, and a game ends after half an hour.
BREAKOUT = emulator.Emulator("breakout", repeat_action_probability=0.25, longest=27_000)


def _breakout() -> played.Source:
    """Set up Breakout-v5: five lives, and 1, 4 or 7 points a brick, of which training sees the sign.

    An action is held for 4 frames; the network sees the latest 4 screens, 84 x 84 pixels in grey. Losing a life ends
    nothing, and a game begins without random moves: the network itself must fire to get a ball.

    Source: Machado et al. (2018), Revisiting the Arcade Learning Environment, for the repeated actions; Flax's PPO
      example for the rest.
    """
    return played.Source(
        game=BREAKOUT,
        shape=emulator.SEEN,
        num_actions=4,  # stay, fire, right, left
        prepare=pixels.scaling(largest=255),
        fingerprint=emulator.digest(BREAKOUT),
    )


atari_breakout = functools.partial(played.load, _breakout)
