// Codes into a table of levels: FP8 E4M3 and NF4. What is decided here ends up in files: no contraction, additions in a
// fixed order.
//
// Source   E4M3: Micikevicius et al., "FP8 Formats for Deep Learning", 2022, arXiv:2209.05433, table 1 (largest 448)
//          NF4: Dettmers et al., "QLoRA", 2023, arXiv:2305.14314, appendix E

#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

#pragma clang fp contract(off)

static const float nf4[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

static inline float of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

typedef struct {
  float value;
  uint32_t code;
} level;

// The nearest of E4M3's values, ties to even; beyond 448, 448.
static inline level nearest_e4m3(float x) {
  float size = of_bits(bits_of(x) & 0x7fffffff);
  size = size > 448 ? 448 : size;
  uint32_t exponent = bits_of(size) >> 23;
  exponent = exponent < 121 ? 121 : exponent; // 2^-6, the least normal one
  const float quantum = of_bits((exponent - 3) << 23), inverse = of_bits((257 - exponent) << 23);
  const float magic = 0x1.8p23f;
  const float steps = (size * inverse + magic) - magic; // 8 to 16, below 8 only where subnormal
  const uint32_t code = (exponent - 121) * 8 + (uint32_t)(int32_t)steps;
  const uint32_t negative = x < 0 && code != 0;
  return (level){negative ? -(steps * quantum) : steps * quantum, code | negative << 7};
}

static inline level nearest_nf4(float x) {
  uint32_t code = 0;
  for (int i = 0; i < 15; ++i) code += x > 0.5f * (nf4[i] + nf4[i + 1]);
  return (level){nf4[code], code};
}

void kernel_level_table(uint32_t kind, float *levels) {
  if (kind == KERNEL_NF4) {
    memcpy(levels, nf4, sizeof nf4);
    return;
  }
  for (uint32_t code = 0; code < 256; ++code) {
    const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    float value = exponent ? of_bits((exponent + 120) << 23 | mantissa << 20)
                           : (float)mantissa * 0x1p-9f;
    if ((code & 127) == 127) value = of_bits(0x7fc00000); // the only code that is no number
    levels[code] = code & 128 ? -value : value;
  }
}

PER_CPU void kernel_decode_levels(const uint8_t *codes, const float *levels, float scale,
                                  float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = scale * levels[codes[i]];
}

#define ERROR_OF(NEAREST)                                                                          \
  float lanes[8] = {0};                                                                            \
  size_t i = 0;                                                                                    \
  for (; i + 8 <= n; i += 8)                                                                       \
    for (int j = 0; j < 8; ++j) {                                                                  \
      float error = x[i + j] - scale * NEAREST(x[i + j] * inverse).value;                          \
      lanes[j] += weights[i + j] * (error * error);                                                \
    }                                                                                              \
  for (int j = 0; i < n; ++i, ++j) {                                                               \
    float error = x[i] - scale * NEAREST(x[i] * inverse).value;                                    \
    lanes[j] += weights[i] * (error * error);                                                      \
  }                                                                                                \
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +                                         \
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));

PER_CPU static float error_e4m3(const float *x, const float *weights, float scale, float inverse,
                                size_t n) {
  ERROR_OF(nearest_e4m3)
}

PER_CPU static float error_nf4(const float *x, const float *weights, float scale, float inverse,
                               size_t n) {
  ERROR_OF(nearest_nf4)
}

float kernel_level_error(const float *x, const float *weights, uint32_t kind, float scale,
                         float inverse, size_t n) {
  return kind == KERNEL_NF4 ? error_nf4(x, weights, scale, inverse, n)
                            : error_e4m3(x, weights, scale, inverse, n);
}

#define ROUND(NEAREST)                                                                             \
  for (size_t i = 0; i < n; ++i) {                                                                 \
    level nearest = NEAREST(x[i] * inverses[i]);                                                   \
    quantized[i] = scales[i] * nearest.value;                                                      \
    codes[i] = (uint8_t)nearest.code;                                                              \
  }

PER_CPU static void round_e4m3(const float *x, const float *scales, const float *inverses,
                               float *quantized, uint8_t *codes, size_t n) {
  ROUND(nearest_e4m3)
}

PER_CPU static void round_nf4(const float *x, const float *scales, const float *inverses,
                              float *quantized, uint8_t *codes, size_t n) {
  ROUND(nearest_nf4)
}

void kernel_round_levels(const float *x, const float *scales, const float *inverses, uint32_t kind,
                         float *quantized, uint8_t *codes, size_t n) {
  if (kind == KERNEL_NF4) round_nf4(x, scales, inverses, quantized, codes, n);
  else round_e4m3(x, scales, inverses, quantized, codes, n);
}
