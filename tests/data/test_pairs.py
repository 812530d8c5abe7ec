import weakref
from pathlib import Path

import pytest
import torch

from tests.data.video_files import damage_middle, read_number, truncate, write_video
from uwm.data import pairs
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.pairs import joined_parts, load_frames, load_pairs, resize_short_side
from uwm.data.selection import needed_frames
from uwm.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    write_video(folder / "a.mp4", 12, fps=10, size=(64, 64))
    write_video(folder / "b.webm", 20, fps=12, size=(64, 64), first=100)
    truncate(write_video(folder / "cut.mp4", 40, size=(64, 64)), 0.6)
    return Corpus("numbers", folder, tuple(Clip(name, "test") for name in ("a.mp4", "b.webm", "cut.mp4")))


def number(image: torch.Tensor) -> int:
    return read_number(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [64, 48, 112])
def test_pairs_are_the_manifest_s_frames(corpus, size):
    manifest = build_manifest(corpus, "test", pairs_per_clip=6)
    pairs = load_pairs(corpus, manifest, size)
    assert pairs.shape == (12, 2, 3, size, size)
    assert pairs.dtype == torch.uint8
    for pair, row in zip(pairs, manifest.table.itertuples(), strict=True):
        first = 100 if row.video == "b.webm" else 0
        assert [number(image) - first for image in pair] == [row.frame0, row.frame1]


def test_missing_file_of_a_manifest(corpus):
    manifest = build_manifest(corpus, "test", pairs_per_clip=1)
    manifest.table.loc[0, "video"] = "gone.mp4"
    with pytest.raises(UserError, match=r"gone\.mp4"):
        load_pairs(corpus, manifest, 64)


def test_every_frame_in_memory(corpus):
    bank = load_frames(corpus, "test", 64)
    assert bank.frames.shape == (32, 3, 64, 64)
    assert bank.clips == ("a.mp4", "b.webm")
    assert [name for name, _ in bank.skipped] == ["cut.mp4"]
    assert [number(image) for image in bank.frames] == [*range(12), *range(100, 120)]
    assert bank.clip.tolist() == [0] * 12 + [1] * 20
    assert bank.pairs.tolist() == [[i, i + 2] for i in range(10)] + [[12 + i, 14 + i] for i in range(18)]
    gaps = bank.time[bank.pairs[:, 1]] - bank.time[bank.pairs[:, 0]]
    assert torch.allclose(gaps, torch.tensor([0.2] * 10 + [2 / 12] * 18, dtype=torch.float64), atol=1e-3)


def test_only_the_frames_that_pairs_need(corpus):
    bank = load_frames(corpus, "test", 64)
    manifest = build_manifest(corpus, "test", pairs_per_clip=3)
    needed, index = needed_frames(bank, manifest)
    assert len(needed.frames) == len(needed.clip) == len(index.unique()) < len(bank.frames)
    assert needed.frames[index].equal(load_pairs(corpus, manifest, 64))
    every = build_manifest(corpus, "test")
    assert needed_frames(bank, every)[0] is bank


def test_pairs_of_a_clip_that_is_damaged_in_its_middle_are_one_line(tmp_path: Path):
    """Its frames can be listed: it has pairs, which the training's digest names."""
    for name in ("good.mp4", "bad.mp4"):
        write_video(tmp_path / name, 24, fps=10, size=(64, 64))
    damage_middle(tmp_path / "bad.mp4")
    corpus = Corpus("two", tmp_path, (Clip("bad.mp4", "train"), Clip("good.mp4", "train")))
    manifest = build_manifest(corpus, "train")
    assert set(manifest.table["video"]) == {"bad.mp4", "good.mp4"}
    bank = load_frames(corpus, "train", 64)
    with pytest.raises(UserError, match=r"^bad\.mp4: cannot be decoded: .* replace the file .*, or move it"):
        needed_frames(bank, manifest)


def test_other_shapes_are_cropped_to_the_common_one(tmp_path: Path):
    write_video(tmp_path / "wide.mp4", 6, fps=10, size=(96, 64))
    write_video(tmp_path / "tall.mp4", 6, fps=10, size=(64, 80))
    corpus = Corpus("shapes", tmp_path, (Clip("tall.mp4", "train"), Clip("wide.mp4", "train")))
    assert load_frames(corpus, "train", 32).frames.shape == (12, 3, 32, 32)


def test_resize_keeps_the_ratio_and_antialiases():
    stripes = torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    stripes[..., ::2] = 255
    small = resize_short_side(stripes, 16)
    assert small.shape == (1, 3, 16, 24)
    assert (small[..., 2:-2].float() - 127.5).abs().max() < 8
    assert resize_short_side(stripes, 64) is stripes


def test_a_clip_leaves_memory_once_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clips, alive, left = [], [], []
    for number in range(4):
        write_video(tmp_path / f"{number}.mp4", 8, size=(96 + 8 * number, 64))  # so that each is cropped
        clips.append(Clip(f"{number}.mp4", "train"))
    whole = pairs._whole_clip

    def noted(*arguments):
        found = whole(*arguments)
        alive.append(weakref.ref(found[0]))
        return found

    def counting(parts, rows):
        def watched():
            for part in parts:
                left.append(sum(clip() is not None for clip in alive))
                yield part

        return joined_parts(watched(), rows)

    monkeypatch.setattr(pairs, "_whole_clip", noted)
    monkeypatch.setattr(pairs, "joined_parts", counting)
    bank = load_frames(Corpus("made", tmp_path, tuple(clips)), "train", 64)
    assert bank.frames.shape == (32, 3, 64, 96)
    assert left == [3, 2, 1, 0]
