"""Models on disk: safetensors, with the class, the configuration and a card as JSON in the metadata.

The JSON stands under one key, for safetensors writes several in no fixed order: so the same model gives the
same bytes, and a file's sha256 means something.
"""

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
METADATA_KEY = "uwm"


def save_module(
    module: nn.Module, path: Path, *, dtype: torch.dtype | None = None, card: dict | None = None
) -> None:
    """Write the module's state atomically; floating tensors are stored as `dtype` (None: as they are)."""
    tensors = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in module.state_dict().items()
    }
    about = {
        "class": type(module).__name__,
        "config": dataclasses.asdict(module.config),  # type: ignore[call-overload]
        "card": card or {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(about, allow_nan=False)})
    os.replace(partial, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """What `save_module` wrote beside the tensors: class, config and card; `{}` for other files.

    UserError when the file can't be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return parse_metadata(path, file.metadata())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error


def parse_metadata(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    """The same from a safetensors file's raw metadata."""
    try:
        about = json.loads((metadata or {}).get(METADATA_KEY, "{}"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: its metadata is no JSON ({error}): fetch the file again") from error
    if not isinstance(about, dict):
        raise UserError(f"{path}: its metadata is no JSON object: fetch the file again")
    return about


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
    try:
        return config_from_json(config_type, metadata["config"]), floats
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its configuration is none of a {class_name} here ({error})") from error


def config_from_json(config_type: type[C], data: dict[str, Any]) -> C:
    """Rebuild a (nested) frozen dataclass from `dataclasses.asdict` that went through JSON.

    ValueError for a field that the dataclass does not have: no value is dropped silently.
    """
    hints = typing.get_type_hints(config_type)
    known = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{config_type.__name__} has no field {unknown[0]!r}")
    return config_type(**{name: _convert(hints[name], value) for name, value in data.items()})


def _convert(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return config_from_json(hint, value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        return None if value is None else _convert(inner[0], value)
    return tuple(value) if isinstance(value, list) else value
