"""Small models in the layouts of llama2.c and bitllama2.c, with the tensors that transformers would have.

The layouts are those of llama2.c's export.py (legacy_export, version1_export, version2_export with
quantize_q80) and of bitllama2.c's export_bitmodel.py; the tests read real files of both projects too.

python generate.py: Python 3.11 or later, numpy 2.4.6, safetensors 0.8.0.
"""

import pathlib
import struct

import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).resolve().parent
DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT, GROUP = 16, 24, 2, 4, 2, 12, 6, 8
HEAD = DIM // HEADS
random = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype("<f4")


def to_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """From llama2.c's order of a head's rows (pairs are neighbours) to that of transformers (halves)."""
    return rows.reshape(heads, HEAD // 2, 2, DIM).transpose(0, 2, 1, 3).reshape(rows.shape)


MATRICES = [
    ("self_attn.q_proj", (DIM, DIM), HEADS), ("self_attn.k_proj", (HEAD * KV_HEADS, DIM), KV_HEADS),
    ("self_attn.v_proj", (HEAD * KV_HEADS, DIM), 0), ("self_attn.o_proj", (DIM, DIM), 0),
    ("mlp.gate_proj", (HIDDEN, DIM), 0), ("mlp.down_proj", (DIM, HIDDEN), 0),
    ("mlp.up_proj", (HIDDEN, DIM), 0),
]


def header(version: int, tied: bool, group: int | None = None) -> bytes:
    start = struct.pack("<Ii7iB", 0x616B3432, version, DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB,
                        CONTEXT, tied)
    if group is not None:
        start += struct.pack("<i", group)
    return start.ljust(256, b"\0")


def quantized(matrix: np.ndarray) -> tuple[bytes, np.ndarray]:
    groups = matrix.reshape(-1, GROUP)
    scales = (np.abs(groups).max(axis=1) / 127).astype("<f4")
    codes = np.round(groups / scales[:, None]).astype("i1")
    decoded = codes.astype("f4") * scales[:, None]
    return codes.tobytes() + scales.tobytes(), decoded.reshape(matrix.shape)


def ternary(matrix: np.ndarray) -> tuple[bytes, np.ndarray]:
    scale = np.float32(np.abs(matrix).mean())
    codes = np.clip(np.round(matrix / scale), -1, 1).astype("i1")
    bits = (codes & 3).astype("u1").reshape(-1, 4)
    packed = bits[:, 0] << 6 | bits[:, 1] << 4 | bits[:, 2] << 2 | bits[:, 3]
    return struct.pack("<f", scale) + packed.astype("u1").tobytes(), codes.astype("f4") * scale


def main() -> None:
    embedding, head, final = floats(VOCAB, DIM), floats(VOCAB, DIM), floats(DIM)
    norms = {name: floats(LAYERS, DIM) for name in ["input_layernorm", "post_attention_layernorm"]}
    matrices = {name: floats(LAYERS, *shape) for name, shape, _ in MATRICES}

    def expected(encode=None, with_norms: bool = True) -> dict[str, np.ndarray]:
        tensors = {"model.norm.weight": final}
        for layer in range(LAYERS):
            for name in norms if with_norms else []:
                tensors[f"model.layers.{layer}.{name}.weight"] = norms[name][layer]
            for name, _, heads in MATRICES:
                matrix = matrices[name][layer]
                matrix = encode(matrix)[1] if encode else matrix
                tensors[f"model.layers.{layer}.{name}.weight"] = np.ascontiguousarray(
                    to_halves(matrix, heads) if heads else matrix)
        return tensors

    everything = [norms["input_layernorm"], norms["post_attention_layernorm"], final, embedding]
    everything += [matrices[name] for name, _, _ in MATRICES]
    attention = [matrices[name] for name, _, _ in MATRICES[:4]]
    feed_forward = [matrices[name] for name, _, _ in MATRICES[4:]]
    angles = np.outer(np.arange(CONTEXT), 1 / 10000 ** (np.arange(0, HEAD, 2) / HEAD)).astype("<f4")
    legacy = [embedding, norms["input_layernorm"], *attention, norms["post_attention_layernorm"],
              *feed_forward, final, np.cos(angles), np.sin(angles)]

    def write(name: str, start: bytes, parts: list) -> None:
        (HERE / name).write_bytes(
            start + b"".join(p if isinstance(p, bytes) else p.tobytes() for p in parts))

    sizes = [DIM, HIDDEN, LAYERS, HEADS, KV_HEADS]
    write("legacy-tied.bin", struct.pack("<7i", *sizes, VOCAB, CONTEXT), legacy)
    write("legacy-untied.bin", struct.pack("<7i", *sizes, -VOCAB, CONTEXT), [*legacy, head])
    write("version1-tied.bin", header(1, True), everything)
    write("version1-untied.bin", header(1, False), [*everything, head])
    save_file({**expected(), "model.embed_tokens.weight": embedding, "lm_head.weight": head},
              HERE / "floats.safetensors")

    layers = [matrices[name][layer] for name, _, _ in MATRICES for layer in range(LAYERS)]
    write("version2-untied.bin", header(2, False, GROUP),
          [*everything[:3], *[quantized(m)[0] for m in [embedding, *layers, head]]])
    save_file({**expected(quantized), "model.embed_tokens.weight": quantized(embedding)[1],
               "lm_head.weight": quantized(head)[1]}, HERE / "version2.safetensors")
    write("ternary.bin", header(1, True), [final, embedding, *[ternary(m)[0] for m in layers]])
    save_file({**expected(ternary, with_norms=False), "model.embed_tokens.weight": embedding},
              HERE / "ternary.safetensors")


if __name__ == "__main__":
    main()
