"""What scales `small` and `paper` read, at toy size: corpora in their owners' layouts, a published MAE."""

import json
from pathlib import Path

import torch
from torchvision.models import alexnet

from tests.data.video_files import write_video
from tests.robot_toy import write_toy
from uwm.models import MAEConfig, MaskedAutoencoder

# As wide as ViT-T: a FAIR file does not tell its heads, and only known widths do.
TINY = MAEConfig(
    image_size=64,
    encoder_width=192,
    encoder_depth=1,
    encoder_heads=3,
    decoder_width=384,
    decoder_depth=1,
    decoder_heads=6,
)


def write_ssv2(folder: Path, clips: int = 12, frames: int = 24) -> None:
    """Label files and numbered .webm: half of the clips to train on, a quarter each for the other splits."""
    train, rest = clips // 2, clips // 4
    splits = {"train": train, "validation": rest, "test": rest}
    (folder / "labels").mkdir(parents=True)
    first = 1
    for split, count in splits.items():
        numbers = range(first, first + count)
        rows = [{"id": str(number), "label": "x"} for number in numbers]
        (folder / "labels" / f"{split}.json").write_text(json.dumps(rows))
        for number in numbers:
            write_video(folder / "20bn-something-something-v2" / f"{number}.webm", frames, first=7 * number)
        first += count


def write_ego4d(folder: Path, clips: int = 24, frames: int = 40) -> None:
    """What `ego4d --datasets video_540ss` leaves."""
    uids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(clips)]
    for number, uid in enumerate(uids):
        write_video(folder / "v2" / "video_540ss" / f"{uid}.mp4", frames, first=7 * number)
    table = {"videos": [{"video_uid": uid, "duration_sec": 1.3, "video_components": []} for uid in uids]}
    (folder / "v2" / "ego4d.json").write_text(json.dumps(table | {"clips": []}))


def write_published(path: Path, config: MAEConfig, *, seed: int | None = None) -> None:
    """An MAE under the keys of FAIR's files: fresh weights of a seed, or zeros (the test then only plans)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.device("cpu" if seed is not None else "meta"):
        state = MaskedAutoencoder(config, seed=seed or 0).state_dict()  # our keys are those of the file
    if seed is None:
        state = {name: torch.zeros(tensor.shape) for name, tensor in state.items()}
    torch.save({"model": state}, path)
    assert MaskedAutoencoder.load(path).config == config


def write_lpips(folder: Path) -> None:
    """AlexNet's features, with weights of seed 0, as LPIPS looks for them."""
    torch.manual_seed(0)
    features = {f"features.{name}": value for name, value in alexnet().features.state_dict().items()}
    torch.save(features, folder / "alexnet_features.pth")


def write_world(folder: Path, mae: MAEConfig, *, demos: int = 90, seed: int | None = None) -> None:
    """SSV2, EGO4D, ROBOSUITE.hdf5, weights and SITE.toml below `folder`."""
    write_ssv2(folder / "SSV2")
    write_ego4d(folder / "EGO4D")
    write_toy(folder / "ROBOSUITE.hdf5", demos=demos, hand=True)
    names = ("SSV2", "EGO4D", "ROBOSUITE.hdf5")
    places = "\n".join(f'{name.lower().partition(".")[0]} = "{folder / name}"' for name in names)
    (folder / "SITE.toml").write_text(f"gpus_per_node = 8\n[data]\n{places}\n")
    write_published(folder / "weights" / "mae_visualize_vit_base.pth", mae, seed=seed)
    write_lpips(folder / "weights")
