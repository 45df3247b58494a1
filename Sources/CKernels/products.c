// Float products. A panel is a slice of the right matrix, depth-major and kernel_panel_width()
// columns wide, so that the inner loop reads it in order; a tile of the result stays in registers.

#include "CKernels.h"
#include "per_cpu.h"

#pragma clang fp contract(fast)

enum { WIDTH = 32, HALF = WIDTH / 2 };

size_t kernel_panel_width(void) { return WIDTH; }

PER_CPU void kernel_pack_rows(const float *b, size_t stride, size_t n, size_t depth, float *panel) {
  size_t p = 0;
  // Blocks of 16 depths: each row contributes one cache line at a time.
  for (; p < depth; p += 16) {
    size_t end = p + 16 < depth ? p + 16 : depth;
    for (size_t j = 0; j < n; ++j)
      for (size_t q = p; q < end; ++q) panel[q * WIDTH + j] = b[j * stride + q];
    for (size_t q = p; q < end; ++q)
      for (size_t j = n; j < WIDTH; ++j) panel[q * WIDTH + j] = 0;
  }
}

PER_CPU void kernel_pack_columns(const float *b, size_t stride, size_t n, size_t depth,
                                 float *panel) {
  for (size_t p = 0; p < depth; ++p) {
    for (size_t j = 0; j < n; ++j) panel[p * WIDTH + j] = b[p * stride + j];
    for (size_t j = n; j < WIDTH; ++j) panel[p * WIDTH + j] = 0;
  }
}

// One tile of ROWS x COLUMNS, added to what is there if ADDS. VECTOR is the register's vector type of LANES floats.
#define TILE(NAME, TARGET, VECTOR, LANES, ROWS, COLUMNS, ADDS)                                            \
  TARGET static void NAME(const float *a, size_t a_stride, const float *panel, size_t depth,     \
                          float *c, size_t c_stride, size_t n) {                                 \
    enum { PARTS = COLUMNS / LANES };                                                            \
    /* The result's lines come while the product is made; the panel, often from the third-level     \
       cache, sixteen depths ahead. */                                                           \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                          \
      __builtin_prefetch(c + (size_t)i * c_stride, 1);                                           \
      __builtin_prefetch(c + (size_t)i * c_stride + COLUMNS / 2, 1);                             \
    }                                                                                            \
    VECTOR sum[ROWS][PARTS];                                                                     \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i)                            \
        _Pragma("clang loop unroll(full)") for (int v = 0; v < PARTS; ++v) sum[i][v] =           \
            (VECTOR){0};                                                                         \
    for (size_t p = 0; p < depth; ++p) {                                                         \
      const VECTOR *row = (const VECTOR *)(panel + p * WIDTH);                                   \
      __builtin_prefetch(panel + (p + 16) * WIDTH);                                              \
      __builtin_prefetch(panel + (p + 16) * WIDTH + WIDTH / 2);                                  \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                        \
        float x = a[(size_t)i * a_stride + p];                                                   \
        _Pragma("clang loop unroll(full)") for (int v = 0; v < PARTS; ++v)                       \
            sum[i][v] += x * row[v];                                                             \
      }                                                                                          \
    }                                                                                            \
    if (n == COLUMNS) {                                                                          \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i)                          \
          _Pragma("clang loop unroll(full)") for (int v = 0; v < PARTS; ++v)                     \
              *(VECTOR *)(c + (size_t)i * c_stride + v * LANES) =                                \
                  ADDS ? *(VECTOR *)(c + (size_t)i * c_stride + v * LANES) + sum[i][v]           \
                       : sum[i][v];                                                              \
    } else {                                                                                     \
      /* Constant indices only: a variable one would keep the tile out of registers. */          \
      float row[COLUMNS];                                                                        \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < ROWS; ++i) {                        \
        _Pragma("clang loop unroll(full)") for (int v = 0; v < PARTS; ++v)                       \
            *(VECTOR *)(row + v * LANES) = sum[i][v];                                            \
        for (size_t j = 0; j < n; ++j)                                                           \
          c[(size_t)i * c_stride + j] = ADDS ? c[(size_t)i * c_stride + j] + row[j] : row[j];    \
      }                                                                                          \
    }                                                                                            \
  }

typedef float f16x __attribute__((vector_size(64), aligned(4)));
typedef float f8x __attribute__((vector_size(32), aligned(4)));
typedef float f4x __attribute__((vector_size(16), aligned(4)));

#if defined(__x86_64__) && defined(__gnu_linux__)
#define V4 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define V3 __attribute__((target("avx2,fma")))
TILE(tile12_v4, V4, f16x, 16, 12, WIDTH, 0)
TILE(tile4_v4, V4, f16x, 16, 4, WIDTH, 0)
TILE(tile1_v4, V4, f16x, 16, 1, WIDTH, 0)
TILE(tile3_v3, V3, f8x, 8, 3, WIDTH, 0)
TILE(tile1_v3, V3, f8x, 8, 1, WIDTH, 0)
// Half a panel at most: layers with few outputs, such as the first convolutions of a network.
TILE(half24_v4, V4, f16x, 16, 24, HALF, 0)
TILE(half4_v4, V4, f16x, 16, 4, HALF, 0)
TILE(half1_v4, V4, f16x, 16, 1, HALF, 0)
TILE(half6_v3, V3, f8x, 8, 6, HALF, 0)
TILE(half1_v3, V3, f8x, 8, 1, HALF, 0)
TILE(tile12_add_v4, V4, f16x, 16, 12, WIDTH, 1)
TILE(tile4_add_v4, V4, f16x, 16, 4, WIDTH, 1)
TILE(tile1_add_v4, V4, f16x, 16, 1, WIDTH, 1)
TILE(tile3_add_v3, V3, f8x, 8, 3, WIDTH, 1)
TILE(tile1_add_v3, V3, f8x, 8, 1, WIDTH, 1)
#endif
TILE(tile1_plain, , f4x, 4, 1, WIDTH, 0)
TILE(tile1_add_plain, , f4x, 4, 1, WIDTH, 1)

#define SWEEP(ROWS, TILE_NAME)                                                                   \
  for (; i + ROWS <= m; i += ROWS)                                                               \
    TILE_NAME(a + i * a_stride, a_stride, panel, depth, c + i * c_stride, c_stride, n);

void kernel_multiply_panel(const float *a, size_t a_stride, size_t m, const float *panel,
                           size_t depth, float *c, size_t c_stride, size_t n) {
  size_t i = 0;
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    if (n <= HALF) {
      SWEEP(24, half24_v4)
      SWEEP(4, half4_v4)
      SWEEP(1, half1_v4)
      return;
    }
    SWEEP(12, tile12_v4)
    SWEEP(4, tile4_v4)
    SWEEP(1, tile1_v4)
    return;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    if (n <= HALF) {
      SWEEP(6, half6_v3)
      SWEEP(1, half1_v3)
      return;
    }
    SWEEP(3, tile3_v3)
    SWEEP(1, tile1_v3)
    return;
  }
#endif
  SWEEP(1, tile1_plain)
}

void kernel_add_panel_product(const float *a, size_t a_stride, size_t m, const float *panel,
                              size_t depth, float *c, size_t c_stride, size_t n) {
  size_t i = 0;
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    SWEEP(12, tile12_add_v4)
    SWEEP(4, tile4_add_v4)
    SWEEP(1, tile1_add_v4)
    return;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    SWEEP(3, tile3_add_v3)
    SWEEP(1, tile1_add_v3)
    return;
  }
#endif
  SWEEP(1, tile1_add_plain)
}

PER_CPU void kernel_transpose(const float *in, size_t in_stride, size_t rows, size_t columns,
                              float *out, size_t out_stride) {
  enum { BLOCK = 16 };
  for (size_t r = 0; r < rows; r += BLOCK) {
    size_t r_end = r + BLOCK < rows ? r + BLOCK : rows;
    for (size_t c = 0; c < columns; c += BLOCK) {
      size_t c_end = c + BLOCK < columns ? c + BLOCK : columns;
      for (size_t j = c; j < c_end; ++j)
        for (size_t i = r; i < r_end; ++i) out[j * out_stride + i] = in[i * in_stride + j];
    }
  }
}

PER_CPU float kernel_dot(const float *a, const float *b, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

PER_CPU void kernel_axpy(float scale, const float *in, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] += scale * in[i];
}
