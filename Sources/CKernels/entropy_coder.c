// Interleaved range coding with asymmetric numeral systems (rANS), arXiv:1311.2540 and 1402.3392:
// 32-bit states, words of 16 bits, probabilities of 12 bits. docs/bundle-format.md has the format.

#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

enum { LANES = KERNEL_RANS_LANES, BITS = 12, MASK = (1 << BITS) - 1, ESCAPE = -128 };

// Bits of the raw section, least significant first. Past its end: zeros.
static inline uint32_t raw_bits(kernel_rans_reader *reader, uint32_t count) {
  size_t first = reader->raw_bit >> 3;
  if (first + 8 <= reader->raw_count) {
    uint64_t word;
    memcpy(&word, reader->raw + first, 8);
    word >>= reader->raw_bit & 7;
    reader->raw_bit += count;
    return (uint32_t)word & ((1u << count) - 1);
  }
  uint32_t value = 0;
  for (uint32_t i = 0; i < count; ++i) {
    size_t byte = reader->raw_bit >> 3;
    if (byte < reader->raw_count)
      value |= (uint32_t)((reader->raw[byte] >> (reader->raw_bit & 7)) & 1) << i;
    reader->raw_bit += 1;
  }
  return value;
}

// A zigzag number in groups of 3 bits, lowest first, each with a bit that says whether more follow.
static inline int32_t raw_escape(kernel_rans_reader *reader) {
  uint32_t value = 0;
  for (uint32_t shift = 0; shift < 33; shift += 3) {
    uint32_t group = raw_bits(reader, 4);
    value |= (group & 7) << shift;
    if (!(group & 8)) break;
  }
  return (int32_t)(value >> 1) ^ -(int32_t)(value & 1);
}

static inline uint32_t next_word(kernel_rans_reader *reader) {
  if (reader->word == reader->word_count) {
    reader->overrun = 1;
    return 0;
  }
  uint16_t word;
  memcpy(&word, reader->words + 2 * reader->word++, 2);
  return word;
}

// The code of a symbol.
static inline int32_t finish(kernel_rans_reader *reader, int32_t high, uint32_t low_bits) {
  if (high == ESCAPE) return raw_escape(reader);
  if (low_bits == 0) return high;
  return high * (1 << low_bits) + (int32_t)raw_bits(reader, low_bits) - (1 << (low_bits - 1));
}

// One symbol of one lane, with every check.
static inline int32_t careful(kernel_rans_reader *reader, size_t lane, const uint32_t *table,
                              uint32_t low_bits) {
  uint32_t x = reader->state[lane], entry = table[x & MASK];
  x = (entry & MASK) * (x >> BITS) + (entry >> BITS & MASK);
  if (x < 1u << 16) x = x << 16 | next_word(reader);
  reader->state[lane] = x;
  return finish(reader, (int32_t)entry >> 24, low_bits);
}

// What the eight lanes of one step still need: escapes and raw low bits, in the order of the lanes.
static inline size_t complete(kernel_rans_reader *reader, uint32_t lanes, const uint32_t *entries,
                              const uint32_t *slots, int32_t largest, size_t first, int8_t *out,
                              uint32_t *places, int32_t *values, size_t exceptions) {
  for (; lanes; lanes &= lanes - 1) {
    uint32_t j = (uint32_t)__builtin_ctz(lanes);
    int32_t value = finish(reader, (int32_t)entries[j] >> 24, slots[j] & 7);
    int fits = value >= -largest && value <= largest;
    out[first + j] = fits ? (int8_t)value : 0;
    if (fits) continue;
    places[exceptions] = (uint32_t)first + j;
    values[exceptions++] = value;
  }
  return exceptions;
}

// A row on its way: codes up to `column` are decoded while every step of eight lanes has eight words left, since no
// lane takes more than one.
typedef struct {
  const kernel_rans_row *row;
  const uint8_t *from;
  size_t left, column, exceptions;
} progress;

static inline progress begin(const kernel_rans_row *row) {
  const kernel_rans_reader *reader = row->reader;
  return (progress){row, reader->words + 2 * reader->word, reader->word_count - reader->word, 0, 0};
}

static inline int has_step(const progress *at, size_t n) {
  return at->column + LANES <= n && at->left >= LANES;
}

// The rest of a row, with every check.
static void end(progress *at, const uint32_t *tables, int32_t largest, size_t n) {
  const kernel_rans_row *row = at->row;
  kernel_rans_reader *reader = row->reader;
  reader->word = reader->word_count - at->left;
  for (size_t c = at->column; c < n; ++c) {
    uint32_t slot = row->map[row->columns[c]];
    int32_t value = careful(reader, c % LANES, tables + (slot & ~7u), slot & 7u);
    int fits = value >= -largest && value <= largest;
    row->out[c] = fits ? (int8_t)value : 0;
    if (fits) continue;
    row->places[at->exceptions] = (uint32_t)c;
    row->values[at->exceptions++] = value;
  }
}

static inline void step_plain(progress *at, uint32_t *x, const uint32_t *tables, int32_t largest) {
  const kernel_rans_row *row = at->row;
  const size_t c = at->column;
  uint32_t entries[LANES], slots[LANES], used = 0, open = 0;
  for (int j = 0; j < LANES; ++j) {
    slots[j] = row->map[row->columns[c + j]];
    uint32_t entry = tables[(slots[j] & ~7u) + (x[j] & MASK)];
    entries[j] = entry;
    x[j] = (entry & MASK) * (x[j] >> BITS) + (entry >> BITS & MASK);
    row->out[c + j] = (int8_t)(entry >> 24);
    open |= (uint32_t)(entry >> 24 == 0x80 || slots[j] & 7) << j;
  }
#pragma clang loop unroll(full)
  for (int j = 0; j < LANES; ++j) {
    uint32_t next = x[j];
    uint16_t word;
    memcpy(&word, at->from + 2 * used, 2);
    uint32_t needs = (next >> 16) == 0;
    // Without a branch, which would be missed every few codes.
    x[j] = next << (needs << 4) | (word & (0u - needs));
    used += needs;
  }
  at->from += 2 * used;
  at->left -= used;
  at->column += LANES;
  if (__builtin_expect(open != 0, 0))
    at->exceptions = complete(row->reader, open, entries, slots, largest, c, row->out, row->places,
                              row->values, at->exceptions);
}

static void decode_plain(progress *at, const uint32_t *tables, int32_t largest, size_t n) {
  uint32_t x[LANES];
  memcpy(x, at->row->reader->state, sizeof x);
  while (has_step(at, n)) step_plain(at, x, tables, largest);
  memcpy(at->row->reader->state, x, sizeof x);
}

#if defined(__x86_64__)
#include <immintrin.h>
#define V4 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,popcnt")))

static int has_v4(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

// The eight lanes in one register: words go to the lanes that need them by one expansion.
V4 static inline __m256i step_v4(progress *at, __m256i x, const uint32_t *tables,
                                 int32_t largest) {
  const kernel_rans_row *row = at->row;
  const size_t c = at->column;
  const uint32_t *map = row->map;
  const uint16_t *columns = row->columns + c;
  const __m256i mask = _mm256_set1_epi32(MASK), low = _mm256_set1_epi32(7);
  // Eight loads take less time than the instruction that gathers.
  __m256i slots = _mm256_setr_epi32((int)map[columns[0]], (int)map[columns[1]],
                                    (int)map[columns[2]], (int)map[columns[3]],
                                    (int)map[columns[4]], (int)map[columns[5]],
                                    (int)map[columns[6]], (int)map[columns[7]]);
  __m256i index = _mm256_add_epi32(_mm256_andnot_si256(low, slots), _mm256_and_si256(x, mask));
  __m256i entries = _mm256_i32gather_epi32((const int *)tables, index, 4);
  __m256i next = _mm256_add_epi32(
      _mm256_mullo_epi32(_mm256_and_si256(entries, mask), _mm256_srli_epi32(x, BITS)),
      _mm256_and_si256(_mm256_srli_epi32(entries, BITS), mask));
  __mmask8 needs = _mm256_cmplt_epu32_mask(next, _mm256_set1_epi32(1 << 16));
  __m256i words = _mm256_maskz_expand_epi32(
      needs, _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at->from)));
  x = _mm256_or_si256(_mm256_mask_slli_epi32(next, needs, next, 16), words);
  uint32_t used = (uint32_t)__builtin_popcount(needs);
  at->from += 2 * used;
  at->left -= used;
  at->column += LANES;
  __m256i symbols = _mm256_srai_epi32(entries, 24);
  _mm_storel_epi64((__m128i *)(row->out + c), _mm256_cvtepi32_epi8(symbols));
  uint32_t open = _mm256_cmpeq_epi32_mask(symbols, _mm256_set1_epi32(ESCAPE)) |
                  _mm256_test_epi32_mask(slots, low);
  if (__builtin_expect(open != 0, 0)) {
    uint32_t own[LANES], own_slots[LANES];
    memcpy(own, &entries, sizeof own);
    memcpy(own_slots, &slots, sizeof own_slots);
    at->exceptions = complete(row->reader, open, own, own_slots, largest, c, row->out, row->places,
                              row->values, at->exceptions);
  }
  return x;
}

V4 static void decode_v4(progress *at, const uint32_t *tables, int32_t largest, size_t n) {
  __m256i x = _mm256_loadu_si256((const __m256i *)at->row->reader->state);
  while (has_step(at, n)) x = step_v4(at, x, tables, largest);
  _mm256_storeu_si256((__m256i *)at->row->reader->state, x);
}

// Two rows in turn: each waits for its own last step, and not for the other's.
V4 static void decode_pair_v4(progress *at, const uint32_t *tables, int32_t largest, size_t n) {
  progress a = at[0], b = at[1];
  __m256i x = _mm256_loadu_si256((const __m256i *)a.row->reader->state);
  __m256i y = _mm256_loadu_si256((const __m256i *)b.row->reader->state);
  while (has_step(&a, n) && has_step(&b, n)) {
    x = step_v4(&a, x, tables, largest);
    y = step_v4(&b, y, tables, largest);
  }
  _mm256_storeu_si256((__m256i *)a.row->reader->state, x);
  _mm256_storeu_si256((__m256i *)b.row->reader->state, y);
  at[0] = a;
  at[1] = b;
}
#else
static int has_v4(void) { return 0; }
#define decode_v4 decode_plain
static void decode_pair_v4(progress *at, const uint32_t *tables, int32_t largest, size_t n) {}
#endif

void kernel_rans_decode_rows(const kernel_rans_row *rows, size_t count, const uint32_t *tables,
                             int32_t largest, size_t *exceptions, size_t n) {
  const int v4 = has_v4();
  for (size_t first = 0; first < count; first += 2) {
    const size_t own = count - first < 2 ? 1 : 2;
    progress at[2] = {begin(rows + first), begin(rows + first + own - 1)};
    if (v4 && own == 2) decode_pair_v4(at, tables, largest, n);
    for (size_t i = 0; i < own; ++i) {
      if (v4)
        decode_v4(at + i, tables, largest, n);
      else
        decode_plain(at + i, tables, largest, n);
      end(at + i, tables, largest, n);
      exceptions[first + i] = at[i].exceptions;
    }
  }
}

void kernel_rans_decode_rows_plain(const kernel_rans_row *rows, size_t count,
                                   const uint32_t *tables, int32_t largest, size_t *exceptions,
                                   size_t n) {
  for (size_t i = 0; i < count; ++i) {
    progress at = begin(rows + i);
    decode_plain(&at, tables, largest, n);
    end(&at, tables, largest, n);
    exceptions[i] = at.exceptions;
  }
}

PER_CPU size_t kernel_rans_encode_row(uint32_t *state, const uint32_t *tables, const uint32_t *map,
                                      const uint16_t *columns, const uint8_t *symbols,
                                      uint16_t *words, size_t position, size_t n) {
  for (size_t c = n; c-- > 0;) {
    uint32_t entry = tables[map[columns[c]] + symbols[c]];
    uint32_t frequency = entry & 0xFFFF, first = entry >> 16, x = state[c % LANES];
    if (x >= frequency << 20) {
      words[--position] = (uint16_t)x;
      x >>= 16;
    }
    state[c % LANES] = (x / frequency << BITS) + x % frequency + first;
  }
  return position;
}

PER_CPU void kernel_decode_steps(const int8_t *codes, const float *steps, float scale, float *out,
                                 size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = (float)codes[i] * steps[i] * scale;
}

PER_CPU float kernel_dot_codes(const float *x, const int8_t *codes, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i] * (float)codes[i];
  return sum;
}

#pragma clang fp contract(off)

PER_CPU void kernel_round_integers(const float *x, float step, float inverse, float divisor,
                                   int32_t *codes, float *errors, size_t n) {
  const float magic = 0x1.8p23f, limit = 0x1p22f - 1; // below 2^22 the sum rounds to nearest even
  for (size_t i = 0; i < n; ++i) {
    float code = x[i] * inverse;
    code = code < -limit ? -limit : code;
    code = code > limit ? limit : code;
    code = (code + magic) - magic;
    codes[i] = (int32_t)code;
    errors[i] = (x[i] - code * step) * divisor;
  }
}
