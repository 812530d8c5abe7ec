"""Data card: what is in a corpus, printed and drawn. Look before you train.

    python -m uwm.data.inspect ssv2=DIR --clips 200 --out card

A random sample of clips is read; the card says so, and every figure but the number of clips is of the sample.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from uwm.arguments import Parser, named_path, real, whole
from uwm.data.action_card import ActionCard, describe_actions, make_action_card
from uwm.data.action_pairs import has_actions
from uwm.data.arguments import add_data_arguments, read_data_arguments
from uwm.data.bad_clips import Skipped
from uwm.data.corpora import SPLITS, Corpus
from uwm.data.crops import center_crop
from uwm.data.decoders import BadVideo
from uwm.data.manifest import build_manifest
from uwm.data.pairs import decode_rows, resize_short_side
from uwm.data.video import probe
from uwm.errors import UserError, run_cli
from uwm.files import check_ours

SOFTWARE = "python -m uwm.data.inspect"  # in the picture, to know it again
SHEET_SIDE = 112  # px of a picture in the contact sheet
SHEET_PAIRS = 24
BARS = 12
BAR_WIDTH = 40


@dataclass(frozen=True)
class Card:
    """What a sample of a split's clips shows.

    `clips` holds one row per readable clip (file, seconds, frames, fps, width, height), `gaps` the true gaps
    of the sampled pairs in s, `motion` (n,) their mean absolute difference in [0, 255], `pairs` (n,2,3,S,S)
    uint8.
    """

    clips: pd.DataFrame
    gaps: NDArray[np.float64]
    motion: NDArray[np.float64]
    pairs: Tensor
    skipped: Skipped
    actions: ActionCard | None = None


def make_card(corpus: Corpus, split: str, *, clips: int = 200, gap: float = 0.2, seed: int = 0) -> Card:
    """Read at most `clips` clips of a split, one pair of each."""
    chosen = corpus.of(split)
    if len(chosen) > clips:
        indices = np.random.default_rng(seed).choice(len(chosen), clips, replace=False)
        chosen = tuple(chosen[i] for i in sorted(indices))
    sample = replace(corpus, clips=chosen)
    manifest = build_manifest(sample, split, pairs_per_clip=1, gap=gap, seed=seed, max_bad_share=1.0)
    rows, pairs, skipped = [], [], list(manifest.skipped)
    for video, pair in manifest.table.groupby("video"):
        try:
            frames = resize_short_side(decode_rows(corpus, str(video), pair), SHEET_SIDE)
            info = probe(corpus.file(str(video)))
        except BadVideo as error:
            skipped.append((str(video), error.reason))
            continue
        pairs.append(center_crop(frames, SHEET_SIDE, SHEET_SIDE))
        rows.append({"file": video, "seconds": info.timestamps[-1] + 1 / info.fps, "frames": info.frames,
                     "fps": round(info.fps, 3), "width": info.width, "height": info.height})  # fmt: skip
    stacked = torch.stack(pairs)  # (n,2,3,S,S)
    motion = (stacked[:, 0].float() - stacked[:, 1].float()).abs().mean(dim=(1, 2, 3)).double().numpy()
    actions = make_action_card(corpus, manifest) if has_actions(corpus) else None
    return Card(
        pd.DataFrame(rows), manifest.table.gap.to_numpy(np.float64), motion, stacked, skipped, actions
    )


def describe_card(corpus: Corpus, split: str, card: Card) -> str:
    """The card as text."""
    counts = {name: sum(clip.split == name for clip in corpus.clips) for name in SPLITS}
    total = counts[split]
    hours = card.clips.seconds.sum() / 3600
    sizes = (card.clips.width.astype(str) + "x" + card.clips.height.astype(str)).value_counts().head(5)
    lines = [
        f"corpus   {corpus.name} in {corpus.folder}",
        f"clips    {len(corpus.clips)}: " + ", ".join(f"{count} {name}" for name, count in counts.items()),
        f"sample   {len(card.clips)} readable of {len(card.clips) + len(card.skipped)} clips of {split}",
        f"length   {_long(hours)} in the sample, about {_long(hours / len(card.clips) * total)} in {split}; "
        f"a clip lasts {_spread(card.clips.seconds.to_numpy(), 's')}",
        "size     " + ", ".join(f"{size} ({n})" for size, n in sizes.items()),
        "fps      " + ", ".join(f"{fps:g} ({n})" for fps, n in card.clips.fps.value_counts().head(5).items()),
        f"gap      {_spread(card.gaps, 's', 3)}",
        f"motion   mean absolute difference of a pair, of 255: {_spread(card.motion, '')}; "
        f"{(card.motion < 1).mean():.0%} nearly still (below 1)",
        *histogram(card.motion),
    ]
    lines += describe_actions(card.actions) if card.actions else []
    lines += [f"skipped  {file}: {reason}" for file, reason in card.skipped]
    return "\n".join(lines)


def _long(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _spread(values: NDArray[np.float64], unit: str, digits: int = 2) -> str:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{middle:.{digits}f} {unit} (5% {low:.{digits}f}, 95% {high:.{digits}f})".replace("  ", " ")


def histogram(values: NDArray[np.float64]) -> list[str]:
    """A histogram as text, one line per bin."""
    counts, edges = np.histogram(values, bins=BARS, range=(0, max(float(np.quantile(values, 0.99)), 1e-6)))
    widest = max(int(counts.max()), 1)
    return [f"  {low:7.2f}  {'#' * round(BAR_WIDTH * count / widest):<{BAR_WIDTH}} {count}"
            for low, count in zip(edges, counts, strict=False)]  # fmt: skip


def draw_card(corpus: Corpus, split: str, card: Card, path: Path) -> None:
    """Contact sheet (both frames and their difference, from still to moving) beside the histograms."""
    import matplotlib  # slow to import, and only needed here

    matplotlib.use("Agg")
    from matplotlib import pyplot

    below = ["motion", "length"] + (["actions"] if card.actions else [])
    layout: Any = [["sheet"] * len(below), below]
    figure, axes = pyplot.subplot_mosaic(layout, figsize=(14, 10), height_ratios=[3, 1])
    if card.actions:
        _draw_actions(axes["actions"], card.actions)
    sheet, motion, length = axes["sheet"], axes["motion"], axes["length"]
    sheet.imshow(contact_sheet(card))
    sheet.axis("off")
    gap = np.median(card.gaps)
    sheet.set_title(f"{corpus.name}, {split}: pairs from still to moving (t, t + {gap:.2f} s, change)")
    motion.hist(card.motion, bins=30, color="0.4")
    motion.set(xlabel="mean absolute difference (of 255)", ylabel="pairs", title="motion")
    length.hist(card.clips.seconds, bins=30, color="0.4")
    length.set(xlabel="seconds", ylabel="clips", title="length of a clip")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": SOFTWARE})
    pyplot.close(figure)


def _draw_actions(axis: Any, card: ActionCard) -> None:
    """Each number of the actions as a box from its least to its largest, over the assumed range."""
    low, high = card.range.low, card.range.high
    shares = (card.values - (high + low) / 2) / ((high - low) / 2)  # (n,A)
    axis.boxplot(shares, whis=(0, 100), tick_labels=[str(i) for i in range(shares.shape[1])])
    axis.axhspan(-1, 1, color="0.9", zorder=0)
    axis.set(xlabel="number of the action", ylabel="of the range", title="actions")


def contact_sheet(card: Card, columns: int = 4) -> NDArray[np.uint8]:
    """(H,W,3): pairs evenly spread over the motion, each as frame, next frame, and their change times two."""
    order = np.argsort(card.motion, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SHEET_PAIRS, len(order))).round().astype(int)]
    blank = np.full((SHEET_SIDE, 3 * SHEET_SIDE + 8, 3), 255, np.uint8)
    tiles = [blank.copy() for _ in range(-(-len(chosen) // columns) * columns)]
    for tile, index in zip(tiles, chosen, strict=False):
        first, second = card.pairs[index].permute(0, 2, 3, 1).numpy().astype(int)  # (S,S,3) each
        change = np.clip(2 * np.abs(first - second), 0, 255)
        tile[:, : 3 * SHEET_SIDE] = np.concatenate([first, second, change], axis=1)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m uwm.data.inspect", description="Draw a data card.")
    add_data_arguments(parser, "train")
    parser.add_argument("--clips", type=whole(1), default=200, help="clips to read")
    parser.add_argument("--gap", type=real(1e-6, 1e6), default=0.2)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--out", type=named_path, default=Path(), help="folder for NAME-SPLIT.png")
    args = parser.parse_args(argv)
    if args.clips < 1:
        raise UserError(f"--clips {args.clips}: at least one clip must be read")
    corpus = read_data_arguments(args)
    path = args.out / f"{corpus.name}-{args.split}.png"
    check_ours(path, lambda path: SOFTWARE.encode() in path.read_bytes()[:1000])
    card = make_card(corpus, args.split, clips=args.clips, gap=args.gap, seed=args.seed)
    print(describe_card(corpus, args.split, card))
    draw_card(corpus, args.split, card, path)
    print(f"drawn    {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(main))
