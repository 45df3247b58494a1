// Products in bfloat16 with float32 sums. Values come in pairs along the depth: a panel holds, for each pair of depths,
// the pairs of kernel_panel_width() columns.

#include "CKernels.h"
#include "per_cpu.h"

#include <string.h>
#if defined(__x86_64__) && defined(__gnu_linux__)
#include <immintrin.h>
#endif

enum { BF_WIDTH = 32 };

static inline uint16_t rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  // To nearest even; NaN keeps its top bits and stays NaN.
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float widened(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

PER_CPU void kernel_round_pairs_bf16(const float *in, size_t in_stride, size_t rows, size_t depth,
                                     uint16_t *out, size_t out_stride) {
  for (size_t i = 0; i < rows; ++i) {
    for (size_t p = 0; p < depth; ++p) out[i * out_stride + p] = rounded(in[i * in_stride + p]);
    for (size_t p = depth; p < out_stride; ++p) out[i * out_stride + p] = 0;
  }
}

PER_CPU void kernel_pack_rows_bf16(const float *b, size_t stride, size_t n, size_t depth,
                                   uint16_t *panel) {
  memset(panel, 0, (depth + 1) / 2 * 2 * BF_WIDTH * sizeof(uint16_t));
  for (size_t j = 0; j < n; ++j)
    for (size_t p = 0; p < depth; ++p)
      panel[p / 2 * 2 * BF_WIDTH + 2 * j + p % 2] = rounded(b[j * stride + p]);
}

PER_CPU void kernel_pack_columns_bf16(const float *b, size_t stride, size_t n, size_t depth,
                                      uint16_t *panel) {
  memset(panel, 0, (depth + 1) / 2 * 2 * BF_WIDTH * sizeof(uint16_t));
  for (size_t p = 0; p < depth; ++p)
    for (size_t j = 0; j < n; ++j)
      panel[p / 2 * 2 * BF_WIDTH + 2 * j + p % 2] = rounded(b[p * stride + j]);
}

#if defined(__x86_64__) && defined(__gnu_linux__)
#define BF16 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")))
#define BF_TILE(NAME, ROWS)                                                                      \
  BF16 static void NAME(const uint16_t *a, size_t a_stride, const uint16_t *panel, size_t pairs, \
                        float *c, size_t c_stride, size_t n, int adds) {                         \
    __m512 sum[ROWS][2];                                                                         \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                          \
      sum[i][0] = _mm512_setzero_ps();                                                           \
      sum[i][1] = _mm512_setzero_ps();                                                           \
    }                                                                                            \
    for (size_t p = 0; p < pairs; ++p) {                                                         \
      __m512bh left = (__m512bh)_mm512_loadu_si512(panel + p * 2 * BF_WIDTH);                    \
      __m512bh right = (__m512bh)_mm512_loadu_si512(panel + p * 2 * BF_WIDTH + BF_WIDTH);        \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                        \
        int pair;                                                                                \
        memcpy(&pair, a + (size_t)i * a_stride + 2 * p, 4);                                      \
        __m512bh x = (__m512bh)_mm512_set1_epi32(pair);                                          \
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, left);                                        \
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, right);                                       \
      }                                                                                          \
    }                                                                                            \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                          \
      float row[BF_WIDTH];                                                                       \
      _mm512_storeu_ps(row, sum[i][0]);                                                          \
      _mm512_storeu_ps(row + 16, sum[i][1]);                                                     \
      float *target = c + (size_t)i * c_stride;                                                  \
      for (size_t j = 0; j < n; ++j) target[j] = adds ? target[j] + row[j] : row[j];             \
    }                                                                                            \
  }
BF_TILE(bf_tile12, 12)
BF_TILE(bf_tile4, 4)
BF_TILE(bf_tile1, 1)
#endif

PER_CPU static void bf_plain(const uint16_t *a, const uint16_t *panel, size_t pairs, float *c,
                             size_t n, int adds) {
  float sum[BF_WIDTH] = {0};
  for (size_t p = 0; p < pairs; ++p) {
    float first = widened(a[2 * p]), second = widened(a[2 * p + 1]);
    const uint16_t *row = panel + p * 2 * BF_WIDTH;
    for (size_t j = 0; j < BF_WIDTH; ++j)
      sum[j] += first * widened(row[2 * j]) + second * widened(row[2 * j + 1]);
  }
  for (size_t j = 0; j < n; ++j) c[j] = adds ? c[j] + sum[j] : sum[j];
}

void kernel_multiply_panel_bf16(const uint16_t *a, size_t a_stride, size_t m,
                                const uint16_t *panel, size_t pairs, float *c, size_t c_stride,
                                size_t n, int adds) {
  size_t i = 0;
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw")) {
    for (; i + 12 <= m; i += 12)
      bf_tile12(a + i * a_stride, a_stride, panel, pairs, c + i * c_stride, c_stride, n, adds);
    for (; i + 4 <= m; i += 4)
      bf_tile4(a + i * a_stride, a_stride, panel, pairs, c + i * c_stride, c_stride, n, adds);
    for (; i < m; ++i)
      bf_tile1(a + i * a_stride, a_stride, panel, pairs, c + i * c_stride, c_stride, n, adds);
    return;
  }
#endif
  for (; i < m; ++i) bf_plain(a + i * a_stride, panel, pairs, c + i * c_stride, n, adds);
}
