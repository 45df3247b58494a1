// From the bytes of a ggml block to its codes: bit positions only, no arithmetic on values.
//
// Layouts  ggml-common.h of llama.cpp (block_q4_0 ... block_iq4_xs) and gguf.quants of PyPI's gguf

#include "gguf_blocks.h"

// Columns c and c + n share byte c: the low half of the byte first.
ALWAYS void nibbles(const uint8_t *in, size_t n, uint8_t *level) {
  for (size_t i = 0; i < n; ++i) {
    level[i] = in[i] & 15;
    level[n + i] = in[i] >> 4;
  }
}

// Columns 0-31, 32-63, 64-95 and 96-127 share 32 bytes, two bits each.
ALWAYS void crumbs(const uint8_t *in, uint8_t *level) {
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 32; ++i) level[32 * k + i] = (in[i] >> (2 * k)) & 3;
}

// The 6-bit scales and minima of Q4_K and Q5_K: 12 bytes.
ALWAYS void sixes(const uint8_t *in, kernel_gguf_codes *c) {
  for (int j = 0; j < 4; ++j) {
    c->scale[j] = in[j] & 63;
    c->minimum[j] = in[j + 4] & 63;
    c->scale[j + 4] = (in[j + 8] & 15) | (in[j] >> 6) << 4;
    c->minimum[j + 4] = (uint8_t)(in[j + 8] >> 4 | (in[j + 4] >> 6) << 4);
  }
}

// Seven sign bits; the eighth makes their number even.
ALWAYS uint8_t even_signs(uint32_t seven) {
  return (uint8_t)(seven | (uint32_t)(__builtin_popcount(seven) & 1) << 7);
}

ALWAYS void ternary(const uint8_t *in, size_t bytes, int digits, uint8_t *level) {
  uint8_t power = 1;
  for (int n = 0; n < digits; ++n, power = (uint8_t)(power * 3))
    for (size_t i = 0; i < bytes; ++i)
      level[(size_t)n * bytes + i] = (uint8_t)(((uint8_t)(in[i] * power) * 3) >> 8);
}

ALWAYS void unpack_simple(uint32_t type, const uint8_t *in, kernel_gguf_codes *c) {
  if (type != NVFP4 && type != MXFP4) c->d = gguf_load16(in);
  switch (type) {
  case Q4_0:
  case IQ4_NL: nibbles(in + 2, 16, c->level); break;
  case Q4_1:
    c->minimum_d = gguf_load16(in + 2);
    nibbles(in + 4, 16, c->level);
    break;
  case Q5_0:
  case Q5_1: {
    if (type == Q5_1) c->minimum_d = gguf_load16(in + 2);
    const uint8_t *high = in + (type == Q5_1 ? 4 : 2);
    uint32_t bits = gguf_load32(high);
    nibbles(high + 4, 16, c->level);
    for (int i = 0; i < 32; ++i) c->level[i] |= (uint8_t)((bits >> i) & 1) << 4;
    break;
  }
  case Q8_0: memcpy(c->level, in + 2, 32); break;
  case Q1_0:
    for (int i = 0; i < 128; ++i) c->level[i] = (in[2 + i / 8] >> (i % 8)) & 1;
    break;
  case Q2_0:
    for (int i = 0; i < 64; ++i) c->level[i] = (in[2 + i / 4] >> (2 * (i % 4))) & 3;
    break;
  case MXFP4:
    c->d = in[0];
    nibbles(in + 1, 16, c->level);
    break;
  case NVFP4:
    for (int s = 0; s < 4; ++s) {
      c->scale[s] = (int8_t)in[s];
      nibbles(in + 4 + 8 * s, 8, c->level + 16 * s);
    }
    break;
  }
}

ALWAYS void unpack_super(uint32_t type, const uint8_t *in, kernel_gguf_codes *c) {
  switch (type) {
  case Q2_K:
    for (int j = 0; j < 16; ++j) {
      c->scale[j] = in[j] & 15;
      c->minimum[j] = in[j] >> 4;
    }
    for (int k = 0; k < 2; ++k) crumbs(in + 16 + 32 * k, c->level + 128 * k);
    c->d = gguf_load16(in + 80);
    c->minimum_d = gguf_load16(in + 82);
    break;
  case Q3_K:
    for (int k = 0; k < 2; ++k) crumbs(in + 32 + 32 * k, c->level + 128 * k);
    for (int k = 0; k < 8; ++k)
      for (int i = 0; i < 32; ++i) c->level[32 * k + i] |= ((in[i] >> k) & 1) << 2;
    for (int j = 0; j < 16; ++j) {
      int low = (in[96 + j % 8] >> (4 * (j / 8))) & 15;
      int high = (in[104 + j % 4] >> (2 * (j / 4))) & 3;
      c->scale[j] = (int8_t)((low | high << 4) - 32);
    }
    c->d = gguf_load16(in + 108);
    break;
  case Q4_K:
  case Q5_K: {
    c->d = gguf_load16(in);
    c->minimum_d = gguf_load16(in + 2);
    sixes(in + 4, c);
    const uint8_t *low = in + (type == Q5_K ? 48 : 16);
    for (int k = 0; k < 4; ++k) nibbles(low + 32 * k, 32, c->level + 64 * k);
    if (type == Q4_K) break;
    for (int k = 0; k < 8; ++k)
      for (int i = 0; i < 32; ++i) c->level[32 * k + i] |= ((in[16 + i] >> k) & 1) << 4;
    break;
  }
  case Q6_K:
    for (int k = 0; k < 2; ++k) {
      uint8_t *level = c->level + 128 * k;
      nibbles(in + 64 * k, 64, level);
      for (int q = 0; q < 4; ++q)
        for (int i = 0; i < 32; ++i)
          level[32 * q + i] |= ((in[128 + 32 * k + i] >> (2 * q)) & 3) << 4;
    }
    memcpy(c->scale, in + 192, 16);
    c->d = gguf_load16(in + 208);
    break;
  case IQ4_XS: {
    c->d = gguf_load16(in);
    uint32_t high = gguf_load16(in + 2);
    for (int j = 0; j < 8; ++j) {
      int low = (in[4 + j / 2] >> (4 * (j % 2))) & 15;
      c->scale[j] = (int8_t)((low | (int)((high >> (2 * j)) & 3) << 4) - 32);
      nibbles(in + 8 + 16 * j, 16, c->level + 32 * j);
    }
    break;
  }
  case TQ1_0:
    ternary(in, 32, 5, c->level);
    ternary(in + 32, 16, 5, c->level + 160);
    ternary(in + 48, 4, 4, c->level + 240);
    c->d = gguf_load16(in + 52);
    break;
  case TQ2_0:
    for (int k = 0; k < 2; ++k) crumbs(in + 32 * k, c->level + 128 * k);
    c->d = gguf_load16(in + 64);
    break;
  }
}

ALWAYS void unpack_codebook(uint32_t type, const uint8_t *in, kernel_gguf_codes *c) {
  if (type != IQ1_M) c->d = gguf_load16(in);
  switch (type) {
  case IQ2_XXS:
  case IQ3_XXS:
    for (int b = 0; b < 8; ++b) {
      const uint8_t *tail = type == IQ2_XXS ? in + 6 + 8 * b : in + 66 + 4 * b;
      uint32_t word = gguf_load32(tail);
      c->scale[b] = (int8_t)(word >> 28);
      for (int k = 0; k < 4; ++k) c->sign[4 * b + k] = even_signs((word >> (7 * k)) & 127);
      if (type == IQ2_XXS)
        for (int k = 0; k < 4; ++k) c->index[4 * b + k] = in[2 + 8 * b + k];
    }
    if (type == IQ3_XXS)
      for (int k = 0; k < 64; ++k) c->index[k] = in[2 + k];
    break;
  case IQ2_XS:
    for (int k = 0; k < 32; ++k) {
      uint32_t word = gguf_load16(in + 2 + 2 * k);
      c->index[k] = word & 511;
      c->sign[k] = even_signs(word >> 9);
    }
    for (int b = 0; b < 16; ++b) c->scale[b] = (in[66 + b / 2] >> (4 * (b % 2))) & 15;
    break;
  case IQ2_S:
    for (int k = 0; k < 32; ++k)
      c->index[k] = (uint16_t)(in[2 + k] | ((in[66 + k / 4] >> (2 * (k % 4))) & 3) << 8);
    memcpy(c->sign, in + 34, 32);
    for (int b = 0; b < 16; ++b) c->scale[b] = (in[74 + b / 2] >> (4 * (b % 2))) & 15;
    break;
  case IQ3_S:
    for (int k = 0; k < 64; ++k)
      c->index[k] = (uint16_t)(in[2 + k] | ((in[66 + k / 8] >> (k % 8)) & 1) << 8);
    memcpy(c->sign, in + 74, 32);
    for (int b = 0; b < 8; ++b) c->scale[b] = (in[106 + b / 2] >> (4 * (b % 2))) & 15;
    break;
  case IQ1_S:
    for (int b = 0; b < 8; ++b) {
      uint32_t word = gguf_load16(in + 34 + 2 * b);
      c->scale[b] = (word >> 12) & 7;
      for (int k = 0; k < 4; ++k) {
        c->index[4 * b + k] = (uint16_t)(in[2 + 4 * b + k] | ((word >> (3 * k)) & 7) << 8);
        c->sign[4 * b + k] = (uint8_t)(word >> 15);
      }
    }
    break;
  case IQ1_M: {
    uint32_t d = 0;
    for (int q = 0; q < 4; ++q) {
      uint32_t word = gguf_load16(in + 48 + 2 * q);
      d |= (word >> 12) << (4 * q);
      for (int k = 0; k < 4; ++k) c->scale[4 * q + k] = (word >> (3 * k)) & 7;
    }
    c->d = (uint16_t)d;
    for (int k = 0; k < 32; ++k) {
      uint32_t high = (uint32_t)(in[32 + k / 2] >> (4 * (k % 2))) & 15;
      c->index[k] = (uint16_t)(in[k] | (high & 7) << 8);
      c->sign[k] = (uint8_t)(high >> 3);
    }
    break;
  }
  }
}

PER_CPU void kernel_gguf_unpack(uint32_t type, const uint8_t *in, kernel_gguf_codes *codes) {
  switch (type) {
#define CASE(FAMILY, TYPE) case TYPE: FAMILY(TYPE, in, codes); break;
    CASE(unpack_simple, Q4_0) CASE(unpack_simple, Q4_1) CASE(unpack_simple, Q5_0)
    CASE(unpack_simple, Q5_1) CASE(unpack_simple, Q8_0) CASE(unpack_simple, Q1_0)
    CASE(unpack_simple, Q2_0) CASE(unpack_simple, IQ4_NL) CASE(unpack_simple, MXFP4)
    CASE(unpack_simple, NVFP4)
    CASE(unpack_super, Q2_K) CASE(unpack_super, Q3_K) CASE(unpack_super, Q4_K)
    CASE(unpack_super, Q5_K) CASE(unpack_super, Q6_K) CASE(unpack_super, IQ4_XS)
    CASE(unpack_super, TQ1_0) CASE(unpack_super, TQ2_0)
    CASE(unpack_codebook, IQ1_S) CASE(unpack_codebook, IQ1_M) CASE(unpack_codebook, IQ2_XXS)
    CASE(unpack_codebook, IQ2_XS) CASE(unpack_codebook, IQ2_S) CASE(unpack_codebook, IQ3_XXS)
    CASE(unpack_codebook, IQ3_S)
#undef CASE
  }
}
