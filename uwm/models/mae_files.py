"""Opening files of MAE weights: what is stored, whoever stored it, as plain names and tensors.

Trainers wrap a model's tensors (`{"model": ...}`, `{"state_dict": ...}`, averaged ones in `model_ema`) and
their names (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning), and
the Hugging Face hub cuts them into shards. All of that is undone here.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uwm.errors import UserError
from uwm.models.storage import parse_metadata

HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HF_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "net", "model_ema", "ema")
"""Keys under which checkpoints keep a model's tensors, the first that is there counts."""
PREFIXES = ("module.", "_orig_mod.", "model.", "mae.", "net.")
"""What wrapping modules put before every name."""
KNOWN = ("patch_embed.proj.weight", "vit.embeddings.cls_token", "embeddings.cls_token")
"""Names by which an MAE's tensors are recognised: FAIR's, and Hugging Face's."""
WANTED = (
    "load mae_visualize_vit_*.pth, mae_pretrain_vit_*_full.pth, a HF ViTMAE folder or a file of this project"
)


@dataclass(frozen=True)
class Stored:
    """Tensors by name, what our own files say of themselves, and the arguments of the training."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_stored(path: Path) -> Stored:
    """What a file, or a folder of the hub, stores. `UserError` for anything that holds no tensors."""
    file = weights_file(path)
    content, metadata = _content(file)
    return _unwrapped(file, content, metadata)


def _content(file: Path) -> tuple[Any, dict[str, Any]]:
    """Everything in one file, or in the shards of an index; and the metadata that our own files have."""
    if file.name in HF_INDICES:
        return _read_shards(file), {}
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    return _load(file), {}


def weights_file(path: Path) -> Path:
    """The file to open: the path itself, or in a folder of the hub its weights or their index."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such MAE checkpoint: {WANTED}")
    for name in (*HF_WEIGHTS, *HF_INDICES):
        if (path / name).is_file():
            return path / name
    raise UserError(f"{path}: the folder holds none of {', '.join((*HF_WEIGHTS, *HF_INDICES))}: {WANTED}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors that an index of the hub names, from the shards beside it."""
    where = read_config_json(index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise UserError(f"{index}: its `weight_map` names no shards: fetch the file again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(where.values())):
        shard = index.parent / name
        if Path(name).name != name or not shard.is_file():
            raise UserError(f"{index}: the shard {name} is not beside it: fetch all files of the folder")
        content = _content(shard)[0]
        tensors |= content if isinstance(content, dict) else {}
    if missing := where.keys() - tensors.keys():
        raise UserError(f"{index}: its shards lack {some(missing)}: fetch them again")
    return tensors


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()  # no dict: the handle itself can't be iterated
            tensors = dict(zip(names, map(opened.get_tensor, names), strict=True))
            return tensors, parse_metadata(file, opened.metadata())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file ({short_reason(error)})") from error


def _load(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Mapped, where the file's kind allows it: what only looks at sizes reads no copy of them.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except Exception as error:  # torch.load has no common base for what a foreign file can cause
        raise UserError(
            f"{file}: not a checkpoint that can be read safely ({short_reason(error)}): {WANTED}"
        ) from error


def _unwrapped(file: Path, content: Any, metadata: dict[str, Any]) -> Stored:
    """The tensors in a checkpoint, and its training arguments."""
    state, summary = content, f"a {type(content).__name__}"
    while isinstance(state, dict):
        summary = f"keys {some(map(str, state))}"
        inner = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), None)
        if inner is None:
            break
        state = inner
    tensors = {n: t for n, t in state.items() if isinstance(t, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise UserError(f"{file}: holds no state dict of tensors, but {summary}: {WANTED}")
    return Stored(_without_prefix(tensors), metadata, _arguments(content))


def _arguments(content: dict[Any, Any]) -> dict[str, Any]:
    """What a trainer wrote of its own arguments: FAIR under `args`, Lightning under `hyper_parameters`."""
    arguments = content.get("args", content.get("hyper_parameters"))
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    return arguments if isinstance(arguments, dict) else {}


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as the model itself has them; tensors of other parts (a loss, a teacher) are left out."""
    while not any(name in tensors for name in KNOWN):
        ends = tuple(f".{name}" for name in KNOWN)
        marked = [name for name in tensors if name.endswith(ends)]
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in marked)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return tensors


def read_config_json(file: Path) -> dict[str, Any]:
    """A JSON object. `UserError` for anything else."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: HF weights need config.json beside them ({short_reason(error)})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: its content is no JSON ({short_reason(error)}): fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: its content is no JSON object: fetch the file again")
    return value


def some(names: Iterable[str]) -> str:
    """The first few of many names, as text."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more keys" if len(names) > 3 else "")


def short_reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
