// Rows of which only the weights that a mask names are stored.

#include "CKernels.h"

static void expand_plain(const uint8_t *mask, const float *values, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = mask[i >> 3] >> (i & 7) & 1 ? *values++ : 0;
}

static float dot_plain(const uint8_t *mask, const float *values, const float *x, size_t n) {
  float sum = 0;
  for (size_t byte = 0; byte < (n + 7) / 8; ++byte)
    for (uint32_t bits = mask[byte]; bits; bits &= bits - 1)
      sum += *values++ * x[8 * byte + (uint32_t)__builtin_ctz(bits)];
  return sum;
}

#if defined(__x86_64__) && defined(__gnu_linux__)
#include <immintrin.h>
#define V4 __attribute__((target("avx512f,avx512bw,avx512vl,popcnt")))

static int has_v4(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

static inline uint32_t sixteen(const uint8_t *mask, size_t i) {
  return mask[i >> 3] | (uint32_t)mask[(i >> 3) + 1] << 8;
}

V4 static void expand_v4(const uint8_t *mask, const float *values, float *out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint32_t bits = sixteen(mask, i);
    _mm512_storeu_ps(out + i,
                     _mm512_maskz_expand_ps((__mmask16)bits, _mm512_loadu_ps(values)));
    values += __builtin_popcount(bits);
  }
  expand_plain(mask + i / 8, values, out + i, n - i);
}

V4 static float dot_v4(const uint8_t *mask, const float *values, const float *x, size_t n) {
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (size_t half = 0; half < 2; ++half) {
      uint32_t bits = sixteen(mask, i + 16 * half);
      __m512 own = _mm512_maskz_expand_ps((__mmask16)bits, _mm512_loadu_ps(values));
      sums[half] = _mm512_fmadd_ps(own, _mm512_loadu_ps(x + i + 16 * half), sums[half]);
      values += __builtin_popcount(bits);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) +
         dot_plain(mask + i / 8, values, x + i, n - i);
}
#else
static int has_v4(void) { return 0; }
#define expand_v4 expand_plain
#define dot_v4 dot_plain
#endif

void kernel_sparse_expand(const uint8_t *mask, const float *values, float *out, size_t n) {
  (has_v4() ? expand_v4 : expand_plain)(mask, values, out, n);
}

float kernel_sparse_dot(const uint8_t *mask, const float *values, const float *x, size_t n) {
  return (has_v4() ? dot_v4 : dot_plain)(mask, values, x, n);
}
