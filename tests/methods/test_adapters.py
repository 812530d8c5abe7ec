"""The adapters of docs/methods/ keep to the protocol on random weights of the right shapes."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.documents import MOST_LINES, ROOT
from uwm.errors import UserError
from uwm.methods.conformance import problems
from uwm.methods.files import ClassFile

METHODS = ROOT / "docs" / "methods"


def check(folder: Path, name: str, class_name: str) -> list[str]:
    """The lines of the check about an adapter, copied beside its weights."""
    text = (METHODS / name).read_text()
    assert len(text.splitlines()) < MOST_LINES
    (folder / name).write_text(text)
    source = ClassFile.parse(f"{folder / name}:{class_name}")
    source.weights()
    return list(problems(source.build()))


class Network(torch.nn.Module):
    """Codes of a linear layer's signs; frames a little lighter or darker."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 12, bias=False)

    @torch.jit.export
    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        bits = self.layer((frames_next - frames_t).mean((2, 3))) > 0  # (B, 12)
        return (bits.view(-1, 4, 3) * torch.tensor([1, 2, 4])).sum(2)

    @torch.jit.export
    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return (frames_t + 0.01 * actions.float().mean(1)[:, None, None, None]).clamp(0, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return frames


def test_a_torchscript_program_is_a_method(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.jit.script(Network()).save(str(tmp_path / "program.pt"))
    assert check(tmp_path, "torchscript.py", "Program") == []


class Quantizer(torch.nn.Module):
    """What LAPA's adapter uses of `laq_model`, with the shapes of its tensors."""

    def __init__(self, code_seq_len: int, codebook_size: int, image_size: int, **_: int) -> None:
        super().__init__()
        self.vq = torch.nn.Module()
        self.vq.codebooks = torch.nn.Parameter(torch.randn(codebook_size, 32))
        self.read, self.draw = torch.nn.Linear(3, 32 * code_seq_len), torch.nn.Linear(32 * code_seq_len, 3)
        self.size, self.tokens = image_size, code_seq_len

    def inference(self, video, return_only_codebook_ids=False, user_action_token_num=None):
        now, then = video.unbind(2)
        assert now.shape[2:] == (self.size, self.size)
        tokens = self.read((then - now).mean((2, 3))).unflatten(1, (self.tokens, 32))
        codes = torch.cdist(tokens, self.vq.codebooks).argmin(-1)
        if user_action_token_num is not None:
            codes = torch.tensor(user_action_token_num, device=self.vq.device).view(-1, self.tokens)
        if return_only_codebook_ids:
            return codes
        return now + self.draw(self.vq.codebooks[codes].flatten(1))[..., None, None]


def test_lapas_quantiser_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("laq_model")
    package.LatentActionQuantization = Quantizer
    monkeypatch.setitem(sys.modules, "laq_model", package)
    torch.manual_seed(0)
    state = Quantizer(4, 8, 256).state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "laq.pt")
    assert check(tmp_path, "lapa_laq.py", "LAQ") == []


class Blocks(torch.nn.Module):
    def __init__(self, into: int, out: int, blocks: int) -> None:
        super().__init__()
        self.transformer_blocks = torch.nn.ModuleList(torch.nn.Linear(into, into) for _ in range(blocks))
        self.out = torch.nn.Linear(into, out)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.transformer_blocks:
            x = x + block(x).tanh()
        return self.out(x)


class Encoder(torch.nn.Module):
    """What AdaWorld's adapter uses of `lam`, with the shapes of its tensors."""

    def __init__(self, in_dim, model_dim, latent_dim, patch_size, enc_blocks, dec_blocks, num_heads) -> None:
        super().__init__()
        values = in_dim * patch_size**2
        self.size, self.mu_record = patch_size, None
        self.encoder, self.decoder = (
            Blocks(values, model_dim, enc_blocks),
            Blocks(model_dim, values, dec_blocks),
        )
        self.fc, self.patch_up = (
            torch.nn.Linear(model_dim, 2 * latent_dim),
            torch.nn.Linear(values, model_dim),
        )
        self.action_up = torch.nn.Linear(latent_dim, model_dim)

    def encode(self, videos: Tensor) -> dict[str, Tensor]:
        patches = patchify(videos, self.size)
        moments = self.fc(self.encoder(patches[:, 1] - patches[:, 0]).mean(1))
        self.mu_record = moments if self.mu_record is None else torch.cat([self.mu_record, moments])
        return {"z_mu": moments.chunk(2, dim=1)[0]}


def patchify(videos: Tensor, size: int) -> Tensor:
    """(B, T, H, W, C) -> (B, T, N, size * size * C)."""
    return videos.unflatten(3, (-1, size)).unflatten(2, (-1, size)).transpose(3, 4).flatten(4).flatten(2, 3)


def unpatchify(patches: Tensor, size: int, height: int, width: int) -> Tensor:
    grid = patches.unflatten(3, (size, size, -1)).unflatten(2, (height // size, width // size))
    return grid.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def test_adaworlds_encoder_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = torch.rand(2, 1, 32, 48, 3)
    assert torch.equal(unpatchify(patchify(videos, 16), 16, 32, 48), videos)
    modules = types.ModuleType("lam.modules")
    modules.LatentActionModel = Encoder
    modules.blocks = types.ModuleType("lam.modules.blocks")
    modules.blocks.patchify, modules.blocks.unpatchify = patchify, unpatchify
    parts = {"lam": types.ModuleType("lam"), "lam.modules": modules, "lam.modules.blocks": modules.blocks}
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    torch.manual_seed(0)
    state = Encoder(3, 24, 32, 16, 2, 3, 16).state_dict()
    torch.save({f"lam.{name}": value for name, value in state.items()}, tmp_path / "lam.pt")
    assert check(tmp_path, "adaworld.py", "Encoder") == []


class ShufflingMAE(torch.nn.Module):
    """As a Hugging Face MAE that hides nothing: the patches in the order of a noise."""

    def __init__(self) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(patch_size=16)
        self.embed = torch.nn.Conv2d(3, 6, 16, 16)

    def forward(self, pixels: Tensor, noise: Tensor | None = None) -> types.SimpleNamespace:
        patches = self.embed(pixels).flatten(2).transpose(1, 2)  # (B, N, 6)
        order = (torch.rand(patches.shape[:2]) if noise is None else noise).argsort(1)
        return types.SimpleNamespace(last_hidden_state=patches.gather(1, order[..., None].expand(-1, -1, 6)))


class MotionTokenizer(torch.nn.Module):
    """What Moto's adapter uses of `latent_motion_tokenizer`, with the shapes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.read = ShufflingMAE(), torch.nn.Linear(196 * 6, 8 * 32)
        self.vector_quantizer = torch.nn.Embedding(128, 32)
        self.vector_quantizer.get_codebook_entry = self.vector_quantizer.forward
        self.draw = torch.nn.Linear(8 * 32, 3)

    def tokenize(self, cond_pixel_values: Tensor, target_pixel_values: Tensor) -> tuple[Tensor, Tensor, None]:
        now, then = (
            self.image_encoder(x).last_hidden_state for x in (cond_pixel_values, target_pixel_values)
        )
        tokens = self.read((then - now).flatten(1)).unflatten(1, (8, 32))
        codes = torch.cdist(tokens, self.vector_quantizer.weight).argmin(-1)
        return self.vector_quantizer(codes), codes, None

    def decode_image(self, cond_pixel_values: Tensor, given_motion_token_ids: Tensor) -> dict[str, Tensor]:
        moved = self.draw(self.vector_quantizer(given_motion_token_ids).flatten(1))
        return {"recons_pixel_values": cond_pixel_values + moved[..., None, None]}


@pytest.fixture
def moto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Moto's packages, and the tensors of its checkpoint: those of the MAE are not among them."""
    hydra, omegaconf = types.ModuleType("hydra"), types.ModuleType("omegaconf")
    hydra.utils = types.ModuleType("hydra.utils")
    hydra.utils.instantiate = lambda config: MotionTokenizer()
    omegaconf.OmegaConf = types.SimpleNamespace(load=Path.read_text)
    package = types.ModuleType("latent_motion_tokenizer")
    for module in (hydra, hydra.utils, omegaconf, package):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    (tmp_path / "moto.yaml").write_text("codebook_dim: 32\n")
    return {k: v for k, v in MotionTokenizer().state_dict().items() if not k.startswith("image_encoder")}


def test_motos_tokenizer_is_a_method(tmp_path: Path, moto: dict[str, Tensor]) -> None:
    torch.save(moto, tmp_path / "moto.bin")
    assert check(tmp_path, "moto.py", "Tokenizer") == []


def test_a_checkpoint_of_another_model_is_one_line(tmp_path: Path, moto: dict[str, Tensor]) -> None:
    del moto["read.weight"]
    torch.save(moto, tmp_path / "moto.bin")
    with pytest.raises(UserError, match=r"moto\.bin is no checkpoint of moto\.yaml: read\.weight"):
        check(tmp_path, "moto.py", "Tokenizer")


class JEPA(torch.nn.Module):
    """What the adapter of stable-worldmodel's models uses of LeWM, with the shapes of its tensors."""

    def __init__(self, action_size: int, width: int = 12) -> None:
        super().__init__()
        self.encoder, self.projector = torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width)
        self.action_encoder = torch.nn.Linear(action_size, width)
        self.predictor = torch.nn.Linear(2 * width, width)

    def encode(self, info: dict[str, Tensor]) -> dict[str, Tensor]:
        assert info["pixels"].shape[1:] == (1, 3, 224, 224)
        cls = self.encoder(info["pixels"].flatten(0, 1).mean((2, 3)))
        return {**info, "emb": self.projector(cls).unflatten(0, info["pixels"].shape[:2])}

    def predict(self, emb: Tensor, act_emb: Tensor) -> Tensor:
        return emb + 0.1 * self.predictor(torch.cat([emb, act_emb], dim=2)).tanh()


class Decoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(12, 3)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.layer(embedded).sigmoid()[:, :, None, None].expand(-1, -1, 224, 224)


def test_a_world_model_of_real_actions_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hydra = types.ModuleType("hydra")
    hydra.utils = types.ModuleType("hydra.utils")
    hydra.utils.instantiate = lambda config: JEPA(config["action_encoder"]["input_dim"])
    for module in (hydra, hydra.utils, types.ModuleType("stable_worldmodel")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.manual_seed(0)
    model = JEPA(10)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps({"action_encoder": {"input_dim": 10}}))
    torch.jit.script(Decoder()).save(str(tmp_path / "decoder.pt"))
    assert check(tmp_path, "stable_wm.py", "WorldModel") == []
    adapted = ClassFile.parse(f"{tmp_path / 'stable_wm.py'}:WorldModel").build().eval()
    now = torch.rand(2, 3, 224, 224)
    embedded = adapted._embedded(now)
    reached = adapted._step(embedded, adapted.candidates[[7, 200]])
    monkeypatch.setattr(adapted, "_embedded", lambda frames: embedded if frames is now else reached)
    assert adapted.infer(now, torch.zeros(1)).tolist() == [[7], [200]]  # the actions that led there


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("stable_wm.py:WorldModel", "the package 'stable-worldmodel"),
        ("lapa_laq.py:LAQ", "LAPA's own"),
        ("adaworld.py:Encoder", "AdaWorld's own"),
        ("moto.py:Tokenizer", "Moto's own"),
    ],
)
def test_an_adapter_says_which_package_it_lacks(name: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        ClassFile.parse(f"{METHODS / name}").build()
