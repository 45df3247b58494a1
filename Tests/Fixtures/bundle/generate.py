#!/usr/bin/env python3
"""Makes mixed.condensed, by condense, and mixed.npy, by Tests/interop/read_bundle.py.

    Tests/Fixtures/bundle/generate.py .build/release/condense

The weights are random; rows of 37 columns end inside a group of 16 or 32 and, for most bits, inside a byte. Those under
`sparse` have zeros in patterns, which are not stored.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ENCODINGS = [f"int{bits}-{group}{sign}" for bits in range(2, 9) for group, sign in
             [("g16", ""), ("g32", "-sym"), ("channel", ""), ("channel", "-sym")]]
ENCODINGS += [f"{levels}-{group}" for levels in ["fp8", "nf4"] for group in ["g16", "g32", "channel"]]
# Patterns of zeros, each before floats of a type and before integers.
ZEROS = {"bitmap": "0.7", "2of4": "2:4", "4of8": "4:8", "3of6": "3:6", "1x8": "1x8"}
SPARSE = {"f32": "F32", "f16": "F16", "bf16": "BF16", "int4-g16": "F32", "int3-g32-sym": "F32", "int8-channel": "F32"}
# Factors beside codes.
REPAIRED = ["int3-g16+r2-f16", "int4-channel-sym+r1-f16", "nf4-g16+r3-f16", "fp8-channel+r4-f16"]
HERE = pathlib.Path(__file__).resolve().parent


def save(path, tensors):
    header, data = {}, b""
    for name, (dtype, values) in tensors.items():
        stored = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def main():
    condense = pathlib.Path(sys.argv[1]).resolve()
    random = np.random.default_rng(0)
    tensors = {name: ("F32", random.standard_normal((5, 37)).astype("<f4")) for name in ENCODINGS}
    more = np.random.default_rng(1)
    tensors |= {name: ("F32", more.standard_normal((5, 37)).astype("<f4")) for name in REPAIRED}
    plain = random.standard_normal((3, 7)).astype("<f4")
    tensors["plain.f32"] = ("F32", plain)
    tensors["plain.f16"] = ("F16", plain.astype("<f2"))
    tensors["plain.bf16"] = ("BF16", (plain.view("<u4") >> 16).astype("<u2"))
    tensors["vector"] = ("F32", plain[0])
    tensors["zeros"] = ("F32", np.zeros((2, 37), "<f4"))
    for zeros in ZEROS:
        for name, dtype in SPARSE.items():
            values = random.standard_normal((5, 96)).astype("<f4")
            stored = {"F32": values, "F16": values.astype("<f2"), "BF16": (values.view("<u4") >> 16).astype("<u2")}
            tensors[f"sparse.{zeros}.{name}"] = (dtype, stored[dtype])
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "mixed")
        source.mkdir()
        (source / "config.json").write_text('{"model_type": "none"}\n')
        save(source / "model.safetensors", tensors)
        pruned, quantized = pathlib.Path(folder, "pruned"), pathlib.Path(folder, "quantized")
        bundle = HERE / "mixed.condensed"
        goals = ["*=copy"] + [f"sparse.{name}.*={goal}" for name, goal in ZEROS.items()]
        subprocess.run([condense, "prune", source, pruned, "--method", "magnitude", "--sparsity", "0.7", "--quiet",
                        "--tensors", *goals], check=True)
        rules = [f"{name}={name}" for name in ENCODINGS + REPAIRED] + ["zeros=int3-g16"]
        rules += [f"sparse.{zeros}.{name}={name}" for zeros in ZEROS for name in SPARSE if name.startswith("int")]
        subprocess.run([condense, "quantize", pruned, quantized, "--method", "rtn", "--quiet", "--encoding", *rules], check=True)
        subprocess.run([condense, "pack", quantized, bundle, "--force", "--quiet"], check=True)
    reader = HERE.parent.parent / "interop/read_bundle.py"
    subprocess.run([sys.executable, reader, bundle], check=True)
    subprocess.run([sys.executable, reader, bundle, "--output", HERE / "mixed.npy"], check=True)


if __name__ == "__main__":
    main()
