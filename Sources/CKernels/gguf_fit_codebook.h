// Formats of groups: the magnitudes (IQ1: the values) of 8 or 4 columns are one point of a codebook.
//
// Search   For a scale s, a point's error is sum w x^2 - 2 s score, score = sum w x v - s/2 sum w v^2. Each half of a group
//          has few combinations of levels (81 or 64), whose scores are tabled; then every point of the codebook is
//          tried: one comparison each, as points come sorted by their second half. Where the signs of 8 columns must be even in number and are not, the best point
//          with one sign turned is found in the same way, by tables that hold the cheapest turn.
// Differs  from llama.cpp, which rounds first and then looks among the neighbours of what is no point

#include "gguf_lanes.h"

// What a format is made of.
typedef struct {
  int columns, blocks;   // of a sub-block; sub-blocks
  int width;             // columns of a group
  int even;              // signs of 8 columns are even in number
  int shifted;           // IQ1: columns that share a shift, else 0
  float levels[8];
  float factor, most;    // step = d * factor * (multiple + 1/2), multiple 0...most
  float spread;          // the usual best step, in standard deviations
  int trials;
} bookshape;

ALWAYS bookshape bookshape_for(uint32_t type) {
  switch (type) {
  case IQ2_XXS: return (bookshape){32, 8, 8, 1, 0, {8, 25, 43}, 0.25f, 15, 0.046f, 6};
  case IQ2_XS: return (bookshape){16, 16, 8, 1, 0, {8, 25, 43}, 0.25f, 15, 0.046f, 6};
  case IQ2_S: return (bookshape){16, 16, 8, 0, 0, {8, 25, 43}, 0.25f, 15, 0.044f, 6};
  case IQ3_XXS:
    return (bookshape){32, 8, 4, 1, 0, {4, 12, 20, 28, 36, 44, 52, 62}, 0.5f, 15, 0.046f, 6};
  case IQ3_S:
    return (bookshape){32, 8, 4, 0, 0, {1, 3, 5, 7, 9, 11, 13, 15}, 2, 15, 0.18f, 6};
  case IQ1_S: return (bookshape){32, 8, 8, 0, 32, {-8, 0, 8}, 0.25f, 7, 0.15f, 5};
  default: return (bookshape){16, 16, 8, 0, 8, {-8, 0, 8}, 0.25f, 7, 0.15f, 5};
  }
}

// A sub-block, prepared: magnitudes (IQ1: values), times weights; which signs are odd in number.
typedef struct {
  lanes x[32], w[32], wx[32];
  ints odd[4];
  uint8_t sign[4][LANES];
} bookblock;

// Scores of the combinations of each half of a group, and with its cheapest sign turned.
typedef struct {
  lanes half[2][81], turned[2][81];
} booktables;

ALWAYS void prepare(const lanes *x, const lanes *w, bookshape s, bookblock *p) {
  for (int i = 0; i < s.columns; ++i) {
    p->x[i] = s.shifted ? x[i] : SIZE_OF(x[i]);
    p->w[i] = w[i];
    p->wx[i] = w[i] * p->x[i];
  }
  for (int g = 0; g < s.columns / 8 && !s.shifted; ++g) {
    ints bits = 0, odd = 0;
    for (int i = 0; i < 8; ++i) {
      ints negative = x[8 * g + i] < (lanes)0.0f;
      bits |= negative & (1 << i);
      odd ^= negative;
    }
    p->odd[g] = odd;
    for (int r = 0; r < LANES; ++r) p->sign[g][r] = (uint8_t)bits[r];
  }
}

// Tables of the group at `column` for a scale; `shift` is added to every level.
ALWAYS void fill_tables(const bookblock *p, int column, bookshape s, lanes scale, float shift,
                        booktables *t) {
  const lanes half = scale * 0.5f;
  const int each = s.width == 8 ? 3 : 8; // levels of a column
  for (int h = 0; h < 2; ++h) {
    const int first = column + h * s.width / 2;
    lanes score[4][8], cost[4][8];
    for (int i = 0; i < s.width / 2; ++i)
      for (int v = 0; v < each; ++v) {
        const float level = s.levels[v] + shift;
        lanes product = p->wx[first + i] * level;
        score[i][v] = product - half * (p->w[first + i] * (level * level));
        cost[i][v] = product;
      }
    if (s.width == 4) {
      for (int b = 0; b < 8; ++b)
        for (int a = 0; a < 8; ++a) {
          lanes sum = score[0][a] + score[1][b];
          t->half[h][8 * b + a] = sum;
          if (s.even) t->turned[h][8 * b + a] = sum - 2.0f * lower(cost[0][a], cost[1][b]);
        }
      continue;
    }
    lanes pair[2][9], least[2][9];
    for (int q = 0; q < 2; ++q)
      for (int b = 0; b < 3; ++b)
        for (int a = 0; a < 3; ++a) {
          pair[q][3 * b + a] = score[2 * q][a] + score[2 * q + 1][b];
          least[q][3 * b + a] = lower(cost[2 * q][a], cost[2 * q + 1][b]);
        }
    for (int b = 0; b < 9; ++b)
      for (int a = 0; a < 9; ++a) {
        lanes sum = pair[0][a] + pair[1][b];
        t->half[h][9 * b + a] = sum;
        if (s.even) t->turned[h][9 * b + a] = sum - 2.0f * lower(least[0][a], least[1][b]);
      }
  }
}

// For each second half, the best of the first halves that stand with it in the codebook; its scores.
typedef struct {
  lanes plain[81], turned[81];
} bookmaxima;

ALWAYS void fill_maxima(const booktables *t, const kernel_gguf_codebook *book, int even, bookmaxima *m) {
  for (size_t b = 0; b < book->seconds; ++b) {
    lanes plain = -__builtin_inff(), turned = plain;
    for (size_t k = book->starts[b]; k < book->starts[b + 1]; ++k) {
      plain = higher(plain, t->half[0][book->firsts[k]]);
      if (even) turned = higher(turned, t->turned[0][book->firsts[k]]);
    }
    m->plain[b] = plain;
    if (even) m->turned[b] = turned;
  }
}

// The best score of all points, and that of all points with one sign turned.
ALWAYS lanes best_score(const booktables *t, const bookmaxima *m, size_t seconds) {
  lanes best = -__builtin_inff();
  for (size_t b = 0; b < seconds; ++b) best = higher(best, m->plain[b] + t->half[1][b]);
  return best;
}

ALWAYS lanes best_turned(const booktables *t, const bookmaxima *m, size_t seconds) {
  lanes best = -__builtin_inff();
  for (size_t b = 0; b < seconds; ++b) {
    best = higher(best, m->turned[b] + t->half[1][b]);
    best = higher(best, m->plain[b] + t->turned[1][b]);
  }
  return best;
}

// The point behind best_score or best_turned.
ALWAYS ints best_point(const booktables *t, const bookmaxima *m, const kernel_gguf_codebook *book,
                       int turned) {
  lanes best = -__builtin_inff();
  ints second = 0, in_first = 0;
  for (size_t b = 0; b < book->seconds; ++b) {
    lanes one = (turned ? m->turned[b] : m->plain[b]) + t->half[1][b];
    lanes two = turned ? m->plain[b] + t->turned[1][b] : one, score = higher(one, two);
    ints better = score > best;
    second = SELECT(better, (ints)(int)b, second);
    in_first = SELECT(better, one >= two, in_first);
    best = higher(best, score);
  }
  ints point;
  for (int r = 0; r < LANES; ++r) {
    const int from_turned = turned && in_first[r];
    const lanes *table = from_turned ? t->turned[0] : t->half[0];
    const float wanted = (from_turned ? m->turned : m->plain)[second[r]][r];
    size_t k = book->starts[second[r]];
    const size_t last = book->starts[second[r] + 1] - 1;
    while (k < last && table[book->firsts[k]][r] != wanted) ++k;
    point[r] = (int)k;
  }
  return point;
}

// What the best codes of a sub-block gain at a scale: its error is sum w x^2 - gain.
ALWAYS lanes book_gain(const bookblock *p, bookshape s, const kernel_gguf_codebook *book, lanes scale) {
  booktables t;
  bookmaxima m;
  lanes total = 0.0f;
  if (s.shifted) {
    lanes sum[2] = {0.0f, 0.0f};
    for (int c = 0; c < s.columns; c += 8) {
      for (int down = 0; down < 2; ++down) {
        fill_tables(p, c, s, scale, down ? -1.0f : 1.0f, &t);
        fill_maxima(&t, book, 0, &m);
        lanes score = best_score(&t, &m, book->seconds);
        sum[down] = s.shifted == 8 ? score : sum[down] + score;
      }
      if (s.shifted == 8) total += higher(sum[0], sum[1]);
    }
    if (s.shifted != 8) total = higher(sum[0], sum[1]);
    return 2.0f * scale * total;
  }
  for (int c = 0; c < s.columns; c += 8) {
    lanes plain = 0.0f, turn = -__builtin_inff();
    for (int g = 0; g < 8; g += s.width) {
      fill_tables(p, c + g, s, scale, 0, &t);
      fill_maxima(&t, book, s.even, &m);
      lanes score = best_score(&t, &m, book->seconds);
      if (s.even) {
        lanes turned = best_turned(&t, &m, book->seconds);
        turn = g == 0 ? turned : higher(plain + turned, turn + score);
      }
      plain += score;
    }
    total += s.even ? SELECT(p->odd[c / 8], turn, plain) : plain;
  }
  return 2.0f * scale * total;
}

// The codes behind book_gain: points, signs, and the sums for the best scale of these codes.
typedef struct {
  lanes xl, ll;
} booksums;

ALWAYS void add_group(const bookblock *p, int column, bookshape s, const kernel_gguf_codebook *book,
                      ints point, ints turned, float shift_up, ints down, uint16_t *index,
                      uint8_t *sign, booksums *sums) {
  float level[8][LANES] __attribute__((aligned(64)));
  for (int r = 0; r < LANES; ++r) {
    const uint8_t *digits = book->digits + (size_t)s.width * (size_t)point[r];
    const float shift = down[r] ? -shift_up : shift_up;
    for (int i = 0; i < s.width; ++i) level[i][r] = s.levels[digits[i]] + shift;
    index[r] = (uint16_t)point[r];
    if (!turned[r]) continue;
    int cheapest = 0;
    float least = __builtin_inff();
    for (int i = 0; i < s.width; ++i) {
      float cost = p->wx[column + i][r] * level[i][r];
      if (cost < least) {
        least = cost;
        cheapest = i;
      }
    }
    level[cheapest][r] = -level[cheapest][r];
    sign[r] ^= (uint8_t)(1 << ((column + cheapest) % 8));
  }
  for (int i = 0; i < s.width; ++i) {
    lanes v;
    memcpy(&v, level[i], sizeof v);
    sums->xl += p->wx[column + i] * v;
    sums->ll += p->w[column + i] * (v * v);
  }
}

// index: [columns / width][16], sign: [columns / 8][16].
ALWAYS booksums book_codes(const bookblock *p, bookshape s, const kernel_gguf_codebook *book,
                           lanes scale, uint16_t (*index)[LANES], uint8_t (*sign)[LANES]) {
  booktables t;
  bookmaxima m;
  booksums sums = {0.0f, 0.0f};
  const ints none = 0;
  if (s.shifted) {
    lanes sum[2] = {0.0f, 0.0f};
    ints points[2][4];
    for (int g = 0; g < s.columns / 8; ++g) {
      for (int down = 0; down < 2; ++down) {
        fill_tables(p, 8 * g, s, scale, down ? -1.0f : 1.0f, &t);
        fill_maxima(&t, book, 0, &m);
        points[down][g] = best_point(&t, &m, book, 0);
        lanes score = best_score(&t, &m, book->seconds);
        sum[down] = s.shifted == 8 ? score : sum[down] + score;
      }
      if (s.shifted != 8 && 8 * (g + 1) < s.columns) continue;
      ints down = sum[1] > sum[0];
      for (int q = s.shifted == 8 ? g : 0; q <= g; ++q) {
        add_group(p, 8 * q, s, book, SELECT(down, points[1][q], points[0][q]), none, 1.0f, down,
                  index[q], sign[q], &sums);
        for (int r = 0; r < LANES; ++r) sign[q][r] = down[r] ? 1 : 0;
      }
    }
    return sums;
  }
  for (int g = 0; g < s.columns / 8; ++g) {
    memcpy(sign[g], p->sign[g], LANES);
    const int parts = 8 / s.width;
    ints plain[2], turned[2];
    lanes plain_score[2], turned_score[2];
    for (int q = 0; q < parts; ++q) {
      fill_tables(p, 8 * g + q * s.width, s, scale, 0, &t);
      fill_maxima(&t, book, s.even, &m);
      plain[q] = best_point(&t, &m, book, 0);
      if (!s.even) continue;
      turned[q] = best_point(&t, &m, book, 1);
      if (parts == 1) continue;
      plain_score[q] = best_score(&t, &m, book->seconds);
      turned_score[q] = best_turned(&t, &m, book->seconds);
    }
    ints second = none; // the turned sign lies in the second half
    if (s.even && parts == 2)
      second = plain_score[0] + turned_score[1] > turned_score[0] + plain_score[1];
    for (int q = 0; q < parts; ++q) {
      ints turn = none;
      if (s.even) turn = p->odd[g] & (q == 0 ? ~second : second);
      ints point = s.even ? SELECT(turn, turned[q], plain[q]) : plain[q];
      add_group(p, 8 * g + q * s.width, s, book, point, turn, 0, none, index[parts * g + q],
                sign[g], &sums);
    }
  }
  return sums;
}

ALWAYS lanes multiple_near(lanes x, float most) {
  return nearest(lower(higher(x - 0.5f, (lanes)0.0f), (lanes)most));
}

ALWAYS void fit_codebook(uint32_t type, const lanes *x, const lanes *w,
                         const kernel_gguf_codebook *book, units u, tile_codes *out) {
  const bookshape s = bookshape_for(type);
  const int n = s.columns, groups = n / s.width;
  bookblock p[16];
  uint16_t index[8][LANES];
  uint8_t sign[4][LANES];
  lanes scale[16], weight[16], largest = 0.0f;
  const lanes zero = 0.0f;
  for (int b = 0; b < s.blocks; ++b) {
    prepare(x + n * b, w + n * b, s, &p[b]);
    lanes energy = 0.0f, mass = 0.0f;
    for (int i = 0; i < n; ++i) {
      energy += p[b].wx[i] * p[b].x[i];
      mass += p[b].w[i];
    }
    lanes deviation = __builtin_elementwise_sqrt(quotient(energy, mass));
    lanes best = zero, best_gain = zero;
    float ratio = 0.7f;
    for (int t = 0; t < s.trials; ++t, ratio *= 1.16f) {
      lanes candidate = deviation * (s.spread * ratio), gain = book_gain(&p[b], s, book, candidate);
      ints better = gain > best_gain;
      best = SELECT(better, candidate, best);
      best_gain = SELECT(better, gain, best_gain);
    }
    booksums sums = book_codes(&p[b], s, book, best, index, sign);
    scale[b] = higher(quotient(sums.xl, sums.ll), zero);
    weight[b] = sums.ll;
    largest = higher(largest, scale[b]);
  }
  // The common factor D of the scales, which are D (multiple + 1/2).
  lanes common = zero, common_gain = zero;
  for (int t = 0; t < 16; ++t) {
    lanes inverse = inverse_of(largest) * (s.most + 1.5f - 0.25f * (float)t), xl = zero, ll = zero;
    for (int b = 0; b < s.blocks; ++b) {
      lanes m = multiple_near(scale[b] * inverse, s.most) + 0.5f;
      xl += weight[b] * m * scale[b];
      ll += weight[b] * m * m;
    }
    lanes d = quotient(xl, ll);
    ints better = d * xl > common_gain;
    common = SELECT(better, d, common);
    common_gain = SELECT(better, d * xl, common_gain);
  }
  lanes d = as_half(common * (1.0f / s.factor), u) * s.factor;
  lanes kept = d, total = zero, kept_multiple[16], chosen[16];
  for (int pass = 0; pass < 2; ++pass) {
    lanes inverse = inverse_of(d), gain = zero, xl = zero, ll = zero;
    for (int b = 0; b < s.blocks; ++b) {
      lanes centre = pass == 0 ? multiple_near(scale[b] * inverse, s.most) : kept_multiple[b];
      lanes best = -__builtin_inff();
      for (int j = -1; j <= 1; ++j) {
        lanes m = lower(higher(centre + (float)j, zero), (lanes)s.most);
        lanes g = book_gain(&p[b], s, book, d * (m + 0.5f));
        ints better = g > best;
        chosen[b] = SELECT(better, m, chosen[b]);
        best = SELECT(better, g, best);
      }
      gain += best;
      booksums sums = book_codes(&p[b], s, book, d * (chosen[b] + 0.5f), index, sign);
      xl += (chosen[b] + 0.5f) * sums.xl;
      ll += (chosen[b] + 0.5f) * (chosen[b] + 0.5f) * sums.ll;
    }
    ints better = pass == 0 ? (ints)-1 : gain > total;
    total = SELECT(better, gain, total);
    kept = SELECT(better, d, kept);
    for (int b = 0; b < s.blocks; ++b) kept_multiple[b] = SELECT(better, chosen[b], kept_multiple[b]);
    d = as_half(higher(quotient(xl, ll), zero) * (1.0f / s.factor), u) * s.factor;
  }
  out->d = half_bits(kept * (1.0f / s.factor) * u.unit);
  for (int b = 0; b < s.blocks; ++b) {
    out->scale[b] = __builtin_convertvector(kept_multiple[b], ints);
    book_codes(&p[b], s, book, kept * (kept_multiple[b] + 0.5f), out->index + groups * b,
               out->sign + n / 8 * b);
  }
}
