// From the codes of a ggml block to floats, each product and difference rounded as gguf.quants rounds it.
//
// Every type is one formula: value = step[s] * level - minimum[s] for sub-block s, with small whole
// levels. IQ1's levels are in eighths, and its steps are an eighth, which is exact.

#include "gguf_blocks.h"

#pragma clang fp contract(off)

static const int8_t levels_iq4[16] = LEVELS_IQ4, levels_fp4[16] = LEVELS_FP4;

// What a type's levels are made of: columns of a sub-block, sub-blocks, and what code 0 stands for.
typedef struct {
  int columns, blocks, bias;
} shape;

ALWAYS shape shape_of(uint32_t type) {
  switch (type) {
  case Q4_0: return (shape){32, 1, -8};
  case Q5_0: return (shape){32, 1, -16};
  case Q8_0:
  case Q4_1:
  case Q5_1:
  case IQ4_NL:
  case MXFP4: return (shape){32, 1, 0};
  case NVFP4: return (shape){16, 4, 0};
  case Q1_0: return (shape){128, 1, 0};
  case Q2_0: return (shape){64, 1, -1};
  case TQ1_0:
  case TQ2_0: return (shape){256, 1, -1};
  case Q3_K: return (shape){16, 16, -4};
  case Q6_K: return (shape){16, 16, -32};
  case Q2_K:
  case IQ2_XS:
  case IQ2_S:
  case IQ1_M: return (shape){16, 16, 0};
  default: return (shape){32, 8, 0};
  }
}

ALWAYS void levels_of(uint32_t type, const kernel_gguf_codes *c, const uint8_t *grid, int8_t *out) {
  shape s = shape_of(type);
  int n = s.columns * s.blocks;
  switch (type) {
  case IQ4_NL:
  case IQ4_XS:
    for (int i = 0; i < n; ++i) out[i] = levels_iq4[c->level[i]];
    break;
  case MXFP4:
  case NVFP4:
    for (int i = 0; i < n; ++i) out[i] = levels_fp4[c->level[i]];
    break;
  case Q1_0:
    for (int i = 0; i < n; ++i) out[i] = (int8_t)(2 * c->level[i] - 1);
    break;
  case IQ2_XXS:
  case IQ2_XS:
  case IQ2_S:
  case IQ3_XXS:
  case IQ3_S: {
    int8_t sign[256];
    for (int k = 0; k < 32; ++k)
      for (int i = 0; i < 8; ++i) sign[8 * k + i] = (int8_t)(((c->sign[k] >> i) & 1) ? -1 : 0);
    if (type == IQ3_XXS || type == IQ3_S)
      for (int k = 0; k < 64; ++k) memcpy(out + 4 * k, grid + 4 * c->index[k], 4);
    else
      for (int k = 0; k < 32; ++k) memcpy(out + 8 * k, grid + 8 * c->index[k], 8);
    for (int i = 0; i < 256; ++i) out[i] = (int8_t)((out[i] ^ sign[i]) - sign[i]);
    break;
  }
  case IQ1_S:
  case IQ1_M:
    for (int k = 0; k < 32; ++k) {
      int8_t group[8];
      memcpy(group, grid + 8 * c->index[k], 8);
      for (int i = 0; i < 8; ++i)
        out[8 * k + i] = (int8_t)(8 * group[i] + 1 - 2 * c->sign[k]);
    }
    break;
  default:
    for (int i = 0; i < n; ++i) out[i] = (int8_t)(c->level[i] + s.bias);
  }
}

ALWAYS void steps_of(uint32_t type, const kernel_gguf_codes *c, float *step, float *minimum) {
  shape s = shape_of(type);
  const float d = gguf_half(c->d);
  for (int b = 0; b < s.blocks; ++b) minimum[b] = 0;
  switch (type) {
  case Q4_1:
  case Q5_1: minimum[0] = -gguf_half(c->minimum_d); // falls through: the step is d
  case Q4_0:
  case Q5_0:
  case Q8_0:
  case Q1_0:
  case Q2_0:
  case TQ1_0:
  case TQ2_0:
  case IQ4_NL: step[0] = d; break;
  case MXFP4: step[0] = gguf_e8m0((uint8_t)c->d); break;
  case NVFP4:
    for (int b = 0; b < 4; ++b) step[b] = gguf_e4m3((uint8_t)c->scale[b]);
    break;
  case Q2_K:
  case Q4_K:
  case Q5_K: {
    const float dm = gguf_half(c->minimum_d);
    for (int b = 0; b < s.blocks; ++b) minimum[b] = dm * (float)c->minimum[b];
  } // falls through
  case Q3_K:
  case Q6_K:
  case IQ4_XS:
    for (int b = 0; b < s.blocks; ++b) step[b] = d * (float)c->scale[b];
    break;
  case IQ2_XXS:
  case IQ2_XS:
  case IQ2_S:
    for (int b = 0; b < s.blocks; ++b) step[b] = d * (0.5f + (float)c->scale[b]) * 0.25f;
    break;
  case IQ3_XXS:
    for (int b = 0; b < s.blocks; ++b) step[b] = d * (0.5f + (float)c->scale[b]) * 0.5f;
    break;
  case IQ3_S:
    for (int b = 0; b < s.blocks; ++b) step[b] = d * (float)(1 + 2 * c->scale[b]);
    break;
  case IQ1_S:
  case IQ1_M:
    for (int b = 0; b < s.blocks; ++b) step[b] = d * (float)(1 + 2 * c->scale[b]) * 0.125f;
    break;
  }
}

ALWAYS void values_of(uint32_t type, const kernel_gguf_codes *c, const uint8_t *grid, float *out) {
  int8_t level[256];
  float step[16], minimum[16];
  shape s = shape_of(type);
  levels_of(type, c, grid, level);
  steps_of(type, c, step, minimum);
  for (int b = 0; b < s.blocks; ++b)
    for (int i = 0; i < s.columns; ++i)
      out[s.columns * b + i] = step[b] * (float)level[s.columns * b + i] - minimum[b];
}

PER_CPU void kernel_gguf_values(uint32_t type, const kernel_gguf_codes *codes, const uint8_t *grid,
                                float *out) {
  switch (type) {
#define CASE(TYPE) case TYPE: values_of(TYPE, codes, grid, out); break;
    CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q1_0) CASE(Q2_0) CASE(IQ4_NL)
    CASE(MXFP4) CASE(NVFP4) CASE(Q2_K) CASE(Q3_K) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) CASE(IQ4_XS)
    CASE(TQ1_0) CASE(TQ2_0) CASE(IQ1_S) CASE(IQ1_M) CASE(IQ2_XXS) CASE(IQ2_XS) CASE(IQ2_S)
    CASE(IQ3_XXS) CASE(IQ3_S)
#undef CASE
  }
}

void kernel_gguf_decode(uint32_t type, const uint8_t *in, size_t block_bytes, size_t block_columns,
                        size_t blocks, const uint8_t *grid, float *out) {
  kernel_gguf_codes codes;
  for (size_t b = 0; b < blocks; ++b) {
    kernel_gguf_unpack(type, in + b * block_bytes, &codes);
    kernel_gguf_values(type, &codes, grid, out + b * block_columns);
  }
}
