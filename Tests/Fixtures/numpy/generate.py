"""What numpy.save and numpy.savez write, with the same arrays as safetensors to compare with.

python generate.py: Python 3.11 or later, numpy 2.4.6, safetensors 0.8.0.
"""

import io
import pathlib

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"]


def main() -> None:
    arrays = {}
    for order in "<>":
        for name in TYPES:
            numbers = (np.arange(24).reshape(2, 3, 4) * 5 + 1).astype(order + name)
            arrays[f"{order}{name}"] = numbers
            arrays[f"{order}{name} columns"] = np.asfortranarray(numbers)
    arrays["truth"] = np.array([[True, False], [False, False]])
    arrays["scalar"] = np.array(2.5)
    arrays["empty"] = np.zeros((0, 3), dtype="f4")
    arrays["folder/zeros"] = np.zeros((64, 16), dtype="f4")
    np.savez(HERE / "arrays.npz", **arrays)
    np.savez_compressed(HERE / "arrays-deflated.npz", **arrays)
    save_file(
        {k: np.ascontiguousarray(v.astype(v.dtype.newbyteorder("="))).reshape(v.shape)
         for k, v in arrays.items()}, HERE / "arrays.safetensors")
    matrix = np.arange(6, dtype="f4").reshape(2, 3)
    for version in [(1, 0), (2, 0), (3, 0)]:
        with open(HERE / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, matrix, version=version)
    np.save(HERE / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.save(HERE / "texts.npy", np.array(["a", "bc"]))
    np.save(HERE / "structured.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    # As ml_dtypes' bfloat16 is saved: two bytes of no type.
    halves = (np.array([1, -2.5, 3e9], dtype="f4").view("u4") >> 16).astype("<u2").view("V2")
    np.save(HERE / "bfloat16.npy", halves)


if __name__ == "__main__":
    main()
