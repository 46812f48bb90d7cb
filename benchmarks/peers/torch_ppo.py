"""A plain PyTorch loop of PPO on the original MinAtar: reads the part of an epoch, answers with its two times.

Argument: filters. Reads lines `games` (random actions, no network), `play` or `train` (a whole epoch), and
answers each with wall and processor seconds. The network plays all games in one batch; each game takes its turn in
Python, as the package has it, without the actions that the original repeats by chance. Network and constants are those
of configs/minatar_ppo.py at rho 0.
"""

import os
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from minatar import Environment
from torch.distributions import Categorical

FILTERS = int(sys.argv[1])
GAMES, TURNS, PASSES, BATCH = 64, 128, 4, 1024
DISCOUNT, GAE_LAMBDA, CLIP, ENTROPY = 0.99, 0.95, 0.2, 0.01
ACTIONS = (0, 1, 3)  # of the original's six: stay, left, right
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class ActorCritic(torch.nn.Module):
    """The network of `flatwide.models.actor_critic` for a board."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(4, FILTERS, 3),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(64 * FILTERS, 8 * FILTERS),
            torch.nn.ReLU(),
        )
        self.policy, self.value = torch.nn.Linear(8 * FILTERS, 3), torch.nn.Linear(8 * FILTERS, 1)

    def forward(self, boards):
        hidden = self.body(boards)
        return self.policy(hidden), self.value(hidden)[:, 0]


def boards_of(games) -> torch.Tensor:
    return torch.from_numpy(np.stack([game.state() for game in games])).permute(0, 3, 1, 2).float()


def play_at_random(games, generator):
    """Play TURNS of all games, and look at each board."""
    for _ in range(TURNS):
        for game, action in zip(games, generator.integers(len(ACTIONS), size=GAMES), strict=True):
            if game.act(ACTIONS[action])[1]:
                game.reset()
        boards = boards_of(games)
    return boards


@torch.no_grad()
def play(network, games, boards):
    """Play TURNS of all games; advantages follow the paper of GAE. (A game of 1,000 turns is not stopped here.)"""
    seen = torch.zeros(TURNS, GAMES, 4, 10, 10)
    chosen = torch.zeros(TURNS, GAMES, dtype=torch.long)
    log_probabilities, values = torch.zeros(TURNS, GAMES), torch.zeros(TURNS + 1, GAMES)
    rewards, is_over = torch.zeros(TURNS, GAMES), torch.zeros(TURNS, GAMES)
    for turn in range(TURNS):
        seen[turn] = boards
        logits, values[turn] = network(boards)
        policy = Categorical(logits=logits)
        chosen[turn] = policy.sample()
        log_probabilities[turn] = policy.log_prob(chosen[turn])
        for index, (game, action) in enumerate(zip(games, chosen[turn].tolist(), strict=True)):
            reward, ended = game.act(ACTIONS[action])
            rewards[turn, index], is_over[turn, index] = reward, ended
            if ended:
                game.reset()
        boards = boards_of(games)
    values[TURNS] = network(boards)[1]
    advantages, later = torch.zeros(TURNS, GAMES), torch.zeros(GAMES)
    for turn in reversed(range(TURNS)):
        goes_on = 1 - is_over[turn]
        surprise = rewards[turn] + DISCOUNT * goes_on * values[turn + 1] - values[turn]
        advantages[turn] = later = surprise + DISCOUNT * GAE_LAMBDA * goes_on * later
    flat = [part.flatten(0, 1) for part in (seen, chosen, log_probabilities, advantages, advantages + values[:-1])]
    return boards, flat


def update(network, optimizer, seen, chosen, before, advantages, returns):
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    logits, values = network(seen)
    policy = Categorical(logits=logits)
    ratios = torch.exp(policy.log_prob(chosen) - before)
    gains = torch.min(ratios * advantages, ratios.clamp(1 - CLIP, 1 + CLIP) * advantages)
    loss = -gains.mean() + 0.5 * ((values - returns) ** 2).mean() - ENTROPY * policy.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    network = ActorCritic()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    games = [Environment("breakout", sticky_action_prob=0.0) for _ in range(GAMES)]
    for seed, game in enumerate(games):
        game.seed(seed)
        game.reset()
    boards, generator = boards_of(games), np.random.default_rng(0)
    print(f"torch {torch.__version__}, MinAtar {version('MinAtar')}", flush=True)
    for line in sys.stdin:
        part = line.strip()
        wall, processor = time.perf_counter(), time.process_time()
        if part == "games":
            boards = play_at_random(games, generator)
        else:
            boards, played = play(network, games, boards)
            for _ in range(PASSES if part == "train" else 0):
                for rows in torch.randperm(GAMES * TURNS).split(BATCH):
                    update(network, optimizer, *(leaf[rows] for leaf in played))
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


main()
