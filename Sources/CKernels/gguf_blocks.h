// Shared by the gguf_*.c files: type numbers, halves, and the codes of one block.
#pragma once
#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

// ggml's numbers, ggml.h of llama.cpp.
enum {
  Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
  Q6_K = 14, IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ1_S = 19, IQ4_NL = 20, IQ3_S = 21,
  IQ2_S = 22, IQ4_XS = 23, IQ1_M = 29, TQ1_0 = 34, TQ2_0 = 35, MXFP4 = 39, NVFP4 = 40, Q1_0 = 41,
  Q2_0 = 42
};

// The 16 levels of IQ4_NL and IQ4_XS, and of FP4 (E2M1, doubled; OCP Microscaling Formats 1.0).
#define LEVELS_IQ4 {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
#define LEVELS_FP4 {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

ALWAYS float gguf_float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

ALWAYS uint32_t gguf_bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

// As in conversions.c; NaN payloads and infinities are kept.
ALWAYS float gguf_half(uint16_t half) {
  uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, exponent = magnitude & (0x7c00u << 13);
  uint32_t bits = magnitude + (112u << 23);
  if (exponent == (0x7c00u << 13)) bits = magnitude + (224u << 23);
  if (exponent == 0)
    bits = gguf_bits_of(gguf_float_of(magnitude + (113u << 23)) - gguf_float_of(113u << 23));
  return gguf_float_of(bits | (uint32_t)(half & 0x8000) << 16);
}

ALWAYS uint16_t gguf_load16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
ALWAYS uint32_t gguf_load32(const uint8_t *p) {
  return (uint32_t)gguf_load16(p) | (uint32_t)gguf_load16(p + 2) << 16;
}
ALWAYS void gguf_store16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)v;
  p[1] = (uint8_t)(v >> 8);
}
ALWAYS void gguf_store32(uint8_t *p, uint32_t v) {
  gguf_store16(p, (uint16_t)v);
  gguf_store16(p + 2, (uint16_t)(v >> 16));
}

// E8M0 halved, as the doubled FP4 levels need it: 2^(e - 128).
ALWAYS float gguf_e8m0(uint8_t e) {
  return gguf_float_of(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

// Unsigned E4M3 (bias 7), halved; 0x7f is zero.
ALWAYS float gguf_e4m3(uint8_t v) {
  if ((v & 0x7f) == 0x7f && v < 0x80) return 0;
  int exponent = (v >> 3) & 15, mantissa = v & 7;
  if (exponent == 0) return (float)mantissa * 0x1p-10f;
  return (float)(8 + mantissa) * gguf_float_of((uint32_t)(exponent - 11 + 127) << 23);
}
