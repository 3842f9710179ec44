"""The whole state of a training as bytes, and back: safetensors, without pickles.

Tensors of the model and of the optimizers travel under their names; numbers, lists and words of optimizers and schedulers
as JSON in the metadata. Every rank that stands at the same place writes the same bytes.
Format: github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import ctypes
import json
import struct
from typing import Any, Iterable, Iterator, NamedTuple

import torch
from torch import nn

_names = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Of newer releases of torch.
_newer = {"uint16": "U16", "uint32": "U32", "uint64": "U64", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
_names.update({getattr(torch, dtype): name for dtype, name in _newer.items() if hasattr(torch, dtype)})
_types = {name: dtype for dtype, name in _names.items()}


class Buffer(NamedTuple):
    """A place of a model that may be given another tensor at any time."""

    name: str
    owner: dict[str, Any]
    key: str

    @property
    def tensor(self) -> torch.Tensor:
        return self.owner[self.key]


def buffers_of(model: nn.Module) -> list[Buffer]:
    """Those of `named_buffers()`, each once. Kept, as that walks through the whole model each time."""
    names = {name for name, _ in model.named_buffers()}
    return [
        Buffer(name, module._buffers, key)
        for prefix, module in model.named_modules()
        for key in module._buffers
        if (name := f"{prefix}.{key}" if prefix else key) in names
    ]


class State:
    """What a model, its optimizers and anything else with a `state_dict()` hold after `step` completed steps."""

    def __init__(self, model: nn.Module, optimizers: list[Any], extra: list[Any]) -> None:
        self.model = model
        self.optimizers = optimizers
        self.extra = extra
        self.step = 0
        # Written at the top of each step: a forward pass moves running averages and the like before the step counts.
        self._places = buffers_of(model)
        self.buffers = {place.name: place.tensor.detach().clone() for place in self._places}

    def keep_buffers(self) -> None:
        if not self._places:  # in every step of most models
            return
        with torch.no_grad():
            for place in self._places:
                self.buffers[place.name].copy_(place.tensor)

    @torch.no_grad()
    def take_buffers_back(self) -> None:
        for place in self._places:
            place.tensor.copy_(self.buffers[place.name])

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Bytes-like pieces. The state at the top of the step that is under way."""
        tensors = [(f"model/{name}", value) for name, value in self._model_tensors()]
        optimizers = []
        for place, optimizer in enumerate(self.optimizers):
            packed = optimizer.state_dict()
            scalars = {}
            for index in sorted(packed["state"]):
                for slot, value in sorted(packed["state"][index].items()):
                    if torch.is_tensor(value):
                        tensors.append((f"optimizer.{place}/{index}/{slot}", value))
                    else:
                        scalars.setdefault(str(index), {})[slot] = value
            optimizers.append({"groups": packed["param_groups"], "scalars": scalars})
        numbers = {
            "step": self.step,
            "optimizers": optimizers,
            "extra": [_numbers_of(part) for part in self.extra],
        }
        try:
            text = json.dumps(numbers, sort_keys=True)
        except TypeError:
            raise TypeError(
                f"the state of an optimizer or scheduler must be numbers, words and lists of them: {_misfit(numbers)}"
            ) from None
        return encode(tensors, {"ringfold": text})

    def weights(self) -> Iterator[bytes | memoryview]:
        return encode([(name, value) for name, value in self._model_tensors()], {})

    def restore(self, data: Any) -> None:
        """Replaces everything. @raises ValueError when the bytes are of another model; then nothing has changed"""
        tensors, metadata = decode(data)
        numbers = json.loads(metadata.get("ringfold", "null"))
        expected = {f"model/{name}": value for name, value in self._model_tensors()}
        for name, value in expected.items():
            if name not in tensors or tensors[name].shape != value.shape:
                raise ValueError(f"the state does not fit: {name}")
        if not isinstance(numbers, dict) or len(numbers["optimizers"]) != len(self.optimizers):
            raise ValueError("the state does not fit: it is of other optimizers")
        self.model.load_state_dict({name[len("model/") :]: tensors[name] for name in expected})
        for place, (optimizer, packed) in enumerate(zip(self.optimizers, numbers["optimizers"])):
            slots = {int(index): dict(values) for index, values in packed["scalars"].items()}
            prefix = f"optimizer.{place}/"
            for name, value in tensors.items():
                if name.startswith(prefix):
                    index, slot = name[len(prefix) :].split("/", 1)
                    slots.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({"state": slots, "param_groups": packed["groups"]})
        for part, packed in zip(self.extra, numbers["extra"]):
            part.load_state_dict(packed)
        self.step = numbers["step"]
        self.keep_buffers()

    def _model_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, value in self.model.state_dict().items():
            yield name, self.buffers.get(name, value)


def _misfit(value: Any, place: str = "") -> str | None:
    """Where the first thing is that JSON does not hold."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return None
    if isinstance(value, (dict, list, tuple)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return next((found for key, part in parts if (found := _misfit(part, f"{place}.{key}"))), None)
    return f"{place[1:]} is of type {type(value).__name__}"


def _numbers_of(part: Any) -> dict[str, Any]:
    """Functions are the script's own: OneCycleLR of torch 1.13 keeps one in its state."""
    return {name: value for name, value in part.state_dict().items() if not callable(value)}


def encode(tensors: Iterable[tuple[str, torch.Tensor]], metadata: dict[str, str]) -> Iterator[bytes | memoryview]:
    """Pieces of a safetensors file; the tensors' own memory where they lie in this machine's."""
    header = {"__metadata__": metadata} if metadata else {}
    held = []
    offset = 0
    for name, tensor in tensors:
        tensor = tensor.detach().to("cpu").contiguous()
        if tensor.dtype not in _names:
            raise TypeError(f"{name} is of {tensor.dtype}, which safetensors cannot hold")
        count = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + count]}
        held.append((tensor, count))
        offset += count
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text))
    yield text
    for tensor, count in held:
        if count > 0:
            yield memoryview((ctypes.c_char * count).from_address(tensor.data_ptr())).cast("B")


def decode(data: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """({name: tensor}, metadata), copied out of `data`. @raises ValueError on anything that is not such a file"""
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise ValueError(f"a safetensors header of {length} bytes in {len(data)}")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        if not 0 <= first <= end <= len(data) - 8 - length or entry["dtype"] not in _types:
            raise ValueError(f"tensor {name} does not fit into the file")
        dtype = _types[entry["dtype"]]
        if first == end:
            tensors[name] = torch.empty(entry["shape"], dtype=dtype)
        else:
            raw = bytearray(data[8 + length + first : 8 + length + end])
            tensors[name] = torch.frombuffer(raw, dtype=dtype).reshape(entry["shape"])
    return tensors, metadata
