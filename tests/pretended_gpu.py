"""A GPU that is only pretended: tensors "on" it lie in the memory of the CPU, and remember where they are.

What a GPU refuses is refused here too: operations on tensors of two devices, NumPy's view of a GPU's tensor,
pinning one, another device's random generator. So programs for a GPU can be tried where there is none.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
_there: dict[int, StorageWeakRef] = {}  # the storages on the GPU; a weak reference keeps its number taken
aten = torch.ops.aten
# Operations that read one device and write another, or index a GPU's tensor from the CPU.
COPIES = {aten.copy_, aten._foreach_copy_, aten.set_}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class TwoDevices(RuntimeError):  # noqa: N818 (the name says what happened)
    """An operation on tensors of two devices, or one that a GPU's tensor does not have."""


def is_there(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU."""
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage()._cdata in _there


def _put(tensor: Tensor, there: bool) -> None:
    with torch._C.DisableTorchFunction():
        storage = tensor.untyped_storage()
    if there:
        _there.setdefault(storage._cdata, StorageWeakRef(storage))
    else:
        _there.pop(storage._cdata, None)


class _Generator(torch._C.Generator):
    """A generator that knows for which device it draws."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


class _Operations(TorchDispatchMode):
    """What an operation reads must be in one place; what it gives is there too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        places = [is_there(x) for x in tensors]
        packet, there = func.overloadpacket, any(places)
        if there and packet not in COPIES:
            first = next((x for x in tree_leaves(args) if isinstance(x, Tensor)), None)
            indexes = packet in INDEXING and first is not None and is_there(first)
            for x, place in zip(tensors, places, strict=True):
                numbers = x.dim() == 0 and x is not first
                index = indexes and not x.is_floating_point()
                if not (place or numbers or index):
                    raise TwoDevices(f"{func} of tensors on cuda and cpu: {tuple(x.shape)} {x.dtype} on cpu")
        before = {x.untyped_storage()._cdata for x in tensors}
        result = func(*args, **kwargs)
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in before:
                # A tensor that is set to a storage of the GPU is there too (`copy.deepcopy` sets some).
                _put(x, there or (packet is aten.set_ and is_there(x)))
        return result


class _Devices(TorchFunctionMode):
    """What says `cuda` is made on the CPU, and marked."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        x = args[0] if args and isinstance(args[0], Tensor) else None
        if x is not None and name == "__get__":
            for what, found in ((Tensor.device, GPU), (Tensor.is_cuda, True), (Tensor.is_cpu, False)):
                if func == what.__get__:
                    return found if is_there(x) else func(*args)
        if x is not None and is_there(x) and name in ("numpy", "__array__", "pin_memory"):
            raise TwoDevices(f"{name} of a tensor on cuda")
        if name == "pin_memory":
            return args[0].clone()
        if name in ("to", "cpu", "cuda") and x is not None:
            return _moved(name, x, args[1:], kwargs)
        target = kwargs.pop("device", None)
        generator = kwargs.get("generator")
        if target is None:
            place = (
                is_there(x) if x is not None and (name.startswith("new_") or name.endswith("_like")) else None
            )
            there = bool(place)
        else:
            place = there = torch.device(target).type == "cuda"
        if isinstance(generator, _Generator):
            asked = is_there(x) if x is not None and name.endswith("_") else there
            if (generator.place.type == "cuda") != asked:
                raise TwoDevices(f"{name} draws on one device by a generator of another")
        result = func(*args, **kwargs)
        if place is not None:
            for made in tree_leaves(result):
                if isinstance(made, Tensor):
                    _put(made, there)
        return result


def _moved(name: str, x: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor:
    target = {"cpu": CPU, "cuda": GPU}.get(name) or kwargs.get("device")
    dtype = kwargs.get("dtype")
    for given in args:
        if isinstance(given, Tensor):
            target, dtype = (GPU if is_there(given) else CPU), given.dtype
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, torch.device | str):
            target = given
    was = is_there(x)
    there = was if target is None else torch.device(target).type == "cuda"
    result = x.to(dtype or x.dtype, copy=kwargs.get("copy", False))
    if there != was:
        result = result.clone() if result is x else result
        _put(result, there)
    return result


def _uncounted(_: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    return func(*args, **kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Inside this context there is a GPU."""
    settings = (
        ("is_available", lambda: True),
        ("device_count", lambda: 1),
        ("get_device_name", lambda *_: "NVIDIA H100"),
        ("set_device", lambda *_: None),
        ("synchronize", lambda *_: None),
        ("max_memory_allocated", lambda *_: 0),
        ("is_bf16_supported", lambda *_: True),
    )
    with ExitStack() as stack:
        for name, value in settings:
            stack.enter_context(patch.object(torch.cuda, name, value))
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(patch("torch.accelerator.current_accelerator", lambda **_: None))
        # The counter takes operations apart, and asks for their device below what is pretended here.
        stack.enter_context(patch("torch.utils.flop_counter._FlopCounterMode.__torch_dispatch__", _uncounted))
        stack.enter_context(_Operations())
        stack.enter_context(_Devices())
        try:
            yield GPU
        finally:
            _there.clear()
