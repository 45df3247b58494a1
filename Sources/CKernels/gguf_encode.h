// Encoding a tile of up to 16 rows. Included once for each CPU level, whose name LEVEL appends.

#include "gguf_fit_affine.h"
#include "gguf_fit_codebook.h"
#include "gguf_fit_scaled.h"
#include "gguf_feedback.h"

// The power of two at or below size, 1 for values that are next to nothing.
ALWAYS float unit_of(float size) {
  uint32_t exponent = gguf_bits_of(size) & 0x7f800000u;
  return exponent == 0 || exponent == 0x7f800000u ? 1.0f : gguf_float_of(exponent);
}

ALWAYS void fit_block(uint32_t type, const lanes *x, const lanes *w, units u, tile_codes *out) {
  switch (type) {
  case Q4_0:
  case Q5_0:
  case Q8_0:
  case IQ4_NL: fit_single(type, x, w, 32, u, out); break;
  case Q2_0: fit_single(type, x, w, 64, u, out); break;
  case Q1_0: fit_single(type, x, w, 128, u, out); break;
  case TQ1_0:
  case TQ2_0: fit_single(type, x, w, 256, u, out); break;
  case MXFP4:
  case NVFP4: fit_float4(type, x, w, u, out); break;
  case Q3_K: fit_scaled_blocks(type, x, w, 16, 16, -32, 31, u, out); break;
  case Q6_K: fit_scaled_blocks(type, x, w, 16, 16, -128, 127, u, out); break;
  case IQ4_XS: fit_scaled_blocks(type, x, w, 32, 8, -32, 31, u, out); break;
  case Q4_1: fit_affine_single(x, w, 15, u, out); break;
  case Q5_1: fit_affine_single(x, w, 31, u, out); break;
  case Q2_K: fit_affine_blocks(x, w, 16, 3, 15, u, out); break;
  case Q4_K: fit_affine_blocks(x, w, 32, 15, 63, u, out); break;
  case Q5_K: fit_affine_blocks(x, w, 32, 31, 63, u, out); break;
  }
}

// One function for each type, so that sizes and level sets are constants in it.
#define FIT(TYPE)                                                                                  \
  static __attribute__((noinline)) void fit_##TYPE(const lanes *x, const lanes *w, const units *u, \
                                                   tile_codes *out) {                              \
    fit_block(TYPE, x, w, *u, out);                                                                \
  }
FIT(Q4_0) FIT(Q4_1) FIT(Q5_0) FIT(Q5_1) FIT(Q8_0) FIT(Q2_K) FIT(Q3_K) FIT(Q4_K) FIT(Q5_K) FIT(Q6_K)
FIT(IQ4_NL) FIT(IQ4_XS) FIT(TQ1_0) FIT(MXFP4) FIT(NVFP4) FIT(Q1_0) FIT(Q2_0)
#undef FIT

// Scales, then every point of a codebook: tables and loops are large, and inlined once each.
#define FIT(TYPE)                                                                                  \
  static __attribute__((noinline)) void fit_##TYPE(const lanes *x, const lanes *w, const units *u, \
                                                   const kernel_gguf_codebook *book,               \
                                                   tile_codes *out) {                              \
    fit_codebook(TYPE, x, w, book, *u, out);                                                       \
  }
FIT(IQ1_S) FIT(IQ1_M) FIT(IQ2_XXS) FIT(IQ2_XS) FIT(IQ2_S) FIT(IQ3_XXS) FIT(IQ3_S)
#undef FIT

static void fit(uint32_t type, const lanes *x, const lanes *w, const units *u,
                const kernel_gguf_codebook *book, tile_codes *out) {
  switch (type) {
#define CASE(TYPE) case TYPE: fit_##TYPE(x, w, u, out); break;
    CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(Q8_0) CASE(Q2_K) CASE(Q3_K) CASE(Q4_K)
    CASE(Q5_K) CASE(Q6_K) CASE(IQ4_NL) CASE(IQ4_XS) CASE(TQ1_0) CASE(MXFP4) CASE(NVFP4)
    CASE(Q1_0) CASE(Q2_0)
#undef CASE
#define CASE(TYPE) case TYPE: fit_##TYPE(x, w, u, book, out); break;
    CASE(IQ1_S) CASE(IQ1_M) CASE(IQ2_XXS) CASE(IQ2_XS) CASE(IQ2_S) CASE(IQ3_XXS) CASE(IQ3_S)
#undef CASE
  case TQ2_0: fit_TQ1_0(x, w, u, out); break;
  }
}

// A tile's block: columns of 16 rows in their units, and weights with a largest between 1 and 2.
static void load_block(const float *x, size_t stride, size_t rows, size_t columns,
                       const float *importance, lanes *tile, lanes *weights, units *u) {
  for (size_t r = 0; r < LANES; ++r) {
    const float *row = x + (r < rows ? r : 0) * stride; // the last tile's missing rows repeat its first
    float largest = 0;
    for (size_t c = 0; c < columns; ++c) {
      float size = row[c] < 0 ? -row[c] : row[c];
      largest = size > largest ? size : largest;
    }
    u->unit[r] = unit_of(largest);
    u->inverse[r] = 1.0f / u->unit[r];
    for (size_t c = 0; c < columns; ++c) ((float *)tile)[LANES * c + r] = row[c] * u->inverse[r];
  }
  float largest = 0;
  for (size_t c = 0; importance && c < columns; ++c)
    largest = importance[c] > largest ? importance[c] : largest;
  const float scale = 1.0f / unit_of(largest);
  for (size_t c = 0; c < columns; ++c) {
    // Columns that no calibration text reached still are rounded to something near them.
    float weight = importance ? importance[c] * scale : 1.0f;
    weights[c] = weight > 0x1p-40f ? weight : 0x1p-40f;
  }
}

static void take_row(const tile_codes *tile, int r, size_t columns, kernel_gguf_codes *out) {
  out->d = (uint16_t)tile->d[r];
  out->minimum_d = (uint16_t)tile->minimum_d[r];
  for (int b = 0; b < 16; ++b) {
    out->scale[b] = (int8_t)tile->scale[b][r];
    out->minimum[b] = (uint8_t)tile->minimum[b][r];
  }
  for (size_t c = 0; c < columns; ++c) out->level[c] = tile->level[c][r];
  for (int k = 0; k < 64; ++k) out->index[k] = tile->index[k][r];
  for (int k = 0; k < 32; ++k) out->sign[k] = tile->sign[k][r];
}

// Makes a block's values q nearly as large as its weights x are along them.
//
// Least-squares values are too small by the relative error D, all in one direction: sum w x q = (1 - D) sum w x^2. In a
// product W x these errors add up as the weights themselves do, not as noise does: the energy of outputs is about six
// times the sum of the weights' own energies (measured on language models: 3 to 11). So the block's halves grow by the
// factor g that minimises sum w (x - g q)^2 + 5 (sum w x (x - g q))^2 / sum w x^2.
ALWAYS void restore_size(const kernel_gguf_rows *job, const float *x, const float *w, float inverse,
                         kernel_gguf_codes *row) {
  const float aligned = 5.0f;
  float value[256], sums[3][LANES] = {{0}};
  kernel_gguf_values(job->type, row, job->grid, value);
  for (size_t c = 0; c < job->block_columns; c += LANES)
    for (size_t i = 0; i < LANES; ++i) {
      const float own = x[c + i] * inverse, found = value[c + i] * inverse, weight = w[LANES * (c + i)];
      sums[0][i] += weight * own * own;
      sums[1][i] += weight * own * found;
      sums[2][i] += weight * found * found;
    }
  for (int k = 0; k < 3; ++k)
    for (int half = LANES / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) sums[k][i] += sums[k][i + half];
  const float xx = sums[0][0], xq = sums[1][0], qq = sums[2][0];
  if (!(xq > 0 && xq < xx)) return;
  lanes halves = (1 + aligned) * xq / (qq + aligned * xq * xq / xx);
  halves[0] *= gguf_half(row->d);
  halves[1] *= gguf_half(row->minimum_d);
  ints bits = half_bits(halves);
  row->d = (uint16_t)bits[0];
  row->minimum_d = (uint16_t)bits[1];
}

// Whether a format's values all grow with its halves, and the fit's errors are not the format's only virtue: FP4's
// scales are too coarse, and Q1_0 knows one size.
ALWAYS int has_size(uint32_t type) { return type != MXFP4 && type != NVFP4 && type != Q1_0; }

void LEVEL(kernel_gguf_encode)(const kernel_gguf_rows *job) {
  lanes tile[256], weights[256];
  units u;
  tile_codes codes;
  kernel_gguf_codes row;
  memset(&codes, 0, sizeof codes);
  const size_t width = job->block_columns;
  for (size_t first = 0, block = 0; first < job->columns; first += width, ++block) {
    load_block(job->x + first, job->stride, job->rows, width,
               job->importance ? job->importance + first : 0, tile, weights, &u);
    fit(job->type, tile, weights, &u, job->codebook, &codes);
    for (size_t r = 0; r < job->rows; ++r) {
      take_row(&codes, (int)r, width, &row);
      if (has_size(job->type))
        restore_size(job, job->x + first + r * job->stride, (const float *)weights + r,
                     u.inverse[r], &row);
      kernel_gguf_pack(job->type, &row, job->out + r * job->out_stride + block * job->block_bytes);
    }
  }
}

// One function for each kind of rounding.
#define ROUND(TYPE)                                                                                \
  static __attribute__((noinline)) void round_##TYPE(                                              \
    tile_block *t, const units *units, const float *u, size_t stride,                              \
    const kernel_gguf_codebook *book, int columns, tile_codes *c) {                                \
    round_block(TYPE, t, columns, *units, u, stride, book, c);                                     \
  }
#define EVERY(ONE)                                                                                 \
  ONE(Q4_0) ONE(Q4_1) ONE(Q5_0) ONE(Q5_1) ONE(Q8_0) ONE(Q2_K) ONE(Q3_K) ONE(Q4_K) ONE(Q5_K)        \
  ONE(Q6_K) ONE(IQ4_NL) ONE(IQ4_XS) ONE(TQ1_0) ONE(TQ2_0) ONE(MXFP4) ONE(NVFP4) ONE(Q1_0)          \
  ONE(Q2_0) ONE(IQ1_S) ONE(IQ1_M) ONE(IQ2_XXS) ONE(IQ2_XS) ONE(IQ2_S) ONE(IQ3_XXS) ONE(IQ3_S)
EVERY(ROUND)
#undef ROUND

static void round_tile(uint32_t type, tile_block *t, const units *units, const float *u,
                       size_t stride, const kernel_gguf_codebook *book, int columns,
                       tile_codes *c) {
  switch (type) {
#define CASE(TYPE) case TYPE: round_##TYPE(t, units, u, stride, book, columns, c); break;
    EVERY(CASE)
#undef CASE
  }
}

// Passes over a block: scales fitted to the targets of the pass before. On layers of language models the second takes 8 to
// 40 % of the error away, the third and the fourth 2 to 10 % each.
enum { PASSES = 4 };

void LEVEL(kernel_gguf_feedback)(const kernel_gguf_panel *job) {
  tile_block block;
  lanes original[256], importance[256], errors[256];
  tile_codes codes[PASSES];
  kernel_gguf_codes row;
  const size_t width = job->block_columns;
  memset(codes, 0, sizeof codes);
  for (size_t start = 0; start < job->columns; start += width) {
    const float *u = job->u + start * job->u_stride + start;
    units unit;
    lanes largest = 0.0f;
    for (size_t j = 0; j < width; ++j) {
      for (size_t r = 0; r < LANES; ++r)
        original[j][r] = job->w[(start + j) * job->stride + (r < job->rows ? r : 0)];
      largest = higher(SIZE_OF(original[j]), largest);
    }
    for (size_t r = 0; r < LANES; ++r) unit.unit[r] = unit_of(largest[r]);
    unit.inverse = 1.0f / unit.unit;
    // What an error costs after the later columns have done what they can: 1 / U_jj^2.
    float least = __builtin_inff();
    for (size_t j = 0; j < width; ++j) {
      const float diagonal = u[j * job->u_stride + j];
      least = diagonal < least ? diagonal : least;
    }
    for (size_t j = 0; j < width; ++j) {
      const float weight = least / u[j * job->u_stride + j], square = weight * weight;
      importance[j] = square > 0x1p-40f ? square : 0x1p-40f;
      original[j] *= unit.inverse;
    }
    lanes loss = __builtin_inff();
    ints chosen = 0;
    for (int pass = 0; pass < PASSES; ++pass) {
      memcpy(block.y, original, width * sizeof(lanes));
      fit(job->type, pass == 0 ? original : block.target, importance, &unit, job->codebook,
          &codes[pass]);
      round_tile(job->type, &block, &unit, u, job->u_stride, job->codebook, (int)width,
                 &codes[pass]);
      const ints better = block.loss < loss;
      chosen = SELECT(better, (ints)pass, chosen);
      loss = SELECT(better, block.loss, loss);
      for (size_t j = 0; j < width; ++j) errors[j] = SELECT(better, block.error[j], errors[j]);
    }
    for (size_t r = 0; r < job->rows; ++r) {
      take_row(&codes[chosen[r]], (int)r, width, &row);
      kernel_gguf_pack(job->type, &row,
                       job->out + r * job->out_stride + start / width * job->block_bytes);
    }
    for (size_t j = 0; j < width; ++j) {
      const lanes error = errors[j] * unit.unit;
      for (size_t r = 0; r < job->rows; ++r)
        job->errors[(start + j) * job->stride + r] = error[r];
      for (size_t k = width; k < job->columns - start; ++k)
        for (size_t r = 0; r < job->rows; ++r)
          job->w[(start + k) * job->stride + r] -= error[r] * u[j * job->u_stride + k];
    }
  }
}
