"""Episodes of a policy in an environment, each kept in a file of its own, so that a killed run loses one."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from uwm.files import replacing
from uwm.planning.policies import Picture, Policy


class Environment(Protocol):
    """Gymnasium's loop. An observation has its `picture` and that of the `goal`, (S, S, 3) uint8 each; `info`
    holds `distance_mm` and `success`."""

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]: ...
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]: ...


@dataclass(frozen=True)
class Episode:
    """What happened in T steps: `distances` (T+1,) mm before and after each, `actions` (T, A), `pictures`
    (T+1, S, S, 3) and the goal's; `calls` and processor `seconds` (T,) of each decision, and for each step
    the state (T, 1+N, D) that was expected after it, NaN where nothing was planned."""

    seed: int
    success: bool
    distances: NDArray[np.float64]
    actions: NDArray[np.float64]
    calls: NDArray[np.int64]
    seconds: NDArray[np.float64]
    pictures: Picture
    goal: Picture
    imagined: NDArray[np.float32]

    def save(self, path: Path, identity: str) -> None:
        """Writes it whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, identity=np.array(identity), **vars(self))

    @classmethod
    def load(cls, path: Path, identity: str) -> "Episode | None":
        """What `save` wrote with the same identity; None for another one, or a file that is none."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["identity"]) != identity:
                    return None
                parts = {name: file[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, BadZipFile):
            return None
        return cls(**{**parts, "seed": int(parts["seed"]), "success": bool(parts["success"])})


def run_episode(environment: Environment, policy: Policy, seed: int) -> Episode:
    """One episode: the same seed gives the same pictures and actions, byte for byte."""
    observed, info = environment.reset(seed)
    policy.reset(observed.picture, observed.goal, seed)
    pictures, distances = [observed.picture], [info["distance_mm"]]
    actions, calls, seconds, imagined = [], [], [], []
    done = False
    while not done:
        clock = time.process_time()
        decision = policy.act(observed.picture)
        seconds.append(time.process_time() - clock)
        observed, _, terminated, truncated, info = environment.step(decision.action)
        pictures.append(observed.picture)
        distances.append(info["distance_mm"])
        actions.append(decision.action)
        calls.append(decision.calls)
        imagined.append(None if decision.imagined is None else decision.imagined[0].float().numpy())
        done = terminated or truncated
    return Episode(
        seed=seed,
        success=bool(info["success"]),
        distances=np.array(distances),
        actions=np.stack(actions),
        calls=np.array(calls),
        seconds=np.array(seconds),
        pictures=np.stack(pictures),
        goal=observed.goal,
        imagined=_filled(imagined),
    )


def _filled(states: list[Any]) -> NDArray[np.float32]:
    known = next((state for state in states if state is not None), np.zeros((0, 0), np.float32))
    empty = np.full_like(known, np.nan)
    return np.stack([empty if state is None else state for state in states])


class Player:
    """Episodes by their seeds: each from its file in a folder, or played now and kept there.

    `make` gives environment and policy once an episode is missing. `identity` names all that the episodes
    depend on: files of another one do not count.
    """

    def __init__(self, folder: Path, identity: str, make: Callable[[], tuple[Environment, Policy]]) -> None:
        self.folder, self.identity, self.make = folder, identity, make
        self.made: tuple[Environment, Policy] | None = None

    def episode(self, seed: int) -> Episode:
        """The episode of a seed."""
        path = self.folder / f"{seed}.npz"
        episode = Episode.load(path, self.identity)
        if episode is None:
            self.made = self.made or self.make()
            with one_thread():
                episode = run_episode(*self.made, seed)
            episode.save(path, self.identity)
        return episode


_kept: list[Player] = []


def kept_player(folder: Path, identity: str, make: Callable[[], tuple[Environment, Policy]]) -> Player:
    """The player of this process, kept while it is asked for episodes of the same folder and identity."""
    if not _kept or (_kept[-1].folder, _kept[-1].identity) != (folder, identity):
        _kept[:] = [Player(folder, identity, make)]
    return _kept[-1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of processes that share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def held_distances(episodes: Iterable[Episode], steps: int) -> NDArray[np.float64]:
    """Distances (n, steps + 1) in mm; an episode that has ended stays where it is."""
    rows = [np.pad(e.distances, (0, steps + 1 - len(e.distances)), mode="edge") for e in episodes]
    return np.stack(rows)
