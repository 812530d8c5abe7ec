"""EPIC-KITCHENS-100: the participant of each video, `P01/videos/P01_01.MP4`."""

import re

from uwm.data.found import Found
from uwm.data.splits import split_by_group
from uwm.data.tree import Tree
from uwm.errors import UserError

PARTICIPANT = re.compile(r"(?:^|/)(P\d\d)(?=[/_])")
VIDEO = re.compile(r"(?:^|/)P\d\d_\d{2,3}(?:\.[^/]*|$)")


def epic(name: str, tree: Tree, forced: bool) -> Found | None:
    """Split by participant, where every video is called as EPIC-KITCHENS calls its own."""
    named = [path for path in tree.videos if VIDEO.search(path)]
    if not named or (not forced and len(named) < len(tree.videos)):
        if forced:
            raise UserError(f"--data {name}={tree.root}: no video called like P01_01.MP4")
        return None
    groups = {path: match[1] if (match := PARTICIPANT.search(path)) else path for path in tree.videos}
    return Found(split_by_group(groups), "epic", f"{len(set(groups.values()))} participants")
