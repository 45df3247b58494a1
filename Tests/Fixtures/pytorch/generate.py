"""What torch.save writes, with the same tensors as safetensors to compare with.

python generate.py: Python 3.11 or later, torch 2.13.0, safetensors 0.8.0.
"""

import collections
import pathlib
import zipfile

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
TYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
]
LATER_TYPES = ["uint64", "uint32", "uint16"]


def numbers(dtype: str, *shape: int) -> torch.Tensor:
    count = 1
    for size in shape:
        count *= size
    base = torch.arange(count) * 7 + 1
    return (base % 2 == 0 if dtype == "bool" else base.to(getattr(torch, dtype))).reshape(shape)


def views() -> dict[str, torch.Tensor]:
    whole = torch.arange(24, dtype=torch.float32) / 8 - 1
    tensors = collections.OrderedDict((name, numbers(name, 2, 3)) for name in TYPES)
    tensors["scalar"] = torch.tensor(1.5)
    tensors["empty"] = torch.zeros(0, 4, dtype=torch.int64)
    tensors["whole"] = whole.reshape(4, 6)
    tensors["same storage"] = whole[6:18].reshape(2, 6)
    tensors["transposed"] = whole.reshape(4, 6).t()
    tensors["permuted"] = whole.reshape(2, 3, 4).permute(2, 0, 1)
    tensors["every other"] = whole.reshape(4, 6)[:, ::2]
    tensors["broadcast"] = whole[:3].expand(5, 3)
    tensors["halves, transposed"] = numbers("float16", 3, 5).t()
    tensors["named ü \"名\""] = numbers("int8", 3)
    return tensors


def rewritten(source: str, target: str, compression: int, swap: bool = False) -> None:
    """The same archive with other compression, or with the byte order of the other kind of machine."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if swap and name.endswith("/byteorder"):
                data = b"big"
            if swap and "/data/" in name:
                data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            new.writestr(info, data)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("steps", torch.tensor([7, 8, 9]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stack(self.norm(x))


def main() -> None:
    torch.manual_seed(1)
    tensors = views()
    expected = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(expected, HERE / "views.safetensors")
    torch.save(tensors, HERE / "views.pt")
    torch.save(tensors, HERE / "views-legacy.pt", _use_new_zipfile_serialization=False)
    for protocol in [1, 3, 4, 5]:
        torch.save(tensors, HERE / f"views-protocol{protocol}.pt", pickle_protocol=protocol)
    rewritten("views.pt", "views-deflated.pt", zipfile.ZIP_DEFLATED)

    floats = {"a": numbers("float32", 2, 3), "b": numbers("float32", 4).flip(0)}
    torch.save(floats, HERE / "floats.pt")
    rewritten("floats.pt", "floats-big-endian.pt", zipfile.ZIP_STORED, swap=True)
    (HERE / "floats.pt").unlink()
    save_file(floats, HERE / "floats.safetensors")

    later = {name: numbers(name, 2, 2) for name in LATER_TYPES}
    torch.save(later, HERE / "later-types.pt")
    save_file(later, HERE / "later-types.safetensors")

    model = Small()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    save_file(weights, HERE / "small.safetensors")
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    # The step gave the optimizer its state; the weights are those of before.
    model.load_state_dict(weights)
    state = collections.OrderedDict(("module." + k, v) for k, v in model.state_dict().items())
    counts = collections.defaultdict(int, {"seen": 5})
    checkpoint = {
        "epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict(), "best": 0.25,
        "arch": "small", "note": b"\x00\xff", "classes": ["cat", "dog"], "done": True, "none": None,
        "sizes": torch.Size([3, 2]), "tags": {"a", "b"}, "counts": counts, "big": 1 << 80,
        "type": torch.float16, "device": torch.device("cpu"),
    }
    torch.save(checkpoint, HERE / "training.pt")
    torch.save(checkpoint, HERE / "training-legacy.pt", _use_new_zipfile_serialization=False)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "state"
    torch.save({"plain": torch.nn.Parameter(torch.zeros(3)), "noted": parameter}, HERE / "parameters.pt")
    torch.save({"model": model.state_dict(), "ema": model.state_dict()}, HERE / "two-models.pt")
    torch.save(model, HERE / "whole-module.pt")
    torch.save({"c": torch.zeros(2, dtype=torch.complex64)}, HERE / "complex.pt")
    torch.save({"c": torch.zeros(2, dtype=torch.float8_e4m3fn)}, HERE / "float8.pt")
    torch.jit.script(model).save(HERE / "script.pt")


if __name__ == "__main__":
    main()
