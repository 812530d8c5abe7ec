"""Speed of the data path, as ratios of interleaved runs on one thread: `make bench`.

Pairs/s of (a) the naive way: open, seek and decode two frames with decord for each pair; (b) ours from video,
8 pairs per visit; (c) ours from prepared shards; (d) the limits: plain decoding of the video, and reading and
decoding the JPEGs alone. (a), (b) and (c) end with the same resize and 224 px crop. Corpora: VP9 427x240 at
12 fps (as Something-Something V2) and H.264 960x540 at 30 fps (as Ego4D), synthetic pictures at such bit
rates. Process CPU time is taken, so that a busy machine disturbs less; medians over rounds.

Then: live decoding of manifests whose pairs were drawn one by one and by visits (the recipe's field
`pairs_per_visit`); manifests of 10,000 clips (links to one) by 1 and 2 processes; the list of pairs and the
data card of a video of half an hour, by its bytes; growth; memory.

    python tests/bench/data.py [--clips DIR] [--opens 10000]     # DIR keeps the videos for the next time
    python tests/bench/data.py --only visits manifests long
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import cycle
from pathlib import Path

import av
import decord
import numpy as np
import pandas as pd
import torch
from tables import write_table

from uwm.data.corpora import Clip, Corpus
from uwm.data.decoders import BadVideo
from uwm.data.ffmpeg import PyAVReader
from uwm.data.inspect import make_card
from uwm.data.manifest import Manifest, build_manifest
from uwm.data.pairs import resize_short_side, to_tensor
from uwm.data.prepare import Settings, prepare
from uwm.data.shard_stream import shard_stream
from uwm.data.shards import decode_picture, describe_shard, read_index, read_spans
from uwm.data.stream import Crop, PairStream, video_stream
from uwm.data.video import DecoderName, read_frames

ROUNDS = 5
SIDE = 240  # SSv2's own height: nothing is enlarged
CROP = Crop(224, SIDE)
PER_VISIT = 8
RATES = ("Way", "Pairs a second of CPU", "Times as fast")


def scene(seed: int, frames: int, width: int, height: int) -> Iterator[np.ndarray]:
    """(H,W,3) frames: a camera that pans over a 1/f texture, and a patch that moves across it."""
    draw = np.random.default_rng(seed)
    fx, fy = np.meshgrid(np.fft.rfftfreq(2 * width), np.fft.fftfreq(2 * height))
    falloff = np.maximum(np.hypot(fx, fy), 1e-3) ** -1.2
    noise = np.fft.rfft2(draw.standard_normal((3, 2 * height, 2 * width)))
    layers = np.fft.irfft2(noise * falloff, s=(2 * height, 2 * width)).transpose(1, 2, 0)  # (2H,2W,3)
    picture = (255 * (layers - layers.min()) / np.ptp(layers)).astype(np.uint8)
    for i in range(frames):
        x, y = int(width * (0.5 + np.sin(i / 17) / 4)), int(height * (0.5 + np.cos(i / 23) / 5))
        frame = picture[y : y + height, x : x + width].copy()
        x, y = int(width * (0.4 + 0.4 * np.sin(i / 9))), int(height * (0.35 + 0.35 * np.sin(i / 13)))
        frame[y : y + height // 4, x : x + width // 5] = picture[: height // 4, : width // 5][::-1]
        yield frame


def write(path: Path, seed: int, frames: int, size: tuple[int, int], fps: int, **codec: object) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(str(codec["name"]), rate=Fraction(fps))
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate, stream.options = "yuv420p", codec["rate"], codec["options"]
        stream.codec_context.gop_size = codec["gop"]
        for frame in scene(seed, frames, *size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def corpora(folder: Path) -> list[Corpus]:
    """The two benchmark corpora, written once. SSv2: one keyframe per clip; Ego4D: one per 250 frames."""
    fast = {"cpu-used": "8", "deadline": "realtime"}
    vp9 = {"name": "libvpx-vp9", "rate": 180_000, "gop": 128, "options": fast}
    h264 = {"name": "libx264", "rate": 1_500_000, "gop": 250, "options": {"preset": "veryfast"}}
    plans = [
        ("ssv2-like", 12, 46, (427, 240), 12, ".webm", vp9),
        ("ego4d-like", 2, 900, (960, 540), 30, ".mp4", h264),
    ]
    found = []
    for name, clips, frames, size, fps, suffix, codec in plans:
        (folder / name).mkdir(parents=True, exist_ok=True)
        paths = [folder / name / f"{i}{suffix}" for i in range(clips)]
        for i, path in enumerate(paths):
            if not path.is_file():
                write(path, i, frames, size, fps, **codec)
        found.append(Corpus(name, folder / name, tuple(Clip(path.name, "train") for path in paths)))
    return found


def medians(runs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Median CPU seconds per item of each function (which returns how many it did), interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for counted in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.process_time()
            items = run()
            if counted:
                times[name].append((time.process_time() - start) / items)
    return {name: statistics.median(values) for name, values in times.items()}


def naive(corpus: Corpus, table: pd.DataFrame) -> Callable[[], int]:
    """A new reader for each pair, in random order."""
    places = iter(np.random.default_rng(0).integers(len(table), size=100_000).tolist())

    def run(pairs: int = 6) -> int:
        for _ in range(pairs):
            row = table.iloc[next(places)]
            reader = decord.VideoReader(str(corpus.file(row.video)), num_threads=1)
            frames = reader.get_batch([row.frame0, row.frame1]).asnumpy()
            CROP(resize_short_side(to_tensor(frames), CROP.short_side), 0, 0)
        return pairs

    return run


def ours(stream: PairStream, units: int) -> Callable[[], int]:
    """Read some units of a stream, without the shuffle."""
    order = iter(np.random.default_rng(0).integers(len(stream.units), size=100_000).tolist())

    def run() -> int:
        return sum(len(stream.load(stream.task(unit, stream.units[unit], 0))) for unit in
                   [next(order) for _ in range(units)])  # fmt: skip

    return run


def plain_decode(corpus: Corpus, frames: int) -> Callable[[], int]:
    """Decode a video from its start to RGB; counted in pairs, two frames each."""

    def run() -> int:
        with PyAVReader(corpus.file(corpus.clips[0])) as reader:
            decoded = [frame.to_ndarray(format="rgb24") for frame, _ in
                       zip(reader.container.decode(reader.stream), range(frames), strict=False)]  # fmt: skip
        return len(decoded) // 2

    return run


def jpegs_alone(folder: Path, pairs: int = 64) -> Callable[[], int]:
    path = folder / read_index(folder).shards[0]
    spans = describe_shard(path)["spans"][:pairs]

    def run() -> int:
        for first, second in read_spans(path, spans):
            decode_picture(first), decode_picture(second)
        return len(spans)

    return run


def trusted(corpus: Corpus) -> dict[str, DecoderName]:
    """The decoders that read a corpus's videos, by their names in a table: decord is given no B-frames."""
    found: dict[str, DecoderName] = {"decord": "decord", "PyAV": "pyav"}
    try:
        read_frames(corpus.file(corpus.clips[0]), [0], times=[0.0], decoder="decord")
    except BadVideo as error:
        print(f"\n{corpus.name} is not read with decord: {error}")
        del found["decord"]
    return found


def ways(corpus: Corpus, folder: Path) -> None:
    """(a) to (d) for one corpus, side by side."""
    manifest = build_manifest(corpus, "train", pairs_per_clip=32, pairs_per_visit=PER_VISIT)
    shards, raw = folder / f"{corpus.name}-jpeg", folder / f"{corpus.name}-raw"
    for out, quality in ((shards, 90), (raw, 0)):
        prepare(corpus, "train", manifest, out, Settings(SIDE, quality, pairs_per_visit=PER_VISIT))
    live = {f"(b) ours from video, {name}": ours(
        video_stream(corpus, manifest, 224, PER_VISIT, short_side=SIDE, decoder=decoder), 3)
            for name, decoder in trusted(corpus).items()}  # fmt: skip
    seconds = medians({
        "(a) naive, decord per pair": naive(corpus, manifest.table),
        **live,
        "(c) ours from JPEG shards": ours(shard_stream(shards, 224, PER_VISIT, piece=32), 2),
        "(c) ours from raw shards": ours(shard_stream(raw, 224, PER_VISIT, piece=32), 4),
        "(d) JPEGs alone": jpegs_alone(shards),
        "(d) plain decoding, 2 frames": plain_decode(corpus, 46),
    })  # fmt: skip
    rows = _rates(seconds, seconds["(a) naive, decord per pair"])
    write_table(f"ways-{corpus.name}", f"Videos {corpus.name}, one thread", RATES, rows)
    sizes = [sum((out / name).stat().st_size for name in read_index(out).shards) / len(manifest.table) / 1024
             for out in (shards, raw)]  # fmt: skip
    print(f"  a stored pair takes {sizes[0]:.0f} KiB as JPEG, {sizes[1]:.0f} KiB raw")


def grouped(corpus: Corpus, pairs: int = 8) -> None:
    """Live decoding where so many pairs of each clip were drawn one by one, and from the same 4 s."""
    streams = {
        f"{pairs} pairs a clip, by visits of {size}": video_stream(
            corpus,
            build_manifest(corpus, "train", pairs_per_clip=pairs, pairs_per_visit=size),
            224,
            PER_VISIT,
            short_side=SIDE,
        )
        for size in (1, PER_VISIT)
    }
    seconds = medians(
        {name: ours(stream, max(2, len(stream.units) // 2)) for name, stream in streams.items()}
    )
    title = f"Videos {corpus.name}, decoded live by one thread"
    write_table(f"visits-{corpus.name}", title, RATES, _rates(seconds, max(seconds.values())))


def _rates(seconds: dict[str, float], slowest: float) -> list[tuple[str, str, str]]:
    """A row for each way: its rate, and its speed as a multiple of `slowest`, a pair's CPU seconds."""
    return [(name, f"{1 / value:.1f}", f"{slowest / value:.2f}") for name, value in seconds.items()]


def manifests(corpus: Corpus, folder: Path, clips: int = 10_000) -> None:
    """Wall and CPU seconds for the list of pairs of many clips (links to one), by 1 and 2 processes."""
    home = folder / "linked"
    home.mkdir()
    source = corpus.file(corpus.clips[0]).resolve()
    names = [f"{i:05d}{source.suffix}" for i in range(clips)]
    for name in names:
        (home / name).symlink_to(source)
    many = Corpus(corpus.name, home, tuple(Clip(name, "train") for name in names))
    found, rows = {}, []
    for workers in (1, 2):
        start, before = time.perf_counter(), os.times()
        found[workers] = build_manifest(many, "train", pairs_per_clip=5, workers=workers).sha256
        seconds, after = time.perf_counter() - start, os.times()
        spent = sum(after[:4]) - sum(before[:4])  # of this process and of those that have ended
        rows.append((str(workers), *(f"{1e3 * total / clips:.1f}" for total in (seconds, spent))))
    assert found[1] == found[2]
    columns = ("Processes", "ms a clip", "ms of CPU a clip")
    write_table("manifests", f"List of pairs of {clips:,} clips like {corpus.name}", columns, rows)


def lengthened(source: Path, path: Path, times: int) -> None:
    """The same video so many times in a row, without another encoding."""
    with av.open(str(path), "w") as container:
        stream, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as given:
                video = given.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                for packet in given.demux(video):
                    if packet.size:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        container.mux(packet)
                shift += video.duration


def by_bytes(short: Corpus, long: Corpus, folder: Path, times: int = 60) -> None:
    """CPU seconds for the list of pairs and for the data card, of short clips and of a long video."""
    home = folder / "long"
    home.mkdir()
    lengthened(long.file(long.clips[0]), home / "0.mp4", times)
    lengthy = Corpus(long.name, home, (Clip("0.mp4", "train"),))
    gigabytes = (home / "0.mp4").stat().st_size / 1e9
    rows = []
    for corpus, size, unit in ((short, len(short.clips), "clip"), (lengthy, gigabytes, "GB")):
        seconds = medians({
            "list of pairs": partial(once, build_manifest, corpus, "train", pairs_per_clip=8),
            "data card": partial(once, make_card, corpus, "train"),
        })  # fmt: skip
        rows += [(corpus.name, f"{name}, a {unit}", f"{value / size:.3f}") for name, value in seconds.items()]
    title = f"Clips of 4 s, and a video of {gigabytes:.2f} GB that lasts {times * 0.5:.0f} minutes"
    write_table("long", title, ("Videos", "What", "Seconds of CPU"), rows)


def once(work: Callable[..., object], *arguments: object, **options: object) -> int:
    """For `medians`: do it, as one item."""
    work(*arguments, **options)
    return 1


def growth(corpus: Corpus, folder: Path) -> None:
    """Cost per pair with 100 and with 10,000 clips (links to the same files): planning, then 64 pairs."""
    source = build_manifest(corpus, "train", pairs_per_clip=8, pairs_per_visit=PER_VISIT).table
    print("\nfrom 100 to 10,000 clips: wall seconds for an epoch's plan, CPU ms per decoded pair")
    for clips in (100, 1_000, 10_000):
        home = folder / f"links-{clips}"
        home.mkdir(exist_ok=True)
        parts = []
        for i, (video, rows) in zip(range(clips), cycle(source.groupby("video")), strict=False):
            link = home / f"{i:05d}{Path(str(video)).suffix}"
            link.symlink_to(corpus.file(str(video)).resolve())
            parts.append(rows.assign(video=link.name))
        manifest = Manifest(pd.concat(parts, ignore_index=True))
        start = time.perf_counter()
        linked = Corpus(corpus.name, home, ())
        stream = video_stream(linked, manifest, 224, 64, short_side=SIDE, buffer=64, decoder="pyav")
        stream.blocks(0, 0, 1, 64)
        planned = time.perf_counter() - start
        batches = stream.batches()
        next(batches)
        costs = []
        for _ in range(3):
            start = time.process_time()
            next(batches)
            costs.append((time.process_time() - start) / 64)
        print(f"  {clips:6} clips  plan {planned:6.2f} s   {1e3 * statistics.median(costs):6.2f} ms per pair")


def memory(corpus: Corpus, opens: int) -> None:
    """Resident memory of a worker, with torch loaded, over many opened videos."""
    print(f"\nresident memory of a worker over {opens} opened videos (MiB)")
    for decoder in trusted(corpus).values():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            marks = pool.apply(resident, (corpus, opens, decoder))
        print(f"  {decoder:7} at the first {marks[0]:.0f}, after a tenth {marks[1]:.0f}, all {marks[2]:.0f}")


def resident(corpus: Corpus, opens: int, decoder: DecoderName) -> list[float]:
    torch.set_num_threads(1)
    marks = []
    for i in range(opens):
        frames = read_frames(
            corpus.file(corpus.clips[i % len(corpus.clips)]), [0], times=[0.0], decoder=decoder
        )
        resize_short_side(to_tensor(frames), SIDE)
        if i in (0, opens // 10, opens - 1):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            marks.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    return marks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder that keeps the benchmark's videos")
    parser.add_argument("--listed", type=int, default=10_000, help="clips of the longest manifest")
    parser.add_argument("--opens", type=int, default=1000, help="videos for the memory measurement")
    parts = ("ways", "visits", "manifests", "long", "growth", "memory")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="some measurements")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        found = corpora(args.clips or Path(temporary) / "clips")
        for corpus in found:
            if "ways" in args.only:
                ways(corpus, Path(temporary))
            if "visits" in args.only:
                grouped(corpus)
        if "manifests" in args.only:
            manifests(found[0], Path(temporary), args.listed)
        if "long" in args.only:
            by_bytes(*found, Path(temporary))
        if "growth" in args.only:
            growth(found[0], Path(temporary))
        if "memory" in args.only:
            memory(found[0], args.opens)


if __name__ == "__main__":
    main()
