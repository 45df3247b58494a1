"""Weights, and the error that llama.cpp's own quantizer makes on them in each format.

    reference.py libggml-base.so

Writes weights.f16 [24, 512], heavy-tailed rows of different size; importance.f32 [512]; and errors.txt, a line for each format:
its name, sum of (x - q)^2 without importance, sum of a (x - q)^2 with it. Formats that llama.cpp refuses
without importance get importance 1 there. ggml has no fit for IQ1 and IQ2 other than with importance.
"""

import ctypes
import pathlib
import sys
import numpy as np
from gguf import GGMLQuantizationType, quants

HERE = pathlib.Path(__file__).parent
NAMES = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 NVFP4 IQ2_XXS IQ2_XS "
         "IQ2_S IQ3_XXS IQ3_S IQ1_S IQ1_M").split()


def main():
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    random = np.random.default_rng(20)
    rows, columns = 24, 512
    weights = random.standard_t(5, (rows, columns)) * np.exp(random.normal(-3.5, 0.7, (rows, 1)))
    weights = weights.astype("<f2")
    importance = np.exp(random.normal(0, 1.2, columns)).astype("<f4")
    (HERE / "weights.f16").write_bytes(weights.tobytes())
    (HERE / "importance.f32").write_bytes(importance.tobytes())
    x = np.ascontiguousarray(weights, np.float32)
    lines = []
    for name in NAMES:
        kind = GGMLQuantizationType[name]
        ggml.ggml_quantize_init(int(kind))
        errors = []
        for a in (None, importance):
            given = np.ones(columns, np.float32) if a is None and name[:3] in ("IQ1", "IQ2") or a is None and name == "IQ3_XXS" else a
            out = np.zeros((rows, columns // 256 * quants.quant_shape_to_byte_shape((256,), kind)[0]), np.uint8)
            ggml.ggml_quantize_chunk(int(kind), x.ctypes.data, out.ctypes.data, 0, rows, columns,
                                     None if given is None else given.ctypes.data)
            q = quants.dequantize(out, kind)
            weight = 1 if a is None else a.astype(np.float64)
            errors.append((weight * (x.astype(np.float64) - q) ** 2).sum())
        lines.append(f"{name} {errors[0]:.9g} {errors[1]:.9g}")
    (HERE / "errors.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
