// Packed integer codes of 1 to 8 bits, and rounding to group grids. Decisions that end up in files
// (codes, grid errors) are made here without contraction and in a fixed order of additions.

#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

#pragma clang fp contract(off)

PER_CPU static void unpack8(const uint8_t *in, uint8_t *out, size_t n) { memcpy(out, in, n); }

PER_CPU static void unpack4(const uint8_t *in, uint8_t *out, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    out[2 * i] = in[i] & 15;
    out[2 * i + 1] = in[i] >> 4;
  }
}

PER_CPU static void unpack2(const uint8_t *in, uint8_t *out, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    for (int j = 0; j < 4; ++j) out[4 * i + j] = (in[i] >> (2 * j)) & 3;
}

// Eight codes fill `bits` whole bytes, whatever the width.
PER_CPU static void unpack_eights(const uint8_t *in, size_t bits, uint8_t *out, size_t eights) {
  const uint64_t mask = (1u << bits) - 1;
  for (size_t i = 0; i < eights; ++i) {
    uint64_t word = 0;
    for (size_t b = 0; b < bits; ++b) word |= (uint64_t)in[i * bits + b] << (8 * b);
    for (int j = 0; j < 8; ++j) out[8 * i + j] = (uint8_t)((word >> (j * bits)) & mask);
  }
}

void kernel_unpack_codes(const uint8_t *in, size_t bits, uint8_t *out, size_t n) {
  size_t eights = n / 8;
  switch (bits) {
  case 8: unpack8(in, out, n); return;
  case 4: unpack4(in, out, eights * 4); break;
  case 2: unpack2(in, out, eights * 2); break;
  case 3: unpack_eights(in, 3, out, eights); break;
  case 5: unpack_eights(in, 5, out, eights); break;
  case 6: unpack_eights(in, 6, out, eights); break;
  default: unpack_eights(in, bits, out, eights); break;
  }
  // The last, partial eight: bit by bit, so that no byte past the end is read.
  for (size_t i = eights * 8; i < n; ++i) {
    uint32_t code = 0;
    for (size_t b = 0; b < bits; ++b) {
      size_t position = i * bits + b;
      code |= (uint32_t)((in[position / 8] >> (position % 8)) & 1) << b;
    }
    out[i] = (uint8_t)code;
  }
}

PER_CPU void kernel_decode_group(const uint8_t *codes, float scale, float zero, float *out,
                                 size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = scale * ((float)codes[i] - zero);
}

static inline float round_even(float x) {
  const float magic = 0x1.8p23f; // |x| stays below 2^22: codes are at most 255 before clamping wins
  return (x + magic) - magic;
}

static inline float code_of(float x, float inverse, float zero, float top) {
  float code = x * inverse + zero;
  code = code < 0 ? 0 : code; // also NaN's way out: comparisons fail, and callers refuse NaN before
  code = code > top ? top : code;
  return round_even(code);
}

PER_CPU float kernel_grid_error(const float *x, const float *weights, float scale, float inverse,
                                float zero, float top, size_t n) {
  float lanes[8] = {0};
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) {
      float error = x[i + j] - scale * (code_of(x[i + j], inverse, zero, top) - zero);
      lanes[j] += weights[i + j] * (error * error);
    }
  for (int j = 0; i < n; ++i, ++j) {
    float error = x[i] - scale * (code_of(x[i], inverse, zero, top) - zero);
    lanes[j] += weights[i] * (error * error);
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

PER_CPU void kernel_round_column(const float *x, const float *scales, const float *inverses,
                                 const float *zeros, float top, float *quantized, uint8_t *codes,
                                 size_t n) {
  for (size_t i = 0; i < n; ++i) {
    float code = code_of(x[i], inverses[i], zeros[i], top);
    quantized[i] = scales[i] * (code - zeros[i]);
    codes[i] = (uint8_t)code;
  }
}
