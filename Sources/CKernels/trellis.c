// Trellis-coded quantization with eight states: Sources/Encodings/EntropyCoded/Trellis.swift has the machine.

#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

enum { STATES = 8, SEGMENT = 128 };

// Bytes first, 16-bit places second: each loop fills whole registers.
PER_CPU static void follow(uint8_t *restrict states, const uint16_t *restrict columns, uint16_t odd,
                           uint16_t *restrict next, int8_t *restrict codes, size_t n) {
  for (size_t c = 0; c < n; ++c) {
    uint8_t state = states[c], k = (uint8_t)codes[c];
    codes[c] = (int8_t)(uint8_t)(2 * k - (state >> 1 & 1));
    states[c] = (uint8_t)(state >> 1 | ((k ^ state ^ state >> 2) & 1) << 2);
  }
  // The next state's bit 1.
  for (size_t c = 0; c < n; ++c)
    next[c] = (uint16_t)(columns[c] + (uint16_t)((0 - (states[c] >> 1 & 1)) & odd));
}

void kernel_trellis_follow(uint8_t *states, const uint16_t *columns, uint16_t odd, uint16_t *next,
                           int8_t *codes, size_t n, const uint32_t *places, int32_t *values,
                           size_t exceptions) {
  for (size_t e = 0; e < exceptions; ++e) {
    uint32_t k = (uint32_t)values[e], state = states[places[e]];
    values[e] = (int32_t)(2 * k - (state >> 1 & 1));
    // The step below needs its parity.
    codes[places[e]] = (int8_t)(k & 1);
  }
  follow(states, columns, odd, next, codes, n);
  for (size_t e = 0; e < exceptions; ++e) codes[places[e]] = 0;
}

#pragma clang fp contract(off)

typedef float floats __attribute__((ext_vector_type(STATES)));
typedef int32_t ints __attribute__((ext_vector_type(STATES)));
typedef float quad __attribute__((ext_vector_type(4)));

// The point of 4 Z + rest nearest to u; below 2^22 the sum with magic rounds to nearest even.
static inline float nearest(float u, float rest) {
  const float magic = 0x1.8p23f;
  return (((u - rest) * 0.25f + magic) - magic) * 4 + rest;
}

static inline float bounded(float u) {
  const float limit = 0x1p22f - 8;
  u = u < -limit ? -limit : u;
  return u > limit ? limit : u;
}

// v mod 4 of a code by quantizer (bit 1) and parity of k (bit 0).
static const uint8_t rests[4] = {0, 2, 3, 1};

PER_CPU void kernel_trellis_round(const float *x, float step, float inverse, float divisor,
                                  int32_t *codes, float *errors, size_t n) {
  float costs[SEGMENT][4], rest[SEGMENT];
  int32_t decisions[SEGMENT][STATES];
  n = n < SEGMENT ? n : SEGMENT;
  for (size_t i = 0; i < n; ++i) {
    float u = bounded(x[i] * inverse);
    for (int j = 0; j < 4; ++j) {
      float d = u - nearest(u, (float)j);
      costs[i][j] = d * d;
    }
  }
  floats sum = {0, 0x1p20f, 0x1p20f, 0x1p20f, 0x1p20f, 0x1p20f, 0x1p20f, 0x1p20f};
  for (size_t i = 0; i < n; ++i) {
    quad own;
    memcpy(&own, costs[i], sizeof own);
    // State s follows 2 (s & 3) and 2 (s & 3) + 1; the two take the two parities.
    floats even = __builtin_shufflevector(sum, sum, 0, 2, 4, 6, 0, 2, 4, 6) +
                  __builtin_shufflevector(own, own, 0, 3, 2, 1, 2, 1, 0, 3);
    floats odd = __builtin_shufflevector(sum, sum, 1, 3, 5, 7, 1, 3, 5, 7) +
                 __builtin_shufflevector(own, own, 2, 1, 0, 3, 0, 3, 2, 1);
    ints takes = odd < even;
    sum = __builtin_elementwise_min(odd, even);
    memcpy(decisions[i], &takes, sizeof takes);
  }
  uint32_t state = 0;
  for (uint32_t s = 1; s < STATES; ++s) state = sum[s] < sum[state] ? s : state;
  for (size_t i = n; i-- > 0;) {
    uint32_t before = (state & 3) << 1 | (uint32_t)(decisions[i][state] & 1);
    uint32_t parity = (state >> 2 ^ before ^ before >> 2) & 1;
    rest[i] = rests[(before & 2) | parity];
    state = before;
  }
  for (size_t i = 0; i < n; ++i) {
    float v = nearest(bounded(x[i] * inverse), rest[i]);
    codes[i] = (int32_t)v;
    errors[i] = (x[i] - v * step) * divisor;
  }
}

// What a survivor's rows from `first` on aim at once this row's error is passed on.
static inline void pass_on(const float *restrict from, const float *restrict shares, float error,
                           float *restrict to, size_t first, size_t n) {
  for (size_t r = first; r < n; ++r) to[r] = from[r] - error * shares[r];
}

// Per-survivor processing: Raheli, Polydoros, Tzou, IEEE Trans. Commun. 43 (1995).
PER_CPU void kernel_trellis_round_passing(const float *x, const float *steps, const float *shares,
                                          float divisor, int32_t *codes, float *errors, size_t n) {
  float buffers[2][STATES * SEGMENT];
  float sums[STATES], points[SEGMENT][STATES];
  uint8_t decisions[SEGMENT][STATES];
  n = n < SEGMENT ? n : SEGMENT;
  // What each survivor aims at, now and after the next row.
  float *now = buffers[0], *then = buffers[1];
  for (size_t s = 0; s < STATES; ++s) {
    memcpy(now + SEGMENT * s, x, n * sizeof *x);
    sums[s] = s == 0 ? 0 : 0x1p20f;
  }
  for (size_t i = 0; i < n; ++i) {
    float next[STATES], taken[STATES];
    const float own = steps[i], inverse = 1 / own;
    for (uint32_t s = 0; s < STATES; ++s) {
      float least = 0, point = 0;
      uint32_t choice = 0;
      for (uint32_t b = 0; b < 2; ++b) {
        uint32_t before = (s & 3) << 1 | b;
        uint32_t parity = (s >> 2 ^ before ^ before >> 2) & 1;
        float u = bounded(now[SEGMENT * before + i] * inverse);
        float v = nearest(u, rests[(before & 2) | parity]);
        float sum = sums[before] + (u - v) * (u - v);
        if (b == 1 && sum >= least) continue;
        least = sum;
        point = v;
        choice = b;
      }
      next[s] = least;
      points[i][s] = point;
      decisions[i][s] = (uint8_t)choice;
      uint32_t before = (s & 3) << 1 | choice;
      taken[s] = now[SEGMENT * before + i] - point * own;
    }
    for (uint32_t s = 0; s < STATES; ++s) {
      uint32_t before = (s & 3) << 1 | decisions[i][s];
      pass_on(now + SEGMENT * before, shares + n * i, taken[s], then + SEGMENT * s, i + 1, n);
    }
    memcpy(sums, next, sizeof sums);
    float *swap = now;
    now = then;
    then = swap;
  }
  uint32_t state = 0;
  for (uint32_t s = 1; s < STATES; ++s) state = sums[s] < sums[state] ? s : state;
  for (size_t i = n; i-- > 0;) {
    float v = points[i][state];
    codes[i] = (int32_t)v;
    errors[i] = (x[i] - v * steps[i]) * divisor;
    state = (state & 3) << 1 | decisions[i][state];
  }
}
