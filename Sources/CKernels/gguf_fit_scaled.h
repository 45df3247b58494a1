// Formats of one scale times a level: value = scale * level, for a sub-block of columns of 16 rows.
//
// Search   For a set of steps between levels, round all columns, then take the scale that fits the rounded levels
//          best in the weighted least-squares sense; keep the best, repeat from it. The levels of a format need not
//          lie symmetrically, so both signs of the scale are tried.

#include "gguf_lanes.h"

// What the levels are: whole numbers low...high, or a table.
typedef struct {
  int table; // 0: whole numbers; IQ4_NL; MXFP4; Q1_0 (signs only)
  float low, high, origin; // the least and the greatest level; the level of code 0
} levelset;

ALWAYS levelset levels_for(uint32_t type) {
  switch (type) {
  case Q4_0: return (levelset){0, -8, 7, -8};
  case Q5_0: return (levelset){0, -16, 15, -16};
  case Q8_0: return (levelset){0, -127, 127, 0}; // -128 is left out: other engines' kernels take |level|
  case Q3_K: return (levelset){0, -4, 3, -4};
  case Q6_K: return (levelset){0, -32, 31, -32};
  case Q2_0: return (levelset){0, -1, 2, -1};
  case TQ1_0:
  case TQ2_0: return (levelset){0, -1, 1, -1};
  case Q1_0: return (levelset){Q1_0, -1, 1, 0};
  case IQ4_NL:
  case IQ4_XS: return (levelset){IQ4_NL, -127, 113, 0};
  default: return (levelset){MXFP4, -12, 12, 0};
  }
}

// The level nearest to t. Table levels are sums of the gaps below t.
ALWAYS lanes level_near(lanes t, levelset set) {
  if (set.table == 0) return nearest(lower(higher(t, (lanes)set.low), (lanes)set.high));
  const lanes zero = 0.0f;
  if (set.table == Q1_0) return SELECT(t < zero, (lanes)-1.0f, (lanes)1.0f);
  if (set.table == IQ4_NL) {
    const int8_t level[16] = LEVELS_IQ4;
    lanes sum = (float)level[0];
    for (int k = 1; k < 16; ++k) {
      const float middle = 0.5f * (float)(level[k] + level[k - 1]);
      sum += SELECT(t > middle, (lanes)(float)(level[k] - level[k - 1]), zero);
    }
    return sum;
  }
  const int8_t level[16] = LEVELS_FP4;
  lanes sum = zero, size = SIZE_OF(t);
  for (int k = 1; k < 8; ++k) {
    const float middle = 0.5f * (float)(level[k] + level[k - 1]);
    sum += SELECT(size > middle, (lanes)(float)(level[k] - level[k - 1]), zero);
  }
  return SELECT(t < zero, -sum, sum);
}

// The code of a level.
ALWAYS ints code_of_level(lanes level, levelset set) {
  if (set.table == 0) return __builtin_convertvector(level - set.origin, ints);
  if (set.table == Q1_0) return SELECT(level > (lanes)0.0f, (ints)1, (ints)0);
  ints code = 0;
  if (set.table == IQ4_NL) {
    const int8_t table[16] = LEVELS_IQ4;
    for (int k = 1; k < 16; ++k) code -= level >= (lanes)(float)table[k]; // a mask is -1
    return code;
  }
  const int8_t table[16] = LEVELS_FP4;
  lanes size = SIZE_OF(level);
  for (int k = 1; k < 8; ++k) code -= size >= (lanes)(float)table[k];
  return code + SELECT(level < (lanes)0.0f, (ints)8, (ints)0);
}

// Sums over a sub-block after rounding with a scale.
typedef struct {
  lanes xl, ll; // sum of w x l, sum of w l l
} moments;

ALWAYS moments moments_at(const lanes *x, const lanes *w, int n, lanes inverse, levelset set) {
  moments m = {0.0f, 0.0f};
  for (int i = 0; i < n; ++i) {
    lanes level = level_near(x[i] * inverse, set);
    lanes weighted = w[i] * level;
    m.xl += weighted * x[i];
    m.ll += weighted * level;
  }
  return m;
}

// Sum of w (x - scale l)^2 for the levels nearest at this scale.
ALWAYS lanes error_at(const lanes *x, const lanes *w, int n, lanes scale, levelset set) {
  lanes sum = 0.0f, inverse = inverse_of(scale);
  for (int i = 0; i < n; ++i) {
    lanes error = x[i] - scale * level_near(x[i] * inverse, set);
    sum += w[i] * (error * error);
  }
  return sum;
}

// The best scale found and what it gains: the error is sum w x^2 - gain.
typedef struct {
  lanes scale, gain, ll;
} scaled;

ALWAYS void keep_better(scaled *best, moments m) {
  lanes scale = quotient(m.xl, m.ll), gain = scale * m.xl;
  ints better = gain > best->gain;
  best->scale = SELECT(better, scale, best->scale);
  best->ll = SELECT(better, m.ll, best->ll);
  best->gain = SELECT(better, gain, best->gain);
}

// How steps are tried: the largest element comes to lie `reach`, `reach + spacing` ... levels from zero. Beyond
// the outermost level means that it is clipped.
typedef struct {
  float below, spacing; // reach of the first trial, below the outermost level; between trials
  int trials, refinements;
} scan;

// Ranges and spacings by measurement on weights of language models: wider or denser gains less than 0.1 % of error.
ALWAYS scan scan_for(uint32_t type) {
  switch (type) {
  case Q1_0: return (scan){0, 0, 1, 0};
  case TQ1_0:
  case TQ2_0: return (scan){0.4f, 0.25f, 28, 4};
  case Q2_0: return (scan){0.4f, 0.15f, 28, 3};
  case Q8_0: return (scan){0.4f, 0.1f, 8, 1};
  case IQ4_NL:
  case IQ4_XS: return (scan){16, 2.5f, 20, 2};
  case MXFP4:
  case NVFP4: return (scan){4, 0.5f, 20, 2};
  default: return (scan){1.2f, 0.12f, 24, 2};
  }
}

ALWAYS scaled best_scale(const lanes *x, const lanes *w, int n, levelset set, scan how) {
  const int sides = set.low == -set.high ? 1 : 2;
  lanes largest = x[0];
  for (int i = 1; i < n; ++i)
    largest = SELECT(SIZE_OF(x[i]) > SIZE_OF(largest), x[i], largest);
  // Where the levels are symmetric, so is the error, and scales are kept positive.
  lanes reciprocal = inverse_of(sides == 1 ? SIZE_OF(largest) : largest);
  scaled best = {0.0f, 0.0f, 0.0f};
  for (int side = 0; side < sides; ++side) {
    const float outermost = side == 0 ? set.high : -set.low;
    for (int t = 0; t < how.trials; ++t) {
      const float reach = outermost - how.below + how.spacing * (float)t;
      keep_better(&best, moments_at(x, w, n, reciprocal * (side == 0 ? reach : -reach), set));
    }
  }
  for (int t = 0; t < how.refinements; ++t)
    keep_better(&best, moments_at(x, w, n, inverse_of(best.scale), set));
  return best;
}

// Codes of a sub-block at its stored scale, [n][16].
ALWAYS void codes_at(const lanes *x, int n, lanes scale, levelset set, uint8_t (*code)[LANES]) {
  lanes inverse = inverse_of(scale);
  for (int i = 0; i < n; ++i) {
    ints c = code_of_level(level_near(x[i] * inverse, set), set);
    for (int r = 0; r < LANES; ++r) code[i][r] = (uint8_t)c[r];
  }
}

// One half for the whole block.
ALWAYS void fit_single(uint32_t type, const lanes *x, const lanes *w, int n, units u, tile_codes *out) {
  const levelset set = levels_for(type);
  scaled best = best_scale(x, w, n, set, scan_for(type));
  lanes d = as_half(best.scale, u);
  // Once more with the half that is stored: its own rounding moves the best levels and they the best half.
  moments m = moments_at(x, w, n, inverse_of(d), set);
  lanes other = as_half(quotient(m.xl, m.ll), u);
  ints better = error_at(x, w, n, other, set) < error_at(x, w, n, d, set);
  d = SELECT(better, other, d);
  out->d = half_bits(d * u.unit);
  codes_at(x, n, d, set, out->level);
}

// Sub-blocks whose scales are whole multiples low...high of one half d.
ALWAYS void fit_scaled_blocks(uint32_t type, const lanes *x, const lanes *w, int n, int blocks,
                              float low, float high, units u, tile_codes *out) {
  const levelset set = levels_for(type);
  lanes scale[16], weight[16], multiple[16], largest = 0.0f;
  for (int b = 0; b < blocks; ++b) {
    scaled best = best_scale(x + n * b, w + n * b, n, set, scan_for(type));
    scale[b] = best.scale;
    weight[b] = best.ll;
    largest = SELECT(SIZE_OF(scale[b]) > SIZE_OF(largest), scale[b], largest);
  }
  // d: multiples of it are to be near the sub-blocks' scales, an error of a scale weighing its sum w l^2.
  const levelset whole = {0, low, high, 0};
  lanes reciprocal = inverse_of(largest);
  scaled best = {0.0f, 0.0f, 0.0f};
  for (int t = 0; t < 16; ++t)
    keep_better(&best, moments_at(scale, weight, blocks, reciprocal * (low - 0.25f * (float)(t - 3)), whole));
  lanes d = as_half(best.scale, u), kept = d, total = 0.0f;
  for (int pass = 0; pass < 3; ++pass) {
    // The multiples with the least true error, given d; then d for the levels and multiples as they are.
    lanes inverse = inverse_of(d), xl = 0.0f, ll = 0.0f, error = 0.0f;
    lanes chosen[16];
    for (int b = 0; b < blocks; ++b) {
      lanes centre = pass == 0 ? nearest(lower(higher(scale[b] * inverse, (lanes)low), (lanes)high)) : multiple[b];
      lanes least = __builtin_inff();
      for (int j = -1; j <= 1; ++j) {
        lanes candidate = lower(higher(centre + (float)j, (lanes)low), (lanes)high);
        lanes e = error_at(x + n * b, w + n * b, n, d * candidate, set);
        chosen[b] = SELECT(e < least, candidate, chosen[b]);
        least = SELECT(e < least, e, least);
      }
      error += least;
      moments m = moments_at(x + n * b, w + n * b, n, inverse_of(d * chosen[b]), set);
      xl += chosen[b] * m.xl;
      ll += chosen[b] * chosen[b] * m.ll;
    }
    ints better = pass == 0 ? (ints)-1 : error < total;
    total = SELECT(better, error, total);
    for (int b = 0; b < blocks; ++b) multiple[b] = SELECT(better, chosen[b], multiple[b]);
    kept = SELECT(better, d, kept);
    d = as_half(quotient(xl, ll), u);
  }
  d = kept;
  out->d = half_bits(d * u.unit);
  for (int b = 0; b < blocks; ++b) {
    out->scale[b] = __builtin_convertvector(multiple[b], ints);
    codes_at(x + n * b, n, d * multiple[b], set, out->level + n * b);
  }
}

// The code of the scale at or below `value`, in float bits: MXFP4's exponent, NVFP4's E4M3.
ALWAYS int float4_code(uint32_t type, float value) {
  const int bits = (int)gguf_bits_of(value);
  if (type == MXFP4) return (bits >> 23) + 1;
  if (value < 0x1p-7f) return (int)(value * 0x1p10f);
  return (bits >> 20) - ((127 - 8) << 3);
}

// MXFP4: the scale is a power of two. NVFP4: a byte of E4M3, never negative.
ALWAYS void fit_float4(uint32_t type, const lanes *x, const lanes *w, units u, tile_codes *out) {
  const levelset set = levels_for(type);
  const int n = type == MXFP4 ? 32 : 16, blocks = type == MXFP4 ? 1 : 4;
  const int reach = type == MXFP4 ? 1 : 3;
  for (int b = 0; b < blocks; ++b) {
    scaled best = best_scale(x + n * b, w + n * b, n, set, scan_for(type));
    ints centre = 0, chosen = 0;
    lanes least = __builtin_inff();
    for (int r = 0; r < LANES; ++r) centre[r] = float4_code(type, best.scale[r] * u.unit[r]);
    for (int j = -reach; j <= reach; ++j) {
      ints code = centre + j;
      lanes scale;
      for (int r = 0; r < LANES; ++r) {
        int top = type == MXFP4 ? 252 : 126; // 12 * 2^(252 - 128) is finite
        code[r] = code[r] < 0 ? 0 : code[r] > top ? top : code[r];
        scale[r] = type == MXFP4 ? gguf_e8m0((uint8_t)code[r]) : gguf_e4m3((uint8_t)code[r]);
      }
      lanes e = error_at(x + n * b, w + n * b, n, scale * u.inverse, set);
      chosen = SELECT(e < least, code, chosen);
      least = SELECT(e < least, e, least);
    }
    lanes scale;
    for (int r = 0; r < LANES; ++r)
      scale[r] = type == MXFP4 ? gguf_e8m0((uint8_t)chosen[r]) : gguf_e4m3((uint8_t)chosen[r]);
    if (type == MXFP4) out->d = chosen;
    else out->scale[b] = chosen;
    codes_at(x + n * b, n, scale * u.inverse, set, out->level + n * b);
  }
}
