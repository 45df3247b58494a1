#!/usr/bin/env python3
"""Makes mixed.condensed, by condense, and mixed.npy, by Tests/interop/read_bundle.py.

    Tests/Fixtures/bundle/generate.py .build/release/condense

The weights are random; rows of 37 columns end inside a group of 16 or 32 and, for most bits, inside a byte.
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
    plain = random.standard_normal((3, 7)).astype("<f4")
    tensors["plain.f32"] = ("F32", plain)
    tensors["plain.f16"] = ("F16", plain.astype("<f2"))
    tensors["plain.bf16"] = ("BF16", (plain.view("<u4") >> 16).astype("<u2"))
    tensors["vector"] = ("F32", plain[0])
    tensors["zeros"] = ("F32", np.zeros((2, 37), "<f4"))
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "mixed")
        source.mkdir()
        (source / "config.json").write_text('{"model_type": "none"}\n')
        save(source / "model.safetensors", tensors)
        quantized, bundle = pathlib.Path(folder, "quantized"), HERE / "mixed.condensed"
        rules = [f"{name}={name}" for name in ENCODINGS] + ["zeros=int3-g16"]
        subprocess.run([condense, "quantize", source, quantized, "--method", "rtn", "--quiet", "--encoding", *rules], check=True)
        subprocess.run([condense, "pack", quantized, bundle, "--force", "--quiet"], check=True)
    reader = HERE.parent.parent / "interop/read_bundle.py"
    subprocess.run([sys.executable, reader, bundle], check=True)
    subprocess.run([sys.executable, reader, bundle, "--output", HERE / "mixed.npy"], check=True)


if __name__ == "__main__":
    main()
