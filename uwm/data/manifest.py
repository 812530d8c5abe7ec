"""Frozen lists of frame pairs: which two frames of which video, `gap` seconds apart.

    python -m uwm.data.manifest ssv2=DIR --split validation --pairs 10000 --seed 0

A manifest is a table with one row per pair, sorted by video and frame, the same bytes for the same files,
arguments and seed. Columns: video (path in the corpus's folder), t0, t1 (s from the first frame), gap (true,
s), frame0, frame1, width, height, fps, sha256 (`content_hash` of the file).
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.arguments import add_data_arguments, read_data_arguments
from uwm.data.bad_clips import BadClips, Skipped
from uwm.data.corpora import Clip, Corpus
from uwm.data.faults import told_apart
from uwm.data.journal import Journal, Outcome
from uwm.data.offers import Offer, offer_of, table_of
from uwm.data.sampling import clip_pairs, visit_order
from uwm.data.video import content_hash
from uwm.data.workers import Failure, crash_proof_map
from uwm.errors import UserError, run_cli
from uwm.files import begins_with, check_ours, write_atomically

COLUMNS = ["video", "t0", "t1", "gap", "frame0", "frame1", "width", "height", "fps", "sha256"]
CHECK_EVERY = 200  # clips between two looks at the share of bad ones


@dataclass(frozen=True)
class Manifest:
    """The pairs, and the clips that gave none with the reason."""

    table: pd.DataFrame
    skipped: Skipped = field(default_factory=list)

    @cached_property
    def sha256(self) -> str:
        """Of the text form. A manifest is asked for it by every stage that reads its pairs."""
        return hashlib.sha256(to_csv(self.table)).hexdigest()


def build_manifest(
    corpus: Corpus,
    split: str,
    *,
    pairs: int | None = None,
    pairs_per_clip: int | None = None,
    gap: float = 0.2,
    seed: int = 0,
    pairs_per_visit: int = 1,
    max_bad_share: float | None = None,
    workers: int = 0,
    progress: bool = False,
    journal: Path | None = None,
) -> Manifest:
    """Draw pairs from a split's clips: `pairs` in all, or `pairs_per_clip` of each, or every pair there is.

    `pairs` are spread evenly over the clips; where clips are too short or bad, others give more. A clip's own
    draw depends on `seed` and its path alone. `pairs_per_visit` draws that many pairs of a long video from
    the same 4 s, since pairs that lie near each other are decoded together. `workers` processes read the
    files. With `journal` what is found of each clip is kept there, and a stopped run goes on. `UserError`
    when too many clips are bad or none has a pair, and, once all are read, where the machine failed at one.
    """
    clips = list(corpus.of(split))
    if pairs is not None:  # with more clips than pairs, a random share of the clips is enough
        np.random.default_rng(seed).shuffle(clips)
    bad = BadClips(max_bad_share)
    # of a long video, some more than its share: enough to stand in for others
    limit = pairs_per_clip if pairs is None else 20 * -(-pairs // len(clips)) + 100
    describe = partial(_describe, corpus.folder, gap, seed, pairs_per_visit, limit)
    with Journal(journal) if journal else nullcontext() as kept:
        described = _described(clips, describe, workers, kept, f"{corpus.name} {split}" if progress else None)
        offers = _offers(described, bad)
        chosen = list(offers) if pairs is None else _take(offers, pairs, len(clips))
    bad.check_read(journal)
    if not chosen:
        raise bad.none_left(corpus, split)
    return Manifest(table_of(chosen)[COLUMNS], sorted(bad.skipped))


def _described(
    clips: list[Clip],
    describe: Callable[[Clip], Offer],
    workers: int,
    journal: Journal | None,
    title: str | None,
) -> Iterator[tuple[Clip, Outcome]]:
    """What each clip gives, in order: from the journal, or now and then written there.

    With a `title` a bar shows the time that is left; in a log file a line now and then.
    """
    known = journal.known if journal else {}
    pace = 0.1 if sys.stderr.isatty() else 30.0
    todo = [clip for clip in clips if clip.path not in known]
    bar = tqdm(todo, title, len(clips), initial=len(clips) - len(todo), unit="clip", mininterval=pace,
               disable=title is None)  # fmt: skip
    outcomes = crash_proof_map(describe, bar, workers)
    for clip in clips:
        if clip.path in known:
            yield clip, known[clip.path]
            continue
        _, outcome = next(outcomes)
        if isinstance(outcome, Failure) and outcome.machine:  # a lack of memory has passed, perhaps
            [(_, outcome)] = crash_proof_map(describe, [clip], min(workers, 1))
        if journal:
            journal.add(clip.path, outcome)
        yield clip, outcome


def _offers(described: Iterable[tuple[Clip, Outcome]], bad: BadClips) -> Iterator[Offer]:
    """For each good clip, its pairs in a random order."""
    count = 0
    for count, (clip, rows) in enumerate(described, start=1):
        if isinstance(rows, Failure):
            bad.add(clip.path, rows.reason, machine=rows.machine)
        else:
            yield rows
        if count % CHECK_EVERY == 0:
            bad.check(count)
    bad.check(count)


def _describe(folder: Path, gap: float, seed: int, per_visit: int, limit: int | None, clip: Clip) -> Offer:
    """At most `limit` pairs of one clip in the order in which they are to be taken."""
    file = folder / clip.path
    return told_apart(file, partial(_offer, file, gap, seed, per_visit, limit, clip))


def _offer(file: Path, gap: float, seed: int, per_visit: int, limit: int | None, clip: Clip) -> Offer:
    info, pairs = clip_pairs(file, gap, clip.cuts)
    draw = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(clip.path.encode()).digest()[:8])])
    order = visit_order(info.timestamps[pairs[:, 0]], draw, per_visit)
    return offer_of(clip.path, info, pairs[order[:limit]], content_hash(file))


def _take(offers: Iterator[Offer], pairs: int, clips: int) -> list[Offer]:
    """`pairs` rows: an even share of each clip, then what is missing from the clips with rows to spare."""
    quota, remainder = divmod(pairs, clips)
    taken: list[Offer] = []
    spare: list[Offer] = []
    missing = pairs
    for index, offer in enumerate(offers):
        share = quota + (index < remainder)
        taken.append(offer.part(0, share))
        spare.append(offer.part(share))
        missing -= len(taken[-1])
        if missing == 0:
            break
    rank = 0
    while missing > 0 and any(rank < len(rows) for rows in spare):  # one more of each clip per round
        extra = [rows.part(rank, rank + 1) for rows in spare if rank < len(rows)][:missing]
        taken += extra
        missing -= len(extra)
        rank += 1
    return taken


def say_fewer(corpus: Corpus, split: str, manifest: Manifest, pairs: int | None) -> None:
    """One line on stderr where a split has fewer pairs than were asked for."""
    count = len(manifest.table)
    if pairs is not None and count < pairs:
        print(f"{corpus.name} ({split}): {count} of {pairs} pairs asked for; it has no more", file=sys.stderr)


def to_csv(table: pd.DataFrame) -> bytes:
    """The one text form of a manifest: CSV with `\\n`, times and fps with 6 decimals."""
    buffer = StringIO()
    table = table[COLUMNS]
    # The text of `float_format="%.6f"`, which is slower: pandas asks of each number whether it is missing.
    floats = [name for name in COLUMNS if table[name].dtype.kind == "f"]
    texts = {name: table[name].map("{:.6f}".format) for name in floats}
    table.assign(**texts).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write the table as CSV, atomically."""
    write_atomically(Path(path), to_csv(manifest.table))


def write_skipped(skipped: Skipped, path: Path | str) -> None:
    """The clips that gave nothing, as CSV: file, reason."""
    table = pd.DataFrame(skipped, columns=["file", "reason"])
    write_atomically(Path(path), table.to_csv(index=False, lineterminator="\n"))


def check_lists(manifest: Path) -> None:
    """UserError where a command would write a manifest, or its skipped clips, over a file that is none."""
    check_ours(manifest, begins_with(",".join(COLUMNS) + "\n"))
    check_ours(skipped_path(manifest), begins_with("file,reason\n"))


def skipped_path(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.skipped.csv")


def read_skipped(manifest: Path) -> Skipped:
    """The clips that were skipped when the manifest was made, if that is still known."""
    path = skipped_path(manifest)
    if not path.is_file():
        return []
    return [(str(file), str(reason)) for file, reason in pd.read_csv(path, dtype=str).to_numpy()]


def read_manifest(path: Path | str) -> Manifest:
    """Read what `write_manifest` wrote; `UserError` for anything else."""
    try:
        table = pd.read_csv(path, dtype={"video": str, "sha256": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no manifest ({' '.join(str(error).split())[:120]})") from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(f"{path}: no manifest, the columns {', '.join(missing)} are missing")
    return Manifest(table[COLUMNS])


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.data.manifest", description="Write a list of pairs.")
    add_data_arguments(parser, "validation")
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--pairs", type=whole(1), help="pairs in all (default: every pair)")
    count.add_argument("--pairs-per-clip", type=whole(1))
    parser.add_argument("--pairs-per-visit", type=whole(1), default=1, help="pairs from the same 4 s")
    parser.add_argument("--gap", type=real(1e-6, 1e6), default=0.2, help="seconds between a pair's frames")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--out", type=named_path, help="default: NAME-SPLIT.csv")
    parser.add_argument("--workers", type=whole(0, 4096), default=0, help="processes that read the files")
    args = parser.parse_args(argv)
    corpus = read_data_arguments(args)
    out = args.out or Path(f"{corpus.name}-{args.split}.csv")
    check_lists(out)
    manifest = build_manifest(
        corpus, args.split, pairs=args.pairs, pairs_per_clip=args.pairs_per_clip, gap=args.gap,
        seed=args.seed, pairs_per_visit=args.pairs_per_visit, max_bad_share=args.max_bad_share,
        workers=args.workers, progress=True,
    )  # fmt: skip
    write_manifest(manifest, out)
    say_fewer(corpus, args.split, manifest, args.pairs)
    clips = manifest.table.video.nunique()
    print(f"{out}: {len(manifest.table)} pairs of {clips} clips, sha256 {manifest.sha256}")
    if manifest.skipped or skipped_path(out).exists():
        write_skipped(manifest.skipped, skipped_path(out))
    if manifest.skipped:
        print(
            f"{skipped_path(out)}: {len(manifest.skipped)} clips were skipped; "
            f"the first is {': '.join(manifest.skipped[0])}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(main))
