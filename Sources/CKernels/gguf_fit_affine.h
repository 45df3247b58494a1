// Formats of a scale and an offset: value = scale * code - minimum, codes 0...top.
//
// Search   As for one scale (gguf_fit_scaled.h): steps are tried, all columns are rounded, then scale and minimum are
//          the weighted least-squares fit to the codes, in closed form. K formats store minima that are not negative.

#include "gguf_lanes.h"

// Weighted sums over a sub-block: of 1, x, x^2 once; of codes for each trial.
typedef struct {
  lanes w, x;
} fixed_sums;
typedef struct {
  lanes l, ll, xl;
} code_sums;
// value = scale * code - minimum, and sum w x^2 less the error.
typedef struct {
  lanes scale, minimum, gain;
} affine;

ALWAYS lanes code_near(lanes x, lanes minimum, lanes inverse, float top) {
  return nearest(lower(higher((x + minimum) * inverse, (lanes)0.0f), (lanes)top));
}

ALWAYS code_sums code_sums_at(const lanes *x, const lanes *w, int n, lanes minimum, lanes inverse,
                              float top) {
  code_sums s = {0.0f, 0.0f, 0.0f};
  for (int i = 0; i < n; ++i) {
    lanes code = code_near(x[i], minimum, inverse, top), weighted = w[i] * code;
    s.l += weighted;
    s.ll += weighted * code;
    s.xl += weighted * x[i];
  }
  return s;
}

ALWAYS lanes affine_error(const lanes *x, const lanes *w, int n, lanes scale, lanes minimum,
                          float top) {
  lanes sum = 0.0f, inverse = inverse_of(scale);
  for (int i = 0; i < n; ++i) {
    lanes error = x[i] - (scale * code_near(x[i], minimum, inverse, top) - minimum);
    sum += w[i] * (error * error);
  }
  return sum;
}

// The best scale and minimum for given codes; `positive`: minima below 0 become 0.
ALWAYS affine solve(fixed_sums f, code_sums s, int positive) {
  const lanes zero = 0.0f;
  // Codes that are all alike say nothing about scale and minimum apart: rounding leaves up to n ulps of noise.
  lanes determinant = f.w * s.ll - s.l * s.l;
  determinant = SELECT(determinant > 4e-6f * f.w * s.ll, determinant, zero);
  affine a;
  a.scale = quotient(f.w * s.xl - f.x * s.l, determinant);
  a.minimum = quotient(s.l * s.xl - s.ll * f.x, determinant);
  if (positive) {
    ints below = (a.minimum < zero) | (determinant == zero);
    a.scale = SELECT(below, quotient(s.xl, s.ll), a.scale);
    a.minimum = SELECT(below, zero, a.minimum);
  }
  // At the optimum the error is sum w x^2 less the projection on the codes and the constant.
  a.gain = a.scale * s.xl - a.minimum * f.x;
  return a;
}

ALWAYS fixed_sums fixed_sums_of(const lanes *x, const lanes *w, int n) {
  fixed_sums f = {0.0f, 0.0f};
  for (int i = 0; i < n; ++i) {
    f.w += w[i];
    f.x += w[i] * x[i];
  }
  return f;
}

ALWAYS affine best_affine(const lanes *x, const lanes *w, int n, fixed_sums f, float top, int trials,
                          float below, float spacing, int positive) {
  lanes low = x[0], high = x[0];
  for (int i = 1; i < n; ++i) {
    low = lower(low, x[i]);
    high = higher(high, x[i]);
  }
  if (positive) low = lower(low, (lanes)0.0f);
  lanes reciprocal = inverse_of(high - low);
  // A constant is its own minimum, or codes of 1 where the minimum cannot be negative.
  affine best = {0.0f, positive ? -low : quotient(-f.x, f.w), 0.0f};
  best.gain = SELECT(best.minimum == (lanes)0.0f, best.minimum,
                     best.minimum * (-2.0f * f.x - best.minimum * f.w));
  for (int t = 0; t < trials; ++t) {
    lanes inverse = reciprocal * (top - below + spacing * (float)t), minimum = -low;
    for (int again = 0; again < 2; ++again) {
      affine a = solve(f, code_sums_at(x, w, n, minimum, inverse, top), positive);
      ints better = a.gain > best.gain;
      best.scale = SELECT(better, a.scale, best.scale);
      best.minimum = SELECT(better, a.minimum, best.minimum);
      best.gain = SELECT(better, a.gain, best.gain);
      minimum = a.minimum;
      inverse = inverse_of(a.scale);
    }
  }
  return best;
}

ALWAYS void affine_codes(const lanes *x, int n, lanes scale, lanes minimum, float top,
                         uint8_t (*code)[LANES]) {
  lanes inverse = inverse_of(scale);
  for (int i = 0; i < n; ++i) {
    ints c = __builtin_convertvector(code_near(x[i], minimum, inverse, top), ints);
    for (int r = 0; r < LANES; ++r) code[i][r] = (uint8_t)c[r];
  }
}

// Q4_1, Q5_1: two halves for 32 columns.
ALWAYS void fit_affine_single(const lanes *x, const lanes *w, float top, units u, tile_codes *out) {
  fixed_sums f = fixed_sums_of(x, w, 32);
  affine best = best_affine(x, w, 32, f, top, 24, 0.9f, 0.12f, 0);
  lanes scale = as_half(best.scale, u), minimum = as_half(best.minimum, u);
  lanes least = affine_error(x, w, 32, scale, minimum, top);
  for (int pass = 0; pass < 2; ++pass) {
    affine a = solve(f, code_sums_at(x, w, 32, minimum, inverse_of(scale), top), 0);
    a.scale = as_half(a.scale, u);
    a.minimum = as_half(a.minimum, u);
    lanes error = affine_error(x, w, 32, a.scale, a.minimum, top);
    ints better = error < least;
    scale = SELECT(better, a.scale, scale);
    minimum = SELECT(better, a.minimum, minimum);
    least = SELECT(better, error, least);
  }
  out->d = half_bits(scale * u.unit);
  out->minimum_d = half_bits(-minimum * u.unit);
  affine_codes(x, 32, scale, minimum, top, out->level);
}

// The half d of which whole multiples 0...top come nearest to `values`, each weighing its weight.
ALWAYS lanes common_step(const lanes *values, const lanes *weights, int count, float top, units u) {
  lanes largest = 0.0f, best = 0.0f, best_gain = 0.0f;
  for (int b = 0; b < count; ++b) largest = higher(largest, values[b]);
  lanes reciprocal = inverse_of(largest);
  for (int t = 0; t < 20; ++t) {
    lanes inverse = reciprocal * (top - 0.5f + 0.1f * (float)t), xl = 0.0f, ll = 0.0f;
    for (int b = 0; b < count; ++b) {
      lanes code = nearest(lower(higher(values[b] * inverse, (lanes)0.0f), (lanes)top));
      xl += weights[b] * code * values[b];
      ll += weights[b] * code * code;
    }
    lanes d = quotient(xl, ll);
    ints better = d * xl > best_gain;
    best = SELECT(better, d, best);
    best_gain = SELECT(better, d * xl, best_gain);
  }
  return as_half(best, u);
}

ALWAYS lanes whole(lanes x, float top) {
  return nearest(lower(higher(x, (lanes)0.0f), (lanes)top));
}

// Q2_K, Q4_K, Q5_K: sub-blocks of n columns whose scales and minima are whole multiples 0...most of two halves.
ALWAYS void fit_affine_blocks(const lanes *x, const lanes *w, int n, float top, float most, units u,
                              tile_codes *out) {
  const int blocks = 256 / n;
  const lanes zero = 0.0f;
  fixed_sums f[16];
  affine best[16];
  lanes scale[16], minimum[16], scale_weight[16], minimum_weight[16];
  for (int b = 0; b < blocks; ++b) {
    const lanes *xb = x + n * b, *wb = w + n * b;
    f[b] = fixed_sums_of(xb, wb, n);
    best[b] = best_affine(xb, wb, n, f[b], top, 20, 0.9f, 0.12f, 1);
    code_sums s = code_sums_at(xb, wb, n, best[b].minimum, inverse_of(best[b].scale), top);
    scale[b] = best[b].scale;
    minimum[b] = best[b].minimum;
    // What a wrong scale costs: the minimum follows it, unless it is stuck at 0.
    lanes following = s.ll - quotient(s.l * s.l, f[b].w);
    scale_weight[b] = SELECT(best[b].minimum > zero, following, s.ll);
    minimum_weight[b] = f[b].w;
  }
  lanes d = common_step(scale, scale_weight, blocks, most, u);
  lanes m = common_step(minimum, minimum_weight, blocks, most, u);
  lanes kept_d = d, kept_m = m, total = 0.0f;
  lanes kept_scale[16], kept_minimum[16], chosen_scale[16], chosen_minimum[16];
  for (int pass = 0; pass < 3; ++pass) {
    lanes inverse_d = inverse_of(d), inverse_m = inverse_of(m), error = zero;
    lanes aa = zero, ab = zero, bb = zero, xa = zero, xb = zero; // normal equations of d and m
    for (int b = 0; b < blocks; ++b) {
      const lanes *xs = x + n * b, *ws = w + n * b;
      lanes centre = pass == 0 ? whole(scale[b] * inverse_d, most) : kept_scale[b];
      lanes near = pass == 0 ? minimum[b] : kept_m * kept_minimum[b];
      lanes least = __builtin_inff();
      for (int j = -1; j <= 1; ++j) {
        lanes multiple = whole(centre + (float)j, most), step = d * multiple;
        // The minimum that suits this step, then the multiples next to it.
        code_sums s = code_sums_at(xs, ws, n, near, inverse_of(step), top);
        lanes suited = whole(quotient(step * s.l - f[b].x, f[b].w) * inverse_m, most);
        for (int k = -1; k <= 1; ++k) {
          lanes other = whole(suited + (float)k, most);
          lanes e = affine_error(xs, ws, n, step, m * other, top);
          ints better = e < least;
          chosen_scale[b] = SELECT(better, multiple, chosen_scale[b]);
          chosen_minimum[b] = SELECT(better, other, chosen_minimum[b]);
          least = SELECT(better, e, least);
        }
      }
      error += least;
      lanes a = chosen_scale[b], c = chosen_minimum[b];
      code_sums s = code_sums_at(xs, ws, n, m * c, inverse_of(d * a), top);
      aa += a * a * s.ll;
      ab += a * c * s.l;
      bb += c * c * f[b].w;
      xa += a * s.xl;
      xb += c * f[b].x;
    }
    ints better = pass == 0 ? (ints)-1 : error < total;
    total = SELECT(better, error, total);
    kept_d = SELECT(better, d, kept_d);
    kept_m = SELECT(better, m, kept_m);
    for (int b = 0; b < blocks; ++b) {
      kept_scale[b] = SELECT(better, chosen_scale[b], kept_scale[b]);
      kept_minimum[b] = SELECT(better, chosen_minimum[b], kept_minimum[b]);
    }
    // x ~ d A - m B: both halves at once, or d alone where all minima are 0.
    lanes determinant = aa * bb - ab * ab;
    ints both = determinant > zero;
    d = as_half(SELECT(both, quotient(xa * bb - xb * ab, determinant), quotient(xa, aa)), u);
    m = as_half(SELECT(both, quotient(xa * ab - xb * aa, determinant), zero), u);
    d = higher(d, zero);
    m = higher(m, zero);
  }
  out->d = half_bits(kept_d * u.unit);
  out->minimum_d = half_bits(kept_m * u.unit);
  for (int b = 0; b < blocks; ++b) {
    out->scale[b] = __builtin_convertvector(kept_scale[b], ints);
    out->minimum[b] = __builtin_convertvector(kept_minimum[b], ints);
    affine_codes(x + n * b, n, kept_d * kept_scale[b], kept_m * kept_minimum[b], top, out->level + n * b);
  }
}
