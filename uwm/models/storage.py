"""Models on disk: safetensors, with the class, the configuration and a card as JSON in the metadata.

The JSON stands under one key, for safetensors writes several in no fixed order: so the same model gives the
same bytes, and a file's sha256 means something.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from uwm.bounds import identity_fields
from uwm.errors import UserError
from uwm.files import check_ours, home_path, replacing

ConfigT = TypeVar("ConfigT")
M = TypeVar("M", bound=nn.Module)
METADATA_KEY = "uwm"
WEIGHTS = "weights.safetensors"
HUB_OPTIONS = ("revision", "cache_dir", "force_download", "token", "local_files_only")


def save_module(
    module: nn.Module, path: Path | str, *, dtype: torch.dtype | None = None, card: dict | None = None
) -> None:
    """Write the module's state atomically; floating tensors are stored as `dtype` (None: as they are).

    UserError where `path` is none, a folder, a device or a file that `save_module` did not write, OSError
    where it cannot be written; nothing is left then.
    """
    path = home_path(path)
    if path.is_file():
        check_ours(path, _is_ours)
    tensors = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in module.state_dict().items()
    }
    about = {
        "class": type(module).__name__,
        "config": identity_fields(module.config),
        "card": card or {},
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={METADATA_KEY: json.dumps(about, allow_nan=False)})


class StoredModel(nn.Module, ModelHubMixin, library_name="uwm", license="mit", tags=["world-model"]):
    """A model with one way to disk, and one to the Hugging Face hub: `from_pretrained`, `save_pretrained` and
    `push_to_hub` of huggingface_hub, over the same file. A subclass names its configuration's class."""

    config_type: ClassVar[type]

    def save(self, path: Path | str, dtype: torch.dtype | None = None, card: dict | None = None) -> None:
        """Write weights and configuration as safetensors; `card` holds further JSON about the training."""
        save_module(self, path, dtype=dtype, card=card)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote, in evaluation mode. Raises UserError as `load_model`."""
        return load_model(home_path(path), cls, cls.config_type)

    def _save_pretrained(self, save_directory: Path) -> None:
        # For the hub's pages and searches; what is loaded is the configuration in the weights file.
        self._hub_mixin_config = {"class": type(self).__name__, **identity_fields(self.config)}
        self.save(save_directory / WEIGHTS)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """A folder that `save_pretrained` wrote, or a repository of the hub; `options` are HUB_OPTIONS.

        huggingface_hub's own asks for config.json first, which fails on a machine without internet. Raises
        UserError as `load_model`, TypeError for another option, and what `hf_hub_download` raises.
        """
        if unknown := sorted(set(options) - set(HUB_OPTIONS)):
            raise TypeError(f"from_pretrained takes {', '.join(HUB_OPTIONS)}, not {unknown[0]!r}")
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            return cls.load(folder / WEIGHTS)
        return cls.load(hf_hub_download(str(pretrained_model_name_or_path), WEIGHTS, **options))


def _is_ours(path: Path) -> bool:
    try:
        return {"class", "config"} <= read_metadata(path).keys()
    except UserError:
        return False


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


def load_module(path: Path, class_name: str, config_type: type[ConfigT]) -> tuple[ConfigT, dict[str, Tensor]]:
    """Configuration and float32 tensors of a file that `save_module` wrote for that class."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    metadata = read_metadata(path)
    if metadata.get("class") != class_name:
        stored_class = metadata.get("class", "something else")
        raise UserError(f"{path}: holds {stored_class}, expected the weights of a {class_name}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error
    floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    try:
        return config_from_json(config_type, metadata["config"]), floats
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: its configuration is none of a {class_name} here ({error})") from error


def load_model(path: Path, kind: Callable[[Any], M], config_type: type) -> M:
    """The model, in evaluation mode, of a file that `save_module` wrote for the class `kind`.

    Raises:
        UserError: another file, or a damaged one: keys, shapes or kinds that its configuration does not give,
            values that are not finite. Nothing of the configured size is allocated before that is known.
    """
    config: Any
    config, tensors = load_module(path, getattr(kind, "__name__", "model"), config_type)
    try:
        expected = shapes_of(lambda: kind(config), tensors)
    except (TypeError, ValueError, AssertionError, RuntimeError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: no usable configuration ({reason}); fetch the file again") from error
    for key in sorted(expected.keys() | tensors.keys()):
        if problem := _difference(expected.get(key), tensors.get(key)):
            raise UserError(f"{path}: {key} {problem}; fetch the file again")
    check_finite(path, tensors)
    model = kind(config)
    model.load_state_dict(tensors)
    return model.eval()


def _difference(expected: Tensor | None, actual: Tensor | None) -> str | None:
    if actual is None or expected is None:
        return "is missing" if actual is None else "is none of the model's"
    if actual.shape != expected.shape:
        return f"has shape {tuple(actual.shape)} where its configuration asks for {tuple(expected.shape)}"
    same = actual.is_floating_point() == expected.is_floating_point()
    return None if same else f"is {actual.dtype} where its configuration asks for {expected.dtype}"


def shapes_of(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a model without its memory. ValueError where it has more layers than there are tensors."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > 100 + 10 * len(tensors):
            raise ValueError(f"it asks for more layers than the file's {len(tensors)} tensors are for")

    handle = register_module_module_registration_hook(count)
    try:
        with torch.device("meta"):
            return dict(build().state_dict())
    finally:
        handle.remove()


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises UserError for weights that hold NaN or infinity."""
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        ends = torch.stack(torch.aminmax(tensor))  # NaN where one value is; far cheaper than asking for each
        if not bool(torch.isfinite(ends).all()):
            raise UserError(f"{path}: {key} holds NaN or infinite values; fetch the file again")


def config_from_json(config_type: type[ConfigT], data: dict[str, Any]) -> ConfigT:
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
