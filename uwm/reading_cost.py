"""What the data takes before a training, reckoned by rates that `tests/bench/data.py` measured once.

They are of videos like those of SSv2 (clips of 4 s) and Ego4D (long ones); the in-domain set's are of 13 of
its episodes.
"""

from collections.abc import Sequence

from uwm.data.simulation.suite import Suite
from uwm.stages.world_model import PretrainRecipe

STORED_PAIR = 60 * 1024 / 240**2  # bytes of a pair in shards of quality 90, for a short side squared
DECODED_ALONE = {"ssv2": 32.9, "ego4d": 3.3}  # pairs a second of one core, each pair decoded by itself
# Seconds of one core for a clip of 4 s, and for 1e9 bytes of long video: to list its pairs, to show it in a
# data card.
LISTED = 0.015, 3.0
SHOWN = 0.045, 4.9
CLIPS_SHOWN = 200
IN_DOMAIN_EPISODE = 0.99e6, 3.3  # bytes, and seconds of one core, of an episode of the in-domain set


def stored(recipe: PretrainRecipe, corpora: Sequence[str]) -> dict[str, str]:
    """What the shards of a recipe take; nothing where it reads none of the quality that was measured."""
    if recipe.shards != 90 or recipe.pairs is None:
        return {}
    gigabytes = STORED_PAIR * recipe.short_side**2 * recipe.pairs * len(corpora) / 1e9
    hours = sum(recipe.pairs / DECODED_ALONE[name] for name in corpora) / 3600
    return {"shards": f"{gigabytes:.0f} GB on disk, {hours:.1f} core hours to make them, once"}


def looked_at() -> dict[str, str]:
    """Lists of pairs and data cards: both read every byte of the videos that they are of."""
    listed = 100_000 * LISTED[0] / 3600, 1000 * LISTED[1] / 3600
    return {
        "data card": f"{CLIPS_SHOWN * SHOWN[0]:.0f} s of a core for {CLIPS_SHOWN} short clips, "
        f"{SHOWN[1]:.1f} s a GB of long videos",
        "lists of pairs": f"{listed[0]:.1f} core hours for 100,000 short clips, "
        f"{listed[1]:.1f} a TB of long videos, once",
    }


def made_here() -> dict[str, str]:
    """The in-domain set of Figures 4 and 5."""
    episodes = len(Suite().takes())
    size, seconds = (one * episodes for one in IN_DOMAIN_EPISODE)
    return {"in-domain set": f"{size / 1e9:.1f} GB on disk, {seconds / 3600:.1f} core hours to make it, once"}
