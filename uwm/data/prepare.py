"""Decode a corpus once into shards that any later run streams.

    python -m uwm.data.prepare ssv2=DIR --out SHARDS --size 256 --workers 16
    python -m uwm.data.prepare ssv2=DIR --out SHARDS --manifest-only     # then, as a Slurm array 0-31:
    python -m uwm.data.prepare ssv2=DIR --out SHARDS --part $SLURM_ARRAY_TASK_ID/32

Started again after a kill it goes on with the shards that are missing; the result is the same, byte for byte.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.arguments import add_data_arguments, parse_part, read_data_arguments
from uwm.data.bad_clips import BadClips
from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest, check_lists, write_skipped
from uwm.data.prepared_list import list_of, same_settings
from uwm.data.shards import (
    FORMAT,
    Sample,
    ShardIndex,
    describe_shard,
    encode_picture,
    read_index,
    remove_leftovers,
    shard_fault,
    write_shard,
)
from uwm.data.stream import Visit, decode_visit, one_thread_in_workers, visits
from uwm.data.video import DecoderName
from uwm.data.workers import Failure, crash_proof_map
from uwm.errors import UserError, run_cli
from uwm.files import check_ours
from uwm.verified import sha256_of


@dataclass(frozen=True)
class Settings:
    """What the shards' bytes depend on, besides the manifest and the videos."""

    short_side: int = 256
    quality: int = 90  # of the JPEGs; 0 stores raw pictures
    shard_pairs: int = 1024
    pairs_per_visit: int = 8
    seed: int = 0
    decoder: DecoderName = "auto"


def prepare(
    corpus: Corpus,
    split: str,
    manifest: Manifest,
    out: Path,
    settings: Settings,
    *,
    part: tuple[int, int] = (0, 1),
    workers: int = 0,
    max_bad_share: float | None = None,
    progress: bool = False,
) -> ShardIndex | None:
    """Write the missing shards of this part. Returns the index when all shards of all parts are there."""
    out.mkdir(parents=True, exist_ok=True)
    same_settings(out, manifest, vars(settings))
    plan = shard_plan(manifest, settings)
    names = [f"{number:05d}.tar" for number in range(len(plan))]
    known = _known_digests(out)
    numbers = range(part[0], len(plan), part[1])
    encode = partial(_encode_visit, corpus.folder, settings)
    bad = SkippedVisits(max_bad_share)
    todo = _to_make([(out / names[number], plan[number]) for number in numbers], known, encode, workers, bad)
    results = crash_proof_map(encode, (visit for _, visits in todo for visit in visits), workers)
    total = sum(len(visits) for _, visits in todo)
    with tqdm(total=total, unit="visit", disable=not progress) as bar:
        for path, visits in todo:
            skipped: list[tuple[str, str]] = []
            write_shard(path, _samples(visits, results, manifest, bad, skipped, bar), skipped)
    return _finish(corpus, split, manifest, out, settings, names, max_bad_share)


class SkippedVisits:
    """Counts the clips that were read and those of which a visit gave nothing: one unit for both."""

    def __init__(self, max_share: float | None) -> None:
        self.bad, self.clips = BadClips(max_share), set[str]()

    def add(self, visits: Iterable[Visit], skipped: Iterable[tuple[str, str]]) -> None:
        """Of one shard; `UserError` when with it too many clips are bad."""
        self.clips |= {visit.video for visit in visits}
        for clip, reason in skipped:
            if clip not in dict(self.bad.skipped):
                self.bad.add(clip, reason)
        self.bad.check(len(self.clips))


def _to_make(
    shards: list[tuple[Path, list[Visit]]], known: Mapping[str, str], encode: Callable[[Visit], Any],
    workers: int, bad: SkippedVisits,
) -> list[tuple[Path, list[Visit]]]:  # fmt: skip
    """The shards that are missing or damaged, and those that skipped a visit which can be read now."""
    whole = {path: describe_shard(path) for path, _ in shards if _is_whole(path, known)}
    skipped = [
        (path, visit) for path, plan in shards if path in whole
        for rows in [set(whole[path]["rows"])]
        for visit in plan if visit.rows[0] not in rows
    ]  # fmt: skip
    again = crash_proof_map(encode, (visit for _, visit in skipped), workers if skipped else 0)
    for (path, visit), (_, stored) in zip(skipped, again, strict=True):
        if path in whole and not isinstance(stored, Failure):
            del whole[path]
            print(f"making again: {path}: {visit.video} can be read now", file=sys.stderr)
    for path, plan in shards:
        if path in whole:
            bad.add(plan, whole[path]["skipped"])
    return [shard for shard in shards if shard[0] not in whole]


def _known_digests(out: Path) -> dict[str, str]:
    """What the index of a finished folder says; nothing where there is none, or it is broken itself."""
    try:
        return read_index(out).sha256
    except UserError:
        return {}


def _is_whole(path: Path, known: Mapping[str, str]) -> bool:
    """Was this shard made, and is it still what was made? Names one that is not: it is made again."""
    if not path.with_suffix(".json").is_file():
        return False
    fault = shard_fault(path, known, whole=True)
    if fault:
        print(f"making again: {fault}", file=sys.stderr)
        path.with_suffix(".json").unlink()
    return fault is None


def shard_plan(manifest: Manifest, settings: Settings) -> list[list[Visit]]:
    """Visits in a random order, cut into shards of about `shard_pairs` pairs: a shard mixes videos."""
    all_visits = visits(manifest.table, settings.pairs_per_visit)
    draw = np.random.default_rng(settings.seed)
    plan: list[list[Visit]] = [[]]
    count = 0
    for i in draw.permutation(len(all_visits)):
        if count >= settings.shard_pairs:
            plan.append([])
            count = 0
        plan[-1].append(all_visits[i])
        count += len(all_visits[i].rows)
    return plan


def _encode_visit(folder: Path, settings: Settings, visit: Visit) -> list[tuple[bytes, bytes]]:
    """The stored form of a visit's pairs; a frame of two pairs is encoded once."""
    one_thread_in_workers()
    frames = decode_visit(folder, settings.short_side, settings.decoder, visit).permute(0, 2, 3, 1).numpy()
    stored: dict[int, bytes] = {}
    for number, frame in zip(visit.frames.reshape(-1).tolist(), frames, strict=True):
        if number not in stored:
            stored[number] = encode_picture(frame, settings.quality)
    return [(stored[first], stored[second]) for first, second in visit.frames.tolist()]


def _samples(
    plan: list[Visit], results: Iterator[tuple[Visit, Any]], manifest: Manifest, bad: SkippedVisits,
    skipped: list[tuple[str, str]], bar: Any,
) -> Iterator[Sample]:  # fmt: skip
    """A shard's pairs. `UserError` at their end, so that no shard is written, when too many clips are bad."""
    for visit in plan:
        _, stored = next(results)
        bar.update()
        if isinstance(stored, Failure):
            skipped.append((visit.video, stored.reason))
            continue
        for row, pair in zip(visit.rows.tolist(), stored, strict=True):
            yield Sample(row, _card(manifest, row), pair)
    bad.add(plan, skipped)


def _card(manifest: Manifest, row: int) -> dict[str, Any]:
    values = manifest.table.iloc[row].items()
    return {str(key): value.item() if isinstance(value, np.generic) else value for key, value in values}


def _check_folder(out: Path) -> None:
    """UserError where shards, or what goes with them, would replace a file of somebody else's."""
    settings = out / "settings.json"  # what a run writes first
    check_ours(settings, lambda path: "manifest_sha256" in json.loads(path.read_text(encoding="utf-8")))
    for name in ("index.json", "skipped.csv", "[0-9]*.tar", "[0-9]*.json"):
        for path in sorted(out.glob(name)):
            check_ours(path, lambda _: settings.is_file())
    check_lists(out / "manifest.csv")


def _finish(
    corpus: Corpus,
    split: str,
    manifest: Manifest,
    out: Path,
    settings: Settings,
    names: list[str],
    max_bad_share: float | None,
) -> ShardIndex | None:
    """Write the index and the report of skipped clips once every shard is there, whoever made it."""
    if not all((out / name).with_suffix(".json").is_file() for name in names):
        return None
    if faults := [fault for name in names if (fault := shard_fault(out / name, {}, whole=False))]:
        raise UserError(f"{faults[0]}; start its part again")
    described = [describe_shard(out / name) for name in names]
    files = [file for name in names for file in (name, Path(name).with_suffix(".json").name)]
    sha256 = {file: sha256_of(out / file) for file in files if file.endswith(".json")}
    sha256 |= {name: shard["sha256"] for name, shard in zip(names, described, strict=True)}
    skipped = sorted({(file, reason) for shard in described for file, reason in shard["skipped"]})
    bad = BadClips(max_bad_share)
    bad.skipped += dict(skipped).items()
    bad.check(manifest.table["video"].nunique())
    pairs = sum(len(shard["rows"]) for shard in described)
    index = ShardIndex(FORMAT, corpus.name, split, manifest.sha256, settings.short_side, settings.quality,
                       names, pairs, len(bad.skipped), sha256, len(manifest.table))  # fmt: skip
    report = list(manifest.skipped) + skipped
    write_skipped(report, out / "skipped.csv")
    remove_leftovers(out)
    index.write(out)
    return index


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m uwm.data.prepare", description=__doc__.splitlines()[0])
    add_data_arguments(parser, "train")
    parser.set_defaults(split=None)  # None, as for the other options by which a list is drawn: not given
    parser.add_argument("--out", type=named_path, required=True, help="folder of the shards")
    parser.add_argument("--size", type=whole(1, 65536), default=256, help="short side of the stored pictures")
    parser.add_argument(
        "--quality", type=whole(0, 100), default=90, help="of the JPEGs; 0 stores raw pictures"
    )
    parser.add_argument(
        "--manifest", type=named_path, help="pairs to take (default: drawn into OUT/manifest.csv)"
    )
    parser.add_argument("--manifest-only", action="store_true")
    drawn = parser.add_mutually_exclusive_group()
    drawn.add_argument("--pairs-per-clip", type=whole(1), help="pairs of each clip (8)")
    drawn.add_argument("--pairs", type=whole(1), help="pairs in all, spread evenly over the clips")
    parser.add_argument("--pairs-per-visit", type=whole(1), help="pairs drawn from the same 4 s (8)")
    parser.add_argument("--gap", type=real(1e-6, 1e6), help="seconds between a pair's frames (0.2)")
    parser.add_argument("--seed", type=whole(0), help="of the pairs, and of their order in the shards (0)")
    parser.add_argument("--shard-pairs", type=whole(1), default=1024)
    parser.add_argument("--decoder", choices=["auto", "decord", "pyav"], default="auto")
    parser.add_argument("--workers", type=whole(0, 4096), default=0)
    parser.add_argument("--part", default="0/1", help="NUMBER/COUNT: this share of the shards, from 0")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    part = parse_part(args.part)
    if args.manifest_only and (args.manifest or part != (0, 1)):
        raise UserError("--manifest-only draws the pairs of all parts: leave out --part and --manifest")
    _check_folder(args.out)
    corpus = read_data_arguments(args)
    args.out.mkdir(parents=True, exist_ok=True)
    drawn, manifest = list_of(args, corpus, part)
    if args.manifest_only:
        print(f"{args.out / 'manifest.csv'}: {len(manifest.table)} pairs")
        return 0
    settings = Settings(args.size, args.quality, args.shard_pairs, 8, drawn.seed, args.decoder)
    index = prepare(corpus, drawn.split, manifest, args.out, settings, part=part, workers=args.workers,
                    max_bad_share=args.max_bad_share, progress=True)  # fmt: skip
    if index is None:
        print(f"{args.out}: this part is done; the index follows with the last part")
    else:
        count = index.skipped + len(manifest.skipped)
        skipped = (
            f"{count} clips were skipped, see {args.out / 'skipped.csv'}" if count else "no clip was skipped"
        )
        pairs = f"{index.pairs} pairs" + (f" of {index.listed}" if index.pairs < index.listed else "")
        print(f"{args.out}: {pairs} in {len(index.shards)} shards; {skipped}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(main))
