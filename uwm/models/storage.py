"""Models on disk: safetensors, with the class, the configuration and a card as JSON in the metadata."""

import dataclasses
import json
import os
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from uwm.errors import UserError

C = TypeVar("C")


def save_module(
    module: nn.Module, path: Path, *, dtype: torch.dtype | None = None, card: dict | None = None
) -> None:
    """Write the module's state atomically; floating tensors are stored as `dtype` (None: as they are)."""
    tensors = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in module.state_dict().items()
    }
    metadata = {
        "class": type(module).__name__,
        "config": json.dumps(dataclasses.asdict(module.config), allow_nan=False),  # type: ignore[call-overload]
        "card": json.dumps(card or {}, allow_nan=False),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, partial, metadata=metadata)
    os.replace(partial, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON metadata of a safetensors file: `{}` where it holds none. UserError when it can't be read."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    return {k: json.loads(v) if k in ("config", "card") else v for k, v in metadata.items()}


def load_module(path: Path, class_name: str, config_type: type[C]) -> tuple[C, dict[str, Tensor]]:
    """Configuration and float32 tensors of a file that `save_module` wrote for that class."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    metadata = read_metadata(path)
    if metadata.get("class") != class_name:
        found = metadata.get("class", "something else")
        raise UserError(f"{path}: holds {found}, expected the weights of a {class_name}")
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return config_from_json(config_type, metadata["config"]), floats


def config_from_json(config_type: type[C], data: dict[str, Any]) -> C:
    """Rebuild a (nested) frozen dataclass from `dataclasses.asdict` that went through JSON."""
    hints = typing.get_type_hints(config_type)
    values = {}
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
        if field.name in data:
            values[field.name] = _convert(hints[field.name], data[field.name])
    return config_type(**values)


def _convert(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return config_from_json(hint, value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        return None if value is None else _convert(inner[0], value)
    return tuple(value) if isinstance(value, list) else value
