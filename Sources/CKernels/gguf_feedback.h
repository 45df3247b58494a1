// GPTQ inside blocks: scales chosen on weights that already carry the feedback of earlier columns, then columns (for
// codebooks, groups) rounded in order, each error pushed onto the columns that follow.
//
// Source   Frantar et al., "GPTQ", arXiv:2210.17323, Algorithm 1: err = (w - q) / U_jj, w_k -= err U_jk
// Groups   An error e of consecutive columns B costs |e C^-1|^2, C = U_BB, whatever the columns that follow do about it: the
//          block form of LDL feedback (QuIP#, arXiv:2402.04396). Its terms come out one after the other by the very
//          recurrence above, so each point of a codebook is priced by running it over the group.
// Passes   The scales of a block are chosen again for the values that its columns had when their turn came; the pass with
//          the least sum of squared errors stays.

#include "gguf_lanes.h"

// The steps and minima of a tile's sub-blocks as the decoder multiplies them, in units.
typedef struct {
  lanes step[16], minimum[16];
} tile_steps;

ALWAYS int is_affine(uint32_t type) {
  return type == Q4_1 || type == Q5_1 || type == Q2_K || type == Q4_K || type == Q5_K;
}
ALWAYS int is_codebook(uint32_t type) {
  return type == IQ1_S || type == IQ1_M || type == IQ2_XXS || type == IQ2_XS || type == IQ2_S ||
         type == IQ3_XXS || type == IQ3_S;
}
ALWAYS int sub_columns(uint32_t type) {
  switch (type) {
  case Q2_0: return 64;
  case Q1_0: return 128;
  case TQ1_0:
  case TQ2_0: return 256;
  case NVFP4:
  case Q2_K:
  case Q3_K:
  case Q6_K:
  case IQ2_XS:
  case IQ2_S:
  case IQ1_M: return 16;
  default: return 32;
  }
}
ALWAYS float top_code(uint32_t type) {
  return type == Q2_K ? 3 : type == Q5_K || type == Q5_1 ? 31 : 15;
}

ALWAYS void steps_of_tile(uint32_t type, const tile_codes *c, int blocks, units u, tile_steps *s) {
  const lanes d = half_values(c->d) * u.inverse, m = half_values(c->minimum_d) * u.inverse;
  for (int b = 0; b < blocks; ++b) {
    const lanes multiple = __builtin_convertvector(c->scale[b], lanes);
    s->minimum[b] = 0.0f;
    s->step[b] = d;
    if (type == Q4_1 || type == Q5_1) s->minimum[b] = -m;
    else if (is_affine(type)) s->minimum[b] = m * __builtin_convertvector(c->minimum[b], lanes);
    if (is_codebook(type)) s->step[b] = d * (multiple + 0.5f) * bookshape_for(type).factor;
    else if (blocks > 1) s->step[b] = d * multiple;
    if (type == MXFP4 || type == NVFP4)
      for (int r = 0; r < LANES; ++r)
        s->step[b][r] = u.inverse[r] * (type == MXFP4 ? gguf_e8m0((uint8_t)c->d[r])
                                                      : gguf_e4m3((uint8_t)c->scale[b][r]));
  }
}

// A block of a tile on its way: y, the weights with all feedback so far; what was pushed on.
typedef struct {
  lanes y[256], target[256], error[256], loss;
} tile_block;

// Notes that column j became q and pushes the error onto the block's later columns.
ALWAYS void settle(tile_block *t, int j, lanes q, const float *u, size_t stride, int columns) {
  const lanes error = (t->y[j] - q) * (1.0f / u[(size_t)j * stride + (size_t)j]);
  t->target[j] = t->y[j];
  t->error[j] = error;
  t->loss += error * error;
  for (int k = j + 1; k < columns; ++k) t->y[k] -= error * u[(size_t)j * stride + (size_t)k];
}

// The point of the codebook that prices the group at columns j... least, after the recurrence; a product of sign, step
// and level for each column and level comes in.
typedef struct {
  lanes price;
  ints point;
} priced;

ALWAYS priced cheapest_point(const lanes *y, const lanes (*product)[8], int width, const float *u,
                             size_t stride, const kernel_gguf_codebook *book) {
  const int half = width / 2, base = width == 8 ? 3 : 8;
  priced best = {__builtin_inff(), 0};
  float inverse[8];
  for (int i = 0; i < width; ++i) inverse[i] = 1.0f / u[(size_t)i * stride + (size_t)i];
  for (size_t a = 0; a < book->seconds; ++a) {
    const size_t first = book->first_starts[a], end = book->first_starts[a + 1];
    if (first == end) continue;
    lanes error[4], rest[4], price = 0.0f;
    size_t digits = a;
    for (int i = 0; i < half; ++i, digits /= (size_t)base) {
      lanes value = y[i] - product[i][digits % (size_t)base];
      for (int h = 0; h < i; ++h) value -= error[h] * u[(size_t)h * stride + (size_t)i];
      error[i] = value * inverse[i];
      price += error[i] * error[i];
    }
    ints open = price < best.price;
    if (!__builtin_reduce_or(open)) continue;
    for (int i = 0; i < half; ++i) {
      rest[i] = y[half + i];
      for (int h = 0; h < half; ++h)
        rest[i] -= error[h] * u[(size_t)h * stride + (size_t)(half + i)];
    }
    for (size_t k = first; k < end; ++k) {
      const uint8_t *digit = book->digits + (size_t)width * book->points_by_first[k] + half;
      lanes total = price, later[4];
      for (int i = 0; i < half; ++i) {
        lanes value = rest[i] - product[half + i][digit[i]];
        for (int h = 0; h < i; ++h)
          value -= later[h] * u[(size_t)(half + h) * stride + (size_t)(half + i)];
        later[i] = value * inverse[half + i];
        total += later[i] * later[i];
      }
      ints better = total < best.price;
      best.price = SELECT(better, total, best.price);
      best.point = SELECT(better, (ints)(int)book->points_by_first[k], best.point);
    }
  }
  return best;
}

// The sign of each of `count` columns (a mask: negative), their number even (odd where `odd` is set) if `parity`: the
// column whose turning costs least is turned.
ALWAYS void choose_signs(const lanes *y, int count, int parity, ints odd, const float *u,
                         size_t stride, ints *negative) {
  ints sum = odd, cheapest = 0;
  lanes least = __builtin_inff();
  for (int i = 0; i < count; ++i) {
    negative[i] = y[i] < (lanes)0.0f;
    sum ^= negative[i];
    lanes cost = SIZE_OF(y[i]) * (1.0f / u[(size_t)i * stride + (size_t)i]);
    cheapest = SELECT(cost < least, (ints)i, cheapest);
    least = lower(cost, least);
  }
  for (int i = 0; i < count && parity; ++i) negative[i] ^= sum & (cheapest == i);
}

ALWAYS void round_eight(uint32_t type, tile_block *t, int j, lanes step, const float *u,
                        size_t stride, const kernel_gguf_codebook *book, tile_codes *c) {
  const bookshape s = bookshape_for(type);
  const int base = s.width == 8 ? 3 : 8;
  ints negative[8], bits = 0, odd = 0;
  choose_signs(t->y + j, 8, s.even, odd, u + (size_t)j * stride + (size_t)j, stride, negative);
  for (int part = 0; part < 8; part += s.width) {
    const int first = j + part;
    const float *corner = u + (size_t)first * stride + (size_t)first;
    // The second half of a group of signs sees the first half's errors, and keeps the number of signs even.
    if (part > 0) choose_signs(t->y + first, s.width, s.even, odd, corner, stride, negative + part);
    lanes product[2][8][8];
    priced found[2];
    const int shifts = s.shifted ? 2 : 1;
    for (int shift = 0; shift < shifts; ++shift) {
      const float added = s.shifted ? (shift ? -1.0f : 1.0f) : 0.0f;
      for (int i = 0; i < s.width; ++i)
        for (int v = 0; v < base; ++v) {
          lanes value = step * (s.levels[v] + added);
          product[shift][i][v] = s.shifted ? value : SELECT(negative[part + i], -value, value);
        }
      found[shift] = cheapest_point(t->y + first, product[shift], s.width, corner, stride, book);
    }
    ints down = 0;
    if (s.shifted == 8) down = found[1].price < found[0].price;
    else if (s.shifted)
      for (int r = 0; r < LANES; ++r) down[r] = c->sign[j / 8][r] ? -1 : 0;
    ints point = s.shifted ? SELECT(down, found[1].point, found[0].point) : found[0].point;
    float q[8][LANES] __attribute__((aligned(64)));
    for (int r = 0; r < LANES; ++r) {
      c->index[first / s.width][r] = (uint16_t)point[r];
      const uint8_t *digit = book->digits + (size_t)s.width * (size_t)point[r];
      for (int i = 0; i < s.width; ++i) q[i][r] = product[down[r] ? 1 : 0][i][digit[i]][r];
      if (s.shifted == 8) c->sign[j / 8][r] = down[r] ? 1 : 0;
    }
    for (int i = 0; i < s.width; ++i) {
      lanes value;
      memcpy(&value, q[i], sizeof value);
      settle(t, first + i, value, u, stride, 256);
      bits |= negative[part + i] & (1 << (part + i));
      odd ^= negative[part + i];
    }
  }
  for (int r = 0; r < LANES && !s.shifted; ++r) c->sign[j / 8][r] = (uint8_t)bits[r];
}

// Rounds a block of t->y with the scales of c; fills t and the codes of c.
ALWAYS void round_block(uint32_t type, tile_block *t, int columns, units units, const float *u,
                        size_t stride, const kernel_gguf_codebook *book, tile_codes *c) {
  const int sub = sub_columns(type), blocks = columns / sub;
  tile_steps s;
  steps_of_tile(type, c, blocks, units, &s);
  t->loss = 0.0f;
  for (int b = 0; b < blocks; ++b) {
    const lanes step = s.step[b], inverse = inverse_of(step);
    for (int j = b * sub; j < (b + 1) * sub; ++j) {
      if (is_codebook(type)) {
        round_eight(type, t, j, step, u, stride, book, c);
        j += 7;
        continue;
      }
      lanes q;
      ints code;
      if (is_affine(type)) {
        lanes level = code_near(t->y[j], s.minimum[b], inverse, top_code(type));
        q = step * level - s.minimum[b];
        code = __builtin_convertvector(level, ints);
      } else {
        const levelset set = levels_for(type);
        lanes level = level_near(t->y[j] * inverse, set);
        q = step * level;
        code = code_of_level(level, set);
      }
      for (int r = 0; r < LANES; ++r) c->level[j][r] = (uint8_t)code[r];
      settle(t, j, q, u, stride, columns);
    }
  }
}
