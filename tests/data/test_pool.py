"""One pool reads the pairs of all corpora: the batches that each gives alone, as many processes as were asked
for, and no more blocks in memory than were promised."""

import gc
import multiprocessing
import weakref
from itertools import islice

import numpy as np
import pytest
import torch

from tests.data.video_files import write_video
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.pool import WORKER_BYTES, BlockPlan, joined_batches, memory_of, plans_in_order
from uwm.data.stream import PairStream, video_stream

PAIR = 2 * 3 * 64 * 64


@pytest.fixture(scope="module")
def streams(tmp_path_factory) -> list[PairStream]:
    """Of 18, 27 and 45 pairs, in batches of 4 and blocks of 12."""
    found = []
    for clips in (2, 3, 5):
        folder = tmp_path_factory.mktemp("corpus")
        for i in range(clips):
            write_video(folder / f"{i}.mp4", 14, fps=10, size=(80, 64), first=100 * i)
        corpus = Corpus(f"made-{clips}", folder, tuple(Clip(f"{i}.mp4", "train") for i in range(clips)))
        manifest = build_manifest(corpus, "train", pairs_per_clip=9)
        found.append(video_stream(corpus, manifest, 64, 4, short_side=64, buffer=12))
    return found


@pytest.mark.parametrize(("start", "rank", "ranks"), [(0, 0, 1), (3, 0, 1), (7, 1, 2)])
def test_each_corpus_gives_what_it_gives_alone(streams, start, rank, ranks):
    together = islice(joined_batches(streams, 0, (start, rank, ranks)), 12)
    alone = zip(*(stream.batches(start, rank, ranks) for stream in streams), strict=True)
    for batch, parts in zip(together, alone, strict=False):
        assert torch.equal(batch, torch.cat(parts))


def test_all_corpora_share_the_processes(streams):
    batches = joined_batches(streams, 2, (0, 0, 1))
    found = [next(batches)]
    assert len(multiprocessing.active_children()) == 2
    found += islice(batches, 9)
    batches.close()
    assert not multiprocessing.active_children()
    for batch, wanted in zip(found, joined_batches(streams, 0, (0, 0, 1)), strict=False):
        assert torch.equal(batch, wanted)


def test_blocks_come_in_the_order_in_which_steps_need_them():
    def plans(*batches: int):
        while True:
            yield from (BlockPlan([], [], [np.zeros(1, int)] * n) for n in batches)

    order = [own for own, _ in islice(plans_in_order([plans(3), plans(1, 2)]), 6)]
    assert order == [0, 1, 1, 0, 1, 1]  # steps 0 to 2 read one block of the first, two of the second


def test_no_more_blocks_are_held_than_promised(streams, monkeypatch):
    alive: list[weakref.ref] = []
    most = 0
    joined = PairStream.joined

    def counted(self, parts):
        nonlocal most
        block = joined(self, parts)
        alive.append(weakref.ref(block))
        most = max(most, sum(ref() is not None for ref in alive))
        return block

    monkeypatch.setattr(PairStream, "joined", counted)
    gc.disable()  # nothing that only the collector frees may be counted on
    try:
        for _ in islice(joined_batches(streams, 1, (0, 0, 1)), 30):
            pass
    finally:
        gc.enable()
    assert len(alive) > 12
    assert most <= 2 * len(streams) + 1  # and the parts of the one that is put together


def test_the_memory_by_hand(streams):
    memory = memory_of(streams, 5)
    assert memory.blocks == (2 * 3 + 2) * 12 * PAIR
    assert memory.results == (4 * 5 + 1) * 8 * PAIR
    assert memory.processes == 5 * WORKER_BYTES
    assert memory_of(streams, 0, world_size=2).processes == 0
