// Products of signed bytes (activations) and unsigned bytes (codes), summed exactly in integers.
#include "CKernels.h"
#include "per_cpu.h"

#include <math.h>

PER_CPU
float kernel_quantize_row(const float *x, int8_t *out, int32_t *sum, size_t n) {
  // Sizes of floats are in the order of their patterns; those of infinity and NaN are the largest.
  uint32_t most = 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t pattern;
    __builtin_memcpy(&pattern, x + i, 4);
    pattern &= 0x7FFFFFFF;
    most = pattern > most ? pattern : most;
  }
  int32_t total = 0;
  if (most >= 0x7F800000 || most == 0) {
    for (size_t i = 0; i < n; i++) out[i] = 0;
    *sum = 0;
    return most == 0 ? 0 : NAN;
  }
  float largest;
  __builtin_memcpy(&largest, &most, 4);
  const float scale = largest / 127, inverse = 127 / largest;
  for (size_t i = 0; i < n; i++) {
    // Tiny rows may have an infinite inverse: their products with it are clamped as all are.
    const float level = nearbyintf(fminf(fmaxf(x[i] * inverse, -127), 127));
    out[i] = (int8_t)level;
    total += out[i];
  }
  *sum = total;
  return scale;
}

// 2^16 products of at most 128 * 255 fit 32 bits: longer sums are carried in 64.
PER_CPU
static int32_t short_dot(const int8_t *x, const uint8_t *w, size_t n) {
  int32_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += (int32_t)(int16_t)x[i] * (int32_t)(int16_t)w[i];
  return sum;
}

int64_t kernel_byte_dot(const int8_t *x, const uint8_t *w, size_t n) {
  int64_t sum = 0;
  for (size_t start = 0; start < n; start += KERNEL_BYTE_PANEL_DEPTH) {
    const size_t rest = n - start;
    sum += short_dot(x + start, w + start,
                     rest < KERNEL_BYTE_PANEL_DEPTH ? rest : KERNEL_BYTE_PANEL_DEPTH);
  }
  return sum;
}

// A panel holds 32 rows of codes, four columns at a time: [ceil(depth / 4)][32][4], zero-filled.

#if defined(__x86_64__) && defined(__gnu_linux__)
#include <immintrin.h>
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

int kernel_has_byte_panels(void) {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

void kernel_pack_bytes(const uint8_t *w, size_t stride, size_t n, size_t depth, uint8_t *panel) {
  for (size_t p = 0; p < depth; p += 4) {
    uint8_t *target = panel + p * KERNEL_BYTE_PANEL;
    const size_t count = depth - p < 4 ? depth - p : 4;
    for (size_t j = 0; j < KERNEL_BYTE_PANEL; j++) {
      uint32_t word = 0;
      if (j < n) __builtin_memcpy(&word, w + j * stride + p, count);
      __builtin_memcpy(target + 4 * j, &word, 4);
    }
  }
}

// Rows of one tile: their sums fill 24 of the 32 registers.
#define TILE 12

VNNI static inline __attribute__((always_inline)) void byte_tile(
    const int8_t *x, size_t rows, const uint8_t *panel, size_t words, const float *x_scales,
    const int32_t *x_sums, const float *w_scales, float *c, size_t c_stride, size_t n) {
  __m512i sums[TILE][2];
  for (size_t i = 0; i < rows; i++) sums[i][0] = sums[i][1] = _mm512_setzero_si512();
  for (size_t p = 0; p < words; p++) {
    const __m512i w0 = _mm512_loadu_si512(panel + p * 128);
    const __m512i w1 = _mm512_loadu_si512(panel + p * 128 + 64);
#pragma unroll
    for (size_t i = 0; i < rows; i++) {
      int32_t four;
      __builtin_memcpy(&four, x + i * words * 4 + p * 4, 4);
      const __m512i value = _mm512_set1_epi32(four);
      sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], w0, value);
      sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], w1, value);
    }
  }
  for (size_t half = 0; half < 2; half++) {
    if (n <= half * 16) break;
    const size_t left = n - half * 16;
    const __mmask16 mask = left >= 16 ? 0xFFFF : (__mmask16)((1u << left) - 1);
    const __m512 scales = _mm512_maskz_loadu_ps(mask, w_scales + half * 16);
    for (size_t i = 0; i < rows; i++) {
      const __m512i sum = _mm512_sub_epi32(sums[i][half], _mm512_set1_epi32(128 * x_sums[i]));
      const __m512 value =
          _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_set1_ps(x_scales[i]), scales));
      _mm512_mask_storeu_ps(c + i * c_stride + half * 16, mask, value);
    }
  }
}

VNNI void kernel_multiply_byte_panel(const int8_t *x, size_t m, const uint8_t *panel, size_t depth,
                                     const float *x_scales, const int32_t *x_sums,
                                     const float *w_scales, float *c, size_t c_stride, size_t n) {
  const size_t words = (depth + 3) / 4;
  size_t i = 0;
  for (; i + TILE <= m; i += TILE)
    byte_tile(x + i * words * 4, TILE, panel, words, x_scales + i, x_sums + i, w_scales,
              c + i * c_stride, c_stride, n);
  for (; i < m; i++)
    byte_tile(x + i * words * 4, 1, panel, words, x_scales + i, x_sums + i, w_scales,
              c + i * c_stride, c_stride, n);
}
#else
int kernel_has_byte_panels(void) { return 0; }
void kernel_pack_bytes(const uint8_t *w, size_t stride, size_t n, size_t depth, uint8_t *panel) {}
void kernel_multiply_byte_panel(const int8_t *x, size_t m, const uint8_t *panel, size_t depth,
                                const float *x_scales, const int32_t *x_sums,
                                const float *w_scales, float *c, size_t c_stride, size_t n) {}
#endif
