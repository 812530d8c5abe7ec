"""The list of pairs in a folder of shards, and `settings.json`, which says how it and they were made.

`settings.json` holds `manifest_sha256`; the shards' `Settings`, from the first run that decodes; and `list`,
the options by which the list was drawn, where it was drawn into this folder.
"""

import argparse
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from uwm.data.corpora import Corpus
from uwm.data.manifest import (
    Manifest,
    build_manifest,
    read_manifest,
    read_skipped,
    skipped_path,
    write_manifest,
    write_skipped,
)
from uwm.data.selection import frozen_pairs, reading_workers
from uwm.data.shards import dump
from uwm.env import allow_bad_share
from uwm.errors import UserError
from uwm.files import write_atomically


@dataclass(frozen=True)
class Drawn:
    """The options by which a list is drawn: `pairs` in all, or `pairs_per_clip` of each clip."""

    split: str = "train"
    gap: float = 0.2
    pairs: int | None = None
    pairs_per_clip: int | None = 8
    pairs_per_visit: int = 8
    seed: int = 0


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the command line, where None says that an option was not given."""
    options = {field.name: getattr(args, field.name) for field in fields(Drawn)}
    return {name: value for name, value in options.items() if value is not None}


def drawn_by(given: dict[str, Any]) -> Drawn:
    """How a new list is drawn."""
    return Drawn(**({"pairs_per_clip": None} if "pairs" in given else {}) | given)


def kept_settings(out: Path) -> dict[str, Any]:
    """What `settings.json` says; nothing where there is none."""
    file = out / "settings.json"
    if not file.is_file():
        return {}
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return settings


def same_settings(out: Path, manifest: Manifest, settings: dict[str, Any]) -> None:
    """Shards of other settings in the same folder would silently mix; refuse them."""
    kept = kept_settings(out)
    expected = {"manifest_sha256": manifest.sha256, **settings}
    if any(kept.get(name, value) != value for name, value in expected.items()):
        raise UserError(f"{out}: holds shards of another manifest or other settings; take another --out")
    if not kept.items() >= expected.items():
        write_atomically(out / "settings.json", dump(kept | expected))


def list_of(args: argparse.Namespace, corpus: Corpus, part: tuple[int, int]) -> tuple[Drawn, Manifest]:
    """The list that was given, the one already in the folder, or a new one written there; and how it was
    drawn, as far as that is known. The `seed` orders the visits in the shards, too.

    Raises:
        UserError: an option was given by which this list was not drawn.
    """
    path = args.manifest or args.out / "manifest.csv"
    given = given_options(args)
    if not path.is_file() and not args.manifest:
        if part[1] > 1:
            raise UserError(f"{path} is missing: write it first, with --manifest-only and without --part")
        drawn = drawn_by(given)
        return drawn, _new_list(args, corpus, drawn, path)
    manifest = Manifest(read_manifest(path).table, read_skipped(path))
    recorded = {} if args.manifest else kept_settings(args.out).get("list", {})
    drawn = Drawn(**recorded) if recorded else _guessed(manifest, corpus, given)
    others = {name: value for name, value in given.items() if getattr(drawn, name) != value}
    if not recorded and "pairs" not in given:  # with them it is drawn again, which tells
        others |= {
            name: given[name] for name in ("gap", "pairs_per_clip", "pairs_per_visit") if name in given
        }
    if others:
        by = (
            f"was drawn by {_options(vars(drawn))}, not by"
            if recorded
            else "is a list that nothing says to be of"
        )
        raise UserError(f"{path} {by} {_options(others)}: leave that out, or name another --out")
    if "pairs" in given and _training_pairs(args, corpus, drawn).sha256 != manifest.sha256:
        raise UserError(f"{path} lists others than these {given['pairs']} pairs: name another --out")
    return drawn, manifest


def _guessed(manifest: Manifest, corpus: Corpus, given: dict[str, Any]) -> Drawn:
    """Of a list that came from elsewhere the split shows in its clips; the rest is what is asked for."""
    listed = set(manifest.table["video"])
    splits = sorted({clip.split for clip in corpus.clips if clip.path in listed})
    return drawn_by(given | ({"split": "+".join(splits)} if splits else {}))


def _options(named: dict[str, Any]) -> str:
    return " ".join(
        f"--{name.replace('_', '-')} {value}" for name, value in named.items() if value is not None
    )


def _new_list(args: argparse.Namespace, corpus: Corpus, drawn: Drawn, path: Path) -> Manifest:
    if drawn.pairs:
        manifest = _training_pairs(args, corpus, drawn)
    else:
        manifest = build_manifest(
            corpus, drawn.split, pairs_per_clip=drawn.pairs_per_clip, gap=drawn.gap, seed=drawn.seed,
            pairs_per_visit=drawn.pairs_per_visit, max_bad_share=args.max_bad_share, progress=True,
            workers=args.workers or reading_workers(len(corpus.of(drawn.split))),
        )  # fmt: skip
    kept: dict[str, Any] = {}
    if any(args.out.glob("[0-9]*.json")):  # shards of a list that is gone, perhaps of this very one
        same_settings(args.out, manifest, {})
        kept = kept_settings(args.out)
    settings = kept | {"manifest_sha256": manifest.sha256, "list": asdict(drawn)}
    write_atomically(args.out / "settings.json", dump(settings))
    # the pairs last: once they are there, neither is made again
    write_skipped(manifest.skipped, skipped_path(path))
    write_manifest(manifest, path)
    return manifest


def _training_pairs(args: argparse.Namespace, corpus: Corpus, drawn: Drawn) -> Manifest:
    """The list that a training of `--pairs` reads, which will find it kept."""
    if args.max_bad_share is not None:
        allow_bad_share(args.max_bad_share)
    return frozen_pairs(corpus, drawn.split, drawn.gap, drawn.pairs, drawn.seed, drawn.pairs_per_visit)
