"""Files of the Python libraries that the project's readers and writers are compared with.

python generate.py: Python 3.11 or later, numpy 2.4.6, safetensors 0.8.0.
"""

import pathlib

import numpy as np
from safetensors import TensorSpec, serialize_file

HERE = pathlib.Path(__file__).resolve().parent

TYPES = {
    "F64": ("float64", "<f8"), "F32": ("float32", "<f4"), "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"), "I64": ("int64", "<i8"), "I32": ("int32", "<i4"),
    "I16": ("int16", "<i2"), "I8": ("int8", "<i1"), "U64": ("uint64", "<u8"),
    "U32": ("uint32", "<u4"), "U16": ("uint16", "<u2"), "U8": ("uint8", "<u1"),
    "BOOL": ("bool", "<u1"),
}


def values(name: str, layout: str) -> np.ndarray:
    numbers = np.arange(6) % 2 if name == "BOOL" else np.arange(6) * 7 + 1
    if name == "BF16":
        return (numbers.astype("<f4").view("<u4") >> 16).astype("<u2")
    return numbers.astype(layout)


def main() -> None:
    arrays = {
        f"tensor {name}": (dtype, values(name, layout).reshape(2, 3))
        for name, (dtype, layout) in TYPES.items()
    }
    arrays["scalar"] = ("float32", np.array(1.5, dtype="<f4"))
    arrays["empty"] = ("int64", np.zeros((0, 4), dtype="<i8"))
    arrays["naïve \"quoted\" \\ 名"] = ("uint8", np.array([7], dtype="u1"))
    tensors = {
        name: TensorSpec(
            dtype=dtype, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
        for name, (dtype, array) in arrays.items()
    }
    metadata = {"line\nbreak": "ü \"\\ \t"}  # several entries have no fixed order
    serialize_file(tensors, str(HERE / "all-types.safetensors"), metadata)
    matrix = (np.arange(15, dtype=np.float32) / 4 - 1).reshape(3, 5)
    np.save(HERE / "matrix.npy", matrix)


if __name__ == "__main__":
    main()
