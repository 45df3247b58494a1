"""What h5py and Keras write, with the same arrays as safetensors to compare with.

python generate.py: Python 3.11 or later, h5py 3.16.0, keras 3.15.1 on the numpy backend (with scipy and jax), numpy 2.4.6,
safetensors 0.8.0.
"""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "numpy"

import h5py
import numpy as np
from safetensors import TensorSpec, serialize_file

HERE = pathlib.Path(__file__).resolve().parent
TYPES = {
    "f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16",
    "i1": "int8", "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8",
}


def save(path: pathlib.Path, arrays: dict[str, tuple[str, np.ndarray]]) -> None:
    arrays = {k: (t, np.asarray(a, order="C").reshape(a.shape)) for k, (t, a) in arrays.items()}
    serialize_file(
        {k: TensorSpec(dtype=t, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
         for k, (t, a) in arrays.items()}, str(path))


def native(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("="))


def bfloat16() -> h5py.h5t.TypeID:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def write_tree(path: pathlib.Path, **options: str) -> dict[str, tuple[str, np.ndarray]]:
    expected = {}
    with h5py.File(path, "w", **options) as file:
        for order in "<>":
            for code, name in TYPES.items():
                numbers = (np.arange(24).reshape(4, 6) * 5 + 1).astype(order + code)
                group = "little" if order == "<" else "big"
                file[f"{group}/{code}"] = numbers
                expected[f"{group}/{code}"] = (name, native(numbers))
        floats = (np.arange(600, dtype="f4") / 7).reshape(20, 30)
        for name, extra in {
            "chunked": {"chunks": (7, 8)},
            "deflated": {"chunks": (7, 30), "compression": "gzip"},
            "shuffled": {"chunks": (20, 4), "compression": "gzip", "shuffle": True, "fletcher32": True},
        }.items():
            file.create_dataset(f"stored/{name}", data=floats, **extra)
            expected[f"stored/{name}"] = ("float32", floats)
        halves = floats[:2].astype(">f2")
        file.create_dataset("stored/halves", data=halves, chunks=(1, 30), compression="gzip")
        expected["stored/halves"] = ("float16", native(halves))
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        small = np.arange(5, dtype="i4")
        dataset = h5py.h5d.create(
            file["stored"].id, b"compact", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((5,)), compact)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, small)
        expected["stored/compact"] = ("int32", small)
        file["truth"] = np.array([True, False, True])
        expected["truth"] = ("bool", np.array([1, 0, 1], dtype="u1"))
        file["scalar"] = np.float64(2.5)
        expected["scalar"] = ("float64", np.array(2.5))
        file["empty"] = np.zeros((0, 3), dtype="f4")
        expected["empty"] = ("float32", np.zeros((0, 3), dtype="f4"))
        file.create_dataset("filled", shape=(2, 2), dtype="f4", fillvalue=7.5)
        expected["filled"] = ("float32", np.full((2, 2), 7.5, dtype="f4"))
        bits = np.array([0x3F80, 0xC020, 0x0001], dtype="<u2")
        kind = bfloat16()
        dataset = h5py.h5d.create(file.id, b"brain", kind, h5py.h5s.create_simple((3,)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, bits, mtype=kind)
        expected["brain"] = ("bfloat16", bits)
        file["deep/er/名"] = np.arange(3, dtype="u1")
        expected["deep/er/名"] = ("uint8", np.arange(3, dtype="u1"))
        file["texts"] = np.array([b"a", b"bc"])
        file["long texts"] = ["ü", "b"]
        file["compound"] = np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])
        file["soft"] = h5py.SoftLink("/truth")
        file["deep/hard"] = file["truth"]
        expected["deep/hard"] = expected["truth"]
        file["deep/er/circle"] = file["deep"]
    return expected


def refused() -> None:
    data = np.arange(6, dtype="f4")
    with h5py.File(HERE / "external-link.h5", "w") as file:
        file["w"] = data
        file["linked"] = h5py.ExternalLink("other.h5", "/w")
    with h5py.File(HERE / "external-storage.h5", "w") as file:
        file.create_dataset("w", (6,), "f4", external=[("/etc/passwd", 0, 24)])
    with h5py.File(HERE / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=(6,), dtype="f4")
        layout[:] = h5py.VirtualSource("other.h5", "w", shape=(6,))
        file.create_virtual_dataset("w", layout)
    with h5py.File(HERE / "unknown-filter.h5", "w") as file:
        file.create_dataset("w", data=data, chunks=(6,), compression="lzf")
    with h5py.File(HERE / "huge-chunk.h5", "w") as file:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 29,))
    with h5py.File(HERE / "huge-deflated.h5", "w") as file:
        file.create_dataset("w", (1 << 36,), "f4", chunks=(1 << 20,), compression="gzip")


def legacy_layer(group: h5py.Group, layer: str, weights: dict[str, np.ndarray]) -> None:
    one = group.create_group(layer)
    one.attrs["weight_names"] = [name.encode() for name in weights]
    for name, array in weights.items():
        one[name] = array


def legacy_keras() -> None:
    """Keras 1 and 2 in the layout of legacy_h5_format.py, names of layers over several attributes."""
    random = np.random.default_rng(1)
    layers = {
        f"layer_{index}": {f"layer_{index}/kernel:0": random.random((3, 2), dtype="f4"),
                           f"layer_{index}/bias:0": random.random(2, dtype="f4")}
        for index in [2, 10, 1]
    }
    expected = {f"{layer}/{name}": ("float32", array)
                for layer, weights in layers.items() for name, array in weights.items()}
    save(HERE / "keras-weights.safetensors", expected)
    with h5py.File(HERE / "keras-weights.h5", "w") as file:
        names = [name.encode() for name in layers]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:2], names[2:]
        file.attrs["backend"] = b"tensorflow"
        for layer, weights in layers.items():
            legacy_layer(file, layer, weights)
    with h5py.File(HERE / "keras-model.h5", "w") as file:
        file.attrs["keras_version"] = "2.1.6"
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Model", "config": {"name": "three_layers", "layers": []}}).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            legacy_layer(group, layer, weights)
        file["optimizer_weights/Adam/iterations:0"] = np.int64(5)


def keras3() -> None:
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, name="first"),
         keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="last")], name="small")
    model.save(HERE / "keras3.keras")
    model.save_weights(HERE / "keras3.weights.h5")
    model.save(HERE / "keras3-legacy.h5")
    expected = {}
    for layer in model.layers:
        for index, weight in enumerate(layer.weights):
            key = {"first": "dense", "norm": "batch_normalization", "last": "dense_1"}[layer.name]
            expected[f"layers/{key}/vars/{index}"] = ("float32", np.asarray(weight))
    save(HERE / "keras3.safetensors", expected)


def main() -> None:
    save(HERE / "tree.safetensors", write_tree(HERE / "tree.h5"))
    write_tree(HERE / "tree-1.10.h5", libver=("v110", "v110"))
    refused()
    legacy_keras()
    keras3()


if __name__ == "__main__":
    main()
