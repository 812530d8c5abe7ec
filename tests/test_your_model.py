"""docs/your-model.md works: its file is written and its commands run, up to the tables and the HTML page;
the adapters of docs/methods/ keep to the protocol on random weights of the right shapes."""

import json
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from pandas import read_csv
from safetensors.torch import load_file
from torch import Tensor

from paper.figures import main as figures
from tests.documents import ROOT, blocks, commands, run
from uwm.errors import UserError
from uwm.methods.conformance import problems
from uwm.methods.files import ClassFile
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment
from uwm.runs.record import file_sha256, record_problems, sample_files

PAGE = ROOT / "docs" / "your-model.md"
METHODS = ROOT / "docs" / "methods"
MOST_LINES = 60


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the page was followed: mine.py, its weights, and `runs/mine`."""
    folder = tmp_path_factory.mktemp("mine")
    for _, text in blocks(PAGE, "python"):
        name, _, code = text.partition("\n")
        assert len(code.splitlines()) <= MOST_LINES
        (folder / name.removeprefix("# ")).write_text(code)
    for _, shell in blocks(PAGE, "sh"):
        for words in commands(shell):
            places = [re.sub(r"^experiments/", f"{ROOT}/experiments/", word) for word in words]
            done = run(places, folder, folder / "cache", project=ROOT)
            assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return folder


def test_the_page_gives_records_that_name_file_and_weights(measured: Path) -> None:
    paths = sorted((measured / "runs" / "mine" / "smoke" / "table1").glob("*.json"))
    assert [path.stem for path in paths] == ["mine__sim-ego", "mine__sim-third-person"]
    assert [problem for path in paths for problem in record_problems(path)] == []
    record = json.loads(paths[0].read_text())
    weights = {"mine.safetensors": file_sha256(measured / "mine.safetensors")}
    given = {"file": "mine.py", "class": "Shift", "sha256": file_sha256(measured / "mine.py")}
    assert record["config"]["method"] == {**given, "weights": weights}
    named = {"mine.py": given["sha256"], **weights}
    assert named.items() <= record["inputs"]["weights"].items()
    assert {"mae", "lpips", "no-action"} < set(record["inputs"]["weights"])
    assert str(measured) not in paths[0].read_text()
    names = "lpips_to_next lpips_to_next_true psnr leak own_over_shuffled gain_over_no_action bits parameters"
    names += " lpips_over_codec delta_psnr"
    assert set(names.split()) <= set(record["metrics"])
    assert record["metrics"]["bits"]["value"] == 8
    assert record["metrics"]["parameters"]["value"] == pytest.approx(3e-6)


def test_on_a_robots_corpus_its_actions_are_probed_and_transferred(measured: Path) -> None:
    words = "python experiments/table1.py --scale smoke --set corpora=sim-panda --only mine --out runs/robot"
    words = [word.replace("experiments", f"{ROOT}/experiments") for word in words.split()]
    done = run([*words, "--method", "mine=mine.py:Shift"], measured, measured / "cache", project=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((measured / "runs" / "robot" / "mine__sim-panda.json").read_text())
    names = "probe_r2 probe_r2_mlp transfer transfer_mm transfer_px transfer_picture delta_psnr"
    assert set(names.split()) <= set(record["metrics"])
    assert record["config"]["reader"]
    assert "reader-hand-in-picture" in record["inputs"]["stages"]
    assert {path["path"].split("/")[1] for path in sample_files(record["samples"])} >= {"actions"}
    assert list(record_problems(measured / "runs" / "robot" / "mine__sim-panda.json")) == []


def test_a_model_with_a_trainer_is_trained_and_its_record_says_so(measured: Path) -> None:
    folder = measured / "runs" / "fade" / "smoke" / "table1"
    [path] = folder.glob("*.json")
    assert list(record_problems(path)) == []
    record = json.loads(path.read_text())
    learnt = record["inputs"]["weights"]["fade-fitted"]
    assert record["inputs"]["stages"]["fitted-fade"]["origin"] == "trained"
    [weights] = (measured / "cache").glob("fitted-fade-*/weights.safetensors")
    assert file_sha256(weights) == learnt
    assert not torch.equal(load_file(weights)["shares"], torch.linspace(0.5, 1.5, 8))
    assert record["config"]["trained_as"]["steps"] == 4  # as our own model at this scale


def test_nothing_went_among_the_committed_records(measured: Path) -> None:
    assert not list((ROOT / "results").rglob("mine__*"))


def test_tables_and_page_show_the_row(measured: Path, tmp_path: Path) -> None:
    results = measured / "runs" / "mine"
    arguments = ["--results", str(results), "--scale", "smoke", "--out", str(tmp_path / "out")]
    assert figures([*arguments, "--processes", "1"]) == 0
    table = (tmp_path / "out" / "smoke" / "table1_sim-ego.csv").read_text()
    assert re.search(r'^mine,"0\.\d{3} \[', table, flags=re.MULTILINE)
    board = read_csv(tmp_path / "out" / "smoke" / "leaderboard_smoke.csv").iloc[0]
    for column in ("Bits", "LPIPS / x264's at its bits", "Delta-PSNR, dB", "Leak, state"):
        assert re.fullmatch(r"-?[\d.]+", str(board[column])), column
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<td>mine</td>" in page
    assert 'src="data:image/png' in page  # Figure 3 of the method


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs an experiment's command line, expects exit code 2, and gives the one line on stderr."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))

    def call(experiment: str, *arguments: str) -> str:
        loaded = load_experiment(ROOT / "experiments" / f"{experiment}.py")
        assert main(loaded, ["--scale", "smoke", "--dry-run", *arguments]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    return call


PERFECT = f"mine={ROOT}/tests/methods/models.py:Perfect"


@pytest.mark.parametrize(
    ("experiment", "arguments", "part"),
    [
        ("table1", ["--method", "mine"], "write --method NAME=VALUE"),
        ("table1", ["--method", "mine=nowhere.py:Mine"], "nowhere.py"),
        ("table1", ["--method", f"uwm={ROOT}/tests/methods/models.py:Perfect"], "uwm already"),
        ("table1", ["--method", PERFECT, PERFECT], "twice"),
        ("table1", ["--method", PERFECT, "--out", f"{ROOT}/results/smoke/table1"], "go elsewhere"),
        ("figure4", ["--method", PERFECT], "figure4 measures no methods of others"),
    ],
)
def test_a_wrong_method_is_one_line(refused, experiment: str, arguments: list[str], part: str) -> None:
    assert part in refused(experiment, *arguments)


# The adapters


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
