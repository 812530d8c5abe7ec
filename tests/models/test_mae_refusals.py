"""Checkpoints of an MAE that are refused, each in one line; what is assumed with a warning."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.models.mae_files import CONFIG, save_fair, to_hub_names, write_hub
from uwm.errors import UserError
from uwm.models.mae import MaskedAutoencoder

pytestmark = pytest.mark.filterwarnings("ignore:.* are assumed")


def refused(path: Path, *parts: str, norm_pix_loss: bool | None = None) -> None:
    with pytest.raises(UserError) as caught:
        MaskedAutoencoder.load(path, norm_pix_loss=norm_pix_loss)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert all(part in message for part in parts), message


def test_encoder_only_files_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    encoder = {n: t for n, t in fair.items() if not n.startswith(("decoder", "mask"))}
    refused(save_fair(tmp_path / "mae_pretrain_vit_base.pth", encoder), "encoder", "mae_visualize")
    hub = {n: t for n, t in to_hub_names(fair).items() if n.startswith("vit.")}
    refused(write_hub(tmp_path / "hub", hub), "encoder")
    bare = {n.removeprefix("vit."): t for n, t in hub.items()}  # ViTMAEModel.save_pretrained
    refused(write_hub(tmp_path / "bare", bare), "encoder")


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = tmp_path / "mae_visualize_vit_base.pth"
    lacking = {n: t for n, t in fair.items() if n != "blocks.1.norm2.bias"}
    refused(save_fair(file, lacking), "lacks blocks.1.norm2.bias")
    refused(save_fair(file, {n: t for n, t in fair.items() if n != "pos_embed"}), "lacks pos_embed")
    refused(save_fair(file, fair | {"head.weight": torch.zeros(2)}), "unknown head.weight")
    wrong = fair | {"blocks.1.attn.qkv.weight": torch.zeros(7, 192)}
    refused(save_fair(file, wrong), "blocks.1.attn.qkv.weight", "(7, 192)", "(576, 192)")
    refused(save_fair(file, fair | {"patch_embed.proj.weight": torch.zeros(192)}), "rank")
    refused(save_fair(file, fair | {"pos_embed": torch.zeros(1, 12, 192)}), "pos_embed", "(1, 12, 192)")


def test_unknown_hf_tensors_are_named(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    hub = to_hub_names(fair)
    refused(write_hub(tmp_path / "a", hub | {"vit.pooler.bias": torch.zeros(2)}), "unknown vit.pooler.bias")
    name = "vit.encoder.layer.0.attention.attention.key.bias"
    hub.pop(name)
    refused(write_hub(tmp_path / "b", hub), "blocks.0.attn.qkv.bias", "(384,)")


def test_unknown_widths_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    wide = fair | {"patch_embed.proj.weight": torch.zeros(200, 3, 8, 8)}
    refused(save_fair(tmp_path / "mae_visualize_x.pth", wide), "heads", "200")


def test_fair_file_of_unknown_loss_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    refused(save_fair(tmp_path / "checkpoint-799.pth", fair), "norm_pix_loss=True or False")


def test_hf_without_a_usable_config_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    folder = write_hub(tmp_path / "hub", to_hub_names(fair), model_type="vit")
    refused(folder, "ViTMAE")
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json.*JSON"):
            MaskedAutoencoder.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"need config\.json"):
        MaskedAutoencoder.load(folder)
    write_hub(folder, to_hub_names(fair), num_attention_heads=5)
    refused(folder, "configuration", "encoder_heads 5")


class Payload:
    """A pickle that would run code were it loaded carelessly."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_files_that_are_no_checkpoints_are_refused(
    tmp_path: Path, fair: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    refused(tmp_path / "absent.pth", "no such")
    refused(tmp_path, "model.safetensors")
    for name, content in (
        ("text.pth", b"hello\nworld"),
        ("empty.pth", b""),
        ("text.safetensors", b"hello\nyou"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name)
    torch.save({"model": Payload()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "safely")
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "state dict")
    refused(save_fair(tmp_path / "other.pth", {"fc.weight": torch.zeros(2)}), "no MAE checkpoint")


def test_truncated_files_are_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    whole = save_fair(tmp_path / "mae_visualize_whole.pth", fair).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.pth")
    MaskedAutoencoder(CONFIG).save(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    refused(tmp_path / "cut.safetensors")


def test_own_file_of_another_version_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = tmp_path / "mae.safetensors"
    for config in ({"image_sizes": 3}, {"image_size": 20}):
        about = {"class": "MaskedAutoencoder", "config": config}
        save_file(fair, file, {"uwm": json.dumps(about)})
        refused(file, "config")
    for text in ("{", "[]"):
        save_file(fair, file, {"uwm": text})
        refused(file, "metadata")


def test_a_refusal_names_the_keys_that_it_saw(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    torch.save({"weights": fair, "epoch": 3}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "keys epoch, weights")
    torch.save({"model": {"backbone.fc.weight": torch.zeros(2)}}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth", "backbone.fc.weight")


def test_heads_by_argument_or_with_a_warning(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    file = save_fair(tmp_path / "mae_visualize.pth", fair)
    with pytest.warns(UserWarning, match=r"heads of its (encoder|decoder), \d+ wide: \d are assumed"):
        assert MaskedAutoencoder.load(file).config.encoder_heads == 3
    told = MaskedAutoencoder.load(file, encoder_heads=12, decoder_heads=16).config
    assert (told.encoder_heads, told.decoder_heads) == (12, 16)
    wide = fair | {"decoder_embed.weight": torch.zeros(400, 192)}
    refused(save_fair(tmp_path / "mae_visualize_x.pth", wide), "decoder_heads=N")


def test_what_no_config_of_ours_can_say_is_refused(tmp_path: Path, fair: dict[str, Tensor]) -> None:
    narrow = {n: t[:384] if n.endswith("mlp.fc1.weight") and "decoder" in n else t for n, t in fair.items()}
    refused(save_fair(tmp_path / "mae_visualize_a.pth", narrow), "1 times as wide", "2 times")
    grey = fair | {"patch_embed.proj.weight": torch.zeros(192, 1, 8, 8)}
    refused(save_fair(tmp_path / "mae_visualize_b.pth", grey), "1 channels")
    broken = fair | {"norm.bias": torch.full((192,), float("nan"))}
    refused(save_fair(tmp_path / "mae_visualize_c.pth", broken), "norm.bias", "NaN or infinite")
