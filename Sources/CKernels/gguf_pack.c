// From codes to the bytes of a ggml block: the inverse of gguf_unpack.c, in the same order.

#include "gguf_blocks.h"

ALWAYS void put_nibbles(const uint8_t *level, size_t n, uint8_t *out) {
  for (size_t i = 0; i < n; ++i) out[i] = (uint8_t)((level[i] & 15) | (level[n + i] & 15) << 4);
}

ALWAYS void put_crumbs(const uint8_t *level, uint8_t *out) {
  for (int i = 0; i < 32; ++i) {
    int byte = 0;
    for (int k = 0; k < 4; ++k) byte |= (level[32 * k + i] & 3) << (2 * k);
    out[i] = (uint8_t)byte;
  }
}

ALWAYS void put_sixes(const kernel_gguf_codes *c, uint8_t *out) {
  for (int j = 0; j < 4; ++j) {
    const int scale = c->scale[j + 4], minimum = c->minimum[j + 4];
    out[j] = (uint8_t)(c->scale[j] | (scale >> 4) << 6);
    out[j + 4] = (uint8_t)(c->minimum[j] | (minimum >> 4) << 6);
    out[j + 8] = (uint8_t)((scale & 15) | (minimum & 15) << 4);
  }
}

// Bit `bit` of 256 levels, as the K formats store it: column 32 k + i in bit k of byte i.
ALWAYS void put_high_bits(const uint8_t *level, int bit, uint8_t *out) {
  for (int i = 0; i < 32; ++i) {
    int byte = 0;
    for (int k = 0; k < 8; ++k) byte |= ((level[32 * k + i] >> bit) & 1) << k;
    out[i] = (uint8_t)byte;
  }
}

// Digits to base 3, the first column highest, as a fraction of 243 in 256ths, rounded up.
ALWAYS void put_ternary(const uint8_t *level, size_t bytes, int digits, uint8_t *out) {
  for (size_t i = 0; i < bytes; ++i) {
    int number = 0;
    for (int n = 0; n < 5; ++n) number = 3 * number + (n < digits ? level[(size_t)n * bytes + i] : 0);
    out[i] = (uint8_t)((number * 256 + 242) / 243);
  }
}

static void pack_simple(uint32_t type, const kernel_gguf_codes *c, uint8_t *out) {
  if (type != NVFP4 && type != MXFP4) gguf_store16(out, c->d);
  switch (type) {
  case Q4_0:
  case IQ4_NL: put_nibbles(c->level, 16, out + 2); break;
  case Q4_1:
    gguf_store16(out + 2, c->minimum_d);
    put_nibbles(c->level, 16, out + 4);
    break;
  case Q5_0:
  case Q5_1: {
    if (type == Q5_1) gguf_store16(out + 2, c->minimum_d);
    uint8_t *high = out + (type == Q5_1 ? 4 : 2);
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (uint32_t)((c->level[i] >> 4) & 1) << i;
    gguf_store32(high, bits);
    put_nibbles(c->level, 16, high + 4);
    break;
  }
  case Q8_0: memcpy(out + 2, c->level, 32); break;
  case Q1_0:
    memset(out + 2, 0, 16);
    for (int i = 0; i < 128; ++i) out[2 + i / 8] |= (uint8_t)((c->level[i] & 1) << (i % 8));
    break;
  case Q2_0:
    memset(out + 2, 0, 16);
    for (int i = 0; i < 64; ++i) out[2 + i / 4] |= (uint8_t)((c->level[i] & 3) << (2 * (i % 4)));
    break;
  case MXFP4:
    out[0] = (uint8_t)c->d;
    put_nibbles(c->level, 16, out + 1);
    break;
  case NVFP4:
    for (int s = 0; s < 4; ++s) {
      out[s] = (uint8_t)c->scale[s];
      put_nibbles(c->level + 16 * s, 8, out + 4 + 8 * s);
    }
    break;
  }
}

static void pack_super(uint32_t type, const kernel_gguf_codes *c, uint8_t *out) {
  switch (type) {
  case Q2_K:
    for (int j = 0; j < 16; ++j) out[j] = (uint8_t)(c->scale[j] | c->minimum[j] << 4);
    for (int k = 0; k < 2; ++k) put_crumbs(c->level + 128 * k, out + 16 + 32 * k);
    gguf_store16(out + 80, c->d);
    gguf_store16(out + 82, c->minimum_d);
    break;
  case Q3_K:
    put_high_bits(c->level, 2, out);
    for (int k = 0; k < 2; ++k) put_crumbs(c->level + 128 * k, out + 32 + 32 * k);
    memset(out + 96, 0, 12);
    for (int j = 0; j < 16; ++j) {
      const int scale = c->scale[j] + 32;
      out[96 + j % 8] |= (uint8_t)((scale & 15) << (4 * (j / 8)));
      out[104 + j % 4] |= (uint8_t)((scale >> 4) << (2 * (j / 4)));
    }
    gguf_store16(out + 108, c->d);
    break;
  case Q4_K:
  case Q5_K: {
    gguf_store16(out, c->d);
    gguf_store16(out + 2, c->minimum_d);
    put_sixes(c, out + 4);
    uint8_t *low = out + (type == Q5_K ? 48 : 16);
    for (int k = 0; k < 4; ++k) put_nibbles(c->level + 64 * k, 32, low + 32 * k);
    if (type == Q5_K) put_high_bits(c->level, 4, out + 16);
    break;
  }
  case Q6_K:
    for (int k = 0; k < 2; ++k) {
      const uint8_t *level = c->level + 128 * k;
      put_nibbles(level, 64, out + 64 * k);
      for (int i = 0; i < 32; ++i) {
        int byte = 0;
        for (int q = 0; q < 4; ++q) byte |= (level[32 * q + i] >> 4) << (2 * q);
        out[128 + 32 * k + i] = (uint8_t)byte;
      }
    }
    memcpy(out + 192, c->scale, 16);
    gguf_store16(out + 208, c->d);
    break;
  case IQ4_XS: {
    gguf_store16(out, c->d);
    uint32_t high = 0;
    memset(out + 4, 0, 4);
    for (int j = 0; j < 8; ++j) {
      const int scale = c->scale[j] + 32;
      high |= (uint32_t)(scale >> 4) << (2 * j);
      out[4 + j / 2] |= (uint8_t)((scale & 15) << (4 * (j % 2)));
      put_nibbles(c->level + 32 * j, 16, out + 8 + 16 * j);
    }
    gguf_store16(out + 2, (uint16_t)high);
    break;
  }
  case TQ1_0:
    put_ternary(c->level, 32, 5, out);
    put_ternary(c->level + 160, 16, 5, out + 32);
    put_ternary(c->level + 240, 4, 4, out + 48);
    gguf_store16(out + 52, c->d);
    break;
  case TQ2_0:
    for (int k = 0; k < 2; ++k) put_crumbs(c->level + 128 * k, out + 32 * k);
    gguf_store16(out + 64, c->d);
    break;
  }
}

static void pack_codebook(uint32_t type, const kernel_gguf_codes *c, uint8_t *out) {
  if (type != IQ1_M) gguf_store16(out, c->d);
  switch (type) {
  case IQ2_XXS:
  case IQ3_XXS:
    for (int b = 0; b < 8; ++b) {
      uint32_t word = (uint32_t)c->scale[b] << 28;
      for (int k = 0; k < 4; ++k) word |= (uint32_t)(c->sign[4 * b + k] & 127) << (7 * k);
      gguf_store32(type == IQ2_XXS ? out + 6 + 8 * b : out + 66 + 4 * b, word);
      if (type == IQ2_XXS)
        for (int k = 0; k < 4; ++k) out[2 + 8 * b + k] = (uint8_t)c->index[4 * b + k];
    }
    if (type == IQ3_XXS)
      for (int k = 0; k < 64; ++k) out[2 + k] = (uint8_t)c->index[k];
    break;
  case IQ2_XS:
    for (int k = 0; k < 32; ++k)
      gguf_store16(out + 2 + 2 * k, (uint16_t)(c->index[k] | (c->sign[k] & 127) << 9));
    for (int b = 0; b < 8; ++b) out[66 + b] = (uint8_t)(c->scale[2 * b] | c->scale[2 * b + 1] << 4);
    break;
  case IQ2_S:
    memset(out + 66, 0, 8);
    for (int k = 0; k < 32; ++k) {
      out[2 + k] = (uint8_t)c->index[k];
      out[66 + k / 4] |= (uint8_t)((c->index[k] >> 8) << (2 * (k % 4)));
    }
    memcpy(out + 34, c->sign, 32);
    for (int b = 0; b < 8; ++b) out[74 + b] = (uint8_t)(c->scale[2 * b] | c->scale[2 * b + 1] << 4);
    break;
  case IQ3_S:
    memset(out + 66, 0, 8);
    for (int k = 0; k < 64; ++k) {
      out[2 + k] = (uint8_t)c->index[k];
      out[66 + k / 8] |= (uint8_t)((c->index[k] >> 8) << (k % 8));
    }
    memcpy(out + 74, c->sign, 32);
    for (int b = 0; b < 4; ++b)
      out[106 + b] = (uint8_t)(c->scale[2 * b] | c->scale[2 * b + 1] << 4);
    break;
  case IQ1_S:
    for (int b = 0; b < 8; ++b) {
      uint32_t word = (uint32_t)c->scale[b] << 12 | (uint32_t)c->sign[4 * b] << 15;
      for (int k = 0; k < 4; ++k) {
        out[2 + 4 * b + k] = (uint8_t)c->index[4 * b + k];
        word |= (uint32_t)(c->index[4 * b + k] >> 8) << (3 * k);
      }
      gguf_store16(out + 34 + 2 * b, (uint16_t)word);
    }
    break;
  case IQ1_M:
    memset(out + 32, 0, 16);
    for (int k = 0; k < 32; ++k) {
      out[k] = (uint8_t)c->index[k];
      out[32 + k / 2] |= (uint8_t)((c->index[k] >> 8 | c->sign[k] << 3) << (4 * (k % 2)));
    }
    for (int q = 0; q < 4; ++q) {
      uint32_t word = ((uint32_t)c->d >> (4 * q) & 15) << 12;
      for (int k = 0; k < 4; ++k) word |= (uint32_t)c->scale[4 * q + k] << (3 * k);
      gguf_store16(out + 48 + 2 * q, (uint16_t)word);
    }
    break;
  }
}

void kernel_gguf_pack(uint32_t type, const kernel_gguf_codes *codes, uint8_t *out) {
  switch (type) {
  case Q2_K:
  case Q3_K:
  case Q4_K:
  case Q5_K:
  case Q6_K:
  case IQ4_XS:
  case TQ1_0:
  case TQ2_0: pack_super(type, codes, out); break;
  case IQ1_S:
  case IQ1_M:
  case IQ2_XXS:
  case IQ2_XS:
  case IQ2_S:
  case IQ3_XXS:
  case IQ3_S: pack_codebook(type, codes, out); break;
  default: pack_simple(type, codes, out);
  }
}
