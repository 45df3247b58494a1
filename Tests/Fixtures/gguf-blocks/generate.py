"""Blocks of every ggml type, and the floats that PyPI's gguf reads from them.

    python3 -m venv gguf && gguf/bin/pip install gguf numpy && gguf/bin/python generate.py

Per type: TYPE.blocks, the bytes, and TYPE.hash, a 32-bit FNV-1a of the bytes of each block's float32 values, a line
a block. Blocks are random bytes, then blocks that reach every entry of a
codebook and every scale; halves that are infinite or NaN are replaced by finite ones. Q1_0 and Q2_0 are not
in gguf.quants: their floats come from the four lines below, written from ggml.h's description.
"""

import pathlib
import numpy as np
from gguf import GGMLQuantizationType, quants

HERE = pathlib.Path(__file__).parent
# name: (columns, bytes, offsets of halves)
TYPES = {
    "Q4_0": (32, 18, [0]), "Q4_1": (32, 20, [0, 2]), "Q5_0": (32, 22, [0]), "Q5_1": (32, 24, [0, 2]),
    "Q8_0": (32, 34, [0]), "Q2_K": (256, 84, [80, 82]), "Q3_K": (256, 110, [108]),
    "Q4_K": (256, 144, [0, 2]), "Q5_K": (256, 176, [0, 2]), "Q6_K": (256, 210, [208]),
    "IQ2_XXS": (256, 66, [0]), "IQ2_XS": (256, 74, [0]), "IQ3_XXS": (256, 98, [0]),
    "IQ1_S": (256, 50, [0]), "IQ4_NL": (32, 18, [0]), "IQ3_S": (256, 110, [0]),
    "IQ2_S": (256, 82, [0]), "IQ4_XS": (256, 136, [0]), "IQ1_M": (256, 56, []),
    "TQ1_0": (256, 54, [52]), "TQ2_0": (256, 66, [64]), "MXFP4": (32, 17, []),
    "NVFP4": (64, 36, []), "Q1_0": (128, 18, [0]), "Q2_0": (64, 18, [0]),
}


def floats(name, blocks):
    columns = TYPES[name][0]
    if name in ("Q1_0", "Q2_0"):
        bits = 1 if name == "Q1_0" else 2
        d = blocks[:, :2].copy().view("<f2").astype(np.float32)
        codes = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").reshape(len(blocks), columns, bits)
        codes = (codes * (1 << np.arange(bits))).sum(axis=2)
        level = 2 * codes - 1 if bits == 1 else codes - 1
        return d * level.astype(np.float32)
    with np.errstate(all="ignore"):
        kind = getattr(GGMLQuantizationType, name)
        return quants.dequantize(blocks, kind).reshape(len(blocks), columns)


def every_entry(name, random):
    """Blocks in which each index of the codebook stands once, one after the other."""
    points = {"IQ2_XXS": 256, "IQ2_XS": 512, "IQ2_S": 1024, "IQ3_XXS": 256, "IQ3_S": 512, "IQ1_S": 2048,
              "IQ1_M": 2048}.get(name)
    if points is None:
        return None
    groups = 64 if name.startswith("IQ3") else 32
    index = np.arange(points).reshape(-1, groups)
    blocks = random.integers(0, 256, (len(index), TYPES[name][1]), dtype=np.uint8)
    low = (index & 255).astype(np.uint8)
    high = index >> 8
    if name == "IQ2_XXS":
        for b in range(8):
            blocks[:, 2 + 8 * b:6 + 8 * b] = low[:, 4 * b:4 * b + 4]
    elif name == "IQ2_XS":
        blocks[:, 2:66:2] = low
        blocks[:, 3:67:2] = (blocks[:, 3:67:2] & 0xFE) | high
    elif name == "IQ2_S":
        blocks[:, 2:34] = low
        blocks[:, 66:74] = (high.reshape(-1, 8, 4) << (2 * np.arange(4))).sum(axis=2)
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = low
    elif name == "IQ3_S":
        blocks[:, 2:66] = low
        blocks[:, 66:74] = (high.reshape(-1, 8, 8) << np.arange(8)).sum(axis=2)
    elif name == "IQ1_S":
        blocks[:, 2:34] = low
        words = blocks[:, 34:50].copy().view("<u2").astype(np.uint16) & 0xF000
        words |= (high.reshape(-1, 8, 4) << (3 * np.arange(4))).sum(axis=2).astype(np.uint16)
        blocks[:, 34:50] = words.view(np.uint8)
    else:
        blocks[:, 0:32] = low
        blocks[:, 32:48] = (blocks[:, 32:48] & 0x88) | high[:, 0::2] | high[:, 1::2] << 4
    return blocks


def finite(name, blocks):
    for offset in TYPES[name][2]:
        half = blocks[:, offset:offset + 2].copy().view("<u2")
        half[(half & 0x7C00) == 0x7C00] &= 0xBFFF
        blocks[:, offset:offset + 2] = half.view(np.uint8)
    if name == "IQ1_M":
        # The half is spread over the top digits of four words; bit 14 is the third of the last.
        top = blocks[:, 55]
        top[(top & 0x70 == 0x70) & (blocks[:, 53] >> 6 == 3)] &= 0xBF
        top[top & 0x40 > 0] &= 0xBF
    return blocks


def main():
    for name, (columns, size, _) in TYPES.items():
        random = np.random.default_rng(list(name.encode()))
        count = max(4, 1024 // columns)
        parts = [
            random.integers(0, 256, (count, size), dtype=np.uint8),
            np.zeros((1, size), np.uint8),
            np.full((1, size), 255, np.uint8),
        ]
        if name == "MXFP4":
            exponents = random.integers(0, 256, (256, size), dtype=np.uint8)[:64]
            exponents[:, 0] = np.arange(0, 256, 4) | 3
            parts.append(exponents)
        if name == "NVFP4":
            scales = random.integers(0, 256, (64, size), dtype=np.uint8)
            scales[:, :4] = np.arange(256).reshape(64, 4)
            parts.append(scales)
        entries = every_entry(name, random)
        if entries is not None:
            parts.append(entries)
        blocks = finite(name, np.concatenate(parts))
        (HERE / f"{name}.blocks").write_bytes(blocks.tobytes())
        values = np.ascontiguousarray(floats(name, blocks), dtype="<f4")
        (HERE / f"{name}.hash").write_text(hashes(values) + "\n")


def hashes(values):
    """A 32-bit FNV-1a of each block's float bit patterns, in hexadecimal."""
    lines = []
    for row in values.view("<u4"):
        h = 2166136261
        for byte in row.tobytes():
            h = (h ^ byte) * 16777619 & 0xFFFFFFFF
        lines.append(f"{h:08x}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
