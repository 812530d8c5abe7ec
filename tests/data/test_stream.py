from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.video_files import read_number, truncate, write_video
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.stream import Crop, video_stream, visits
from uwm.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(6):
        write_video(folder / f"{i}.mp4", 30, fps=10, size=(80, 64), first=100 * i)
    return Corpus("numbers", folder, tuple(Clip(f"{i}.mp4", "train") for i in range(6)))


@pytest.fixture(scope="module")
def manifest(corpus):
    return build_manifest(corpus, "train", pairs_per_clip=9)


def numbers(batch: torch.Tensor) -> list[list[int]]:
    """Read the frame numbers; the crop takes the whole width when it is as large as the picture."""
    return [[read_number(image.permute(1, 2, 0).numpy()) for image in pair] for pair in batch]


@pytest.fixture
def stream(corpus, manifest):
    def build(**options):
        batch_size = options.pop("batch_size", 6)
        return video_stream(corpus, manifest, 64, batch_size, short_side=64, buffer=18, **options)

    return build


def test_same_crop_and_flip_for_both_frames():
    crop = Crop(16, 20, seed=3)
    grid = torch.arange(20 * 28).reshape(1, 20, 28).expand(2, 3, 20, 28)  # each pixel names its place
    seen = set()
    for row in range(60):
        pair = crop(grid, 0, row)
        assert pair.shape == (2, 3, 16, 16)
        assert torch.equal(pair[0], pair[1])
        assert torch.equal(pair, crop(grid, 0, row))
        step = int(pair[0, 0, 0, 1] - pair[0, 0, 0, 0])
        assert step in (1, -1)
        seen.add((int(pair[0, 0, 0, 0]) // 28, step))
    assert {step for _, step in seen} == {1, -1}
    assert {top for top, _ in seen} == {0, 1, 2, 3, 4}
    assert any(not torch.equal(crop(grid, 0, row), crop(grid, 1, row)) for row in range(5))


def test_visits_group_near_pairs_of_one_video(manifest):
    found = visits(manifest.table, 4)
    assert np.array_equal(np.concatenate([visit.rows for visit in found]), np.arange(54))
    for visit in found:
        assert len(visit.rows) <= 4
        assert manifest.table.video.iloc[visit.rows].nunique() == 1
        assert np.ptp(visit.times[:, 0]) <= 4.0


def test_an_epoch_shows_every_pair_once(corpus, manifest):
    stream = video_stream(corpus, manifest, 64, 9, short_side=64, buffer=18, pairs_per_visit=4)
    stream.load = lambda visit: np.full((len(visit.rows), 1), visit.rows[:, None])  # rows for pictures
    batches = stream.batches()
    assert stream.steps_per_epoch() == 6
    for _ in range(3):
        epoch = [next(batches) for _ in range(6)]
        assert sorted(torch.cat(epoch).flatten().tolist()) == list(range(54))
        videos = manifest.table.video.to_numpy()
        assert all(len(set(videos[batch.flatten().numpy()])) > 1 for batch in epoch)  # mixed


@pytest.mark.parametrize("start", [1, 4, 9, 14])
def test_resuming_anywhere_sees_the_same(stream, start):
    whole = stream().batches()
    everything = [next(whole) for _ in range(20)]
    resumed = stream().batches(start)
    for step in range(start, 20):
        assert torch.equal(next(resumed), everything[step])


def test_workers_do_not_change_anything(stream):
    alone, workers = stream().batches(), stream(workers=1).batches()
    for _ in range(20):
        assert torch.equal(next(alone), next(workers))
    workers.close()


def test_epochs_and_seeds_differ(stream):
    first = stream()
    steps = first.steps_per_epoch()
    batches = [next(source) for source in (first.batches(0), first.batches(steps), stream(seed=1).batches(0))]
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_ranks_share_the_epoch(stream):
    made = stream()
    rows = [np.concatenate(made.blocks(0, rank, 3, 18))[:, 1] for rank in range(3)]
    assert sorted(np.concatenate(rows)) == list(range(54))
    assert next(made.batches(0, 1, 3)).shape[0] == 2
    with pytest.raises(UserError, match="4 ranks"):
        next(made.batches(0, 0, 4))


def test_a_file_that_breaks_later_is_replaced_and_named_once(tmp_path: Path):
    for i in range(6):
        write_video(tmp_path / f"{i}.mp4", 30, fps=10, size=(64, 64))
    corpus = Corpus("numbers", tmp_path, tuple(Clip(f"{i}.mp4", "train") for i in range(6)))
    manifest = build_manifest(corpus, "train", pairs_per_clip=9)
    truncate(tmp_path / "2.mp4", 0.3)
    stream = video_stream(corpus, manifest, 64, 6, short_side=64)
    batches = stream.batches()
    for _ in range(2 * stream.steps_per_epoch()):
        assert next(batches).shape == (6, 2, 3, 64, 64)
    assert [name for name, _ in stream.bad.skipped] == ["2.mp4"]


def test_too_few_pairs_for_a_batch(corpus, manifest):
    with pytest.raises(UserError, match="do not fill"):
        video_stream(corpus, manifest, 64, 100)
