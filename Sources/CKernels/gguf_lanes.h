// Sixteen rows at once: lane r of every vector belongs to row r of a tile. Each lane computes what it would
// compute alone, in the same order and without contraction, so that codes do not depend on the tile's other
// rows, on threads or on the CPU.
#pragma once
#include "gguf_blocks.h"

enum { LANES = 16 };
typedef float lanes __attribute__((ext_vector_type(16)));
typedef int32_t ints __attribute__((ext_vector_type(16)));

// Lanes where the mask is set (all bits) take a, others b.
#define SELECT(mask, a, b) ((mask) ? (a) : (b))
// The lower and the higher; b where either is NaN, which makes each one instruction.
ALWAYS lanes lower(lanes a, lanes b) { return a < b ? a : b; }
ALWAYS lanes higher(lanes a, lanes b) { return a > b ? a : b; }
#define SIZE_OF(a) __builtin_elementwise_abs(a)

// To the nearest whole number, ties to even; |x| below 2^22.
ALWAYS lanes nearest(lanes x) {
  const float magic = 0x1.8p23f;
  return (x + magic) - magic;
}

// 1 / x, or 0 where x is 0.
ALWAYS lanes inverse_of(lanes x) {
  lanes one = 1.0f, zero = 0.0f;
  return SELECT(x == zero, zero, one / SELECT(x == zero, one, x));
}

// a / b, or 0 where b is not above 0.
ALWAYS lanes quotient(lanes a, lanes b) {
  lanes one = 1.0f, zero = 0.0f;
  return SELECT(b > zero, a / SELECT(b > zero, b, one), zero);
}

// The bits of the half nearest to x, ties to even, at most the largest finite half in size.
ALWAYS ints half_bits(lanes x) {
  lanes size = SIZE_OF(x);
  size = lower(size, (lanes)65504.0f);
  ints bits, shifted;
  memcpy(&bits, &size, sizeof bits);
  // Below 2^-14 the sum with 0.5 leaves the half's subnormal digits in the low bits, rounded.
  lanes sum = size + 0.5f;
  memcpy(&shifted, &sum, sizeof shifted);
  ints normal = (bits + 0xfff + ((bits >> 13) & 1) - (112 << 23)) >> 13;
  ints magnitude = SELECT(bits < (113 << 23), shifted - (126 << 23), normal);
  ints all;
  memcpy(&all, &x, sizeof all);
  return magnitude | ((all >> 16) & 0x8000);
}

// The values of halves that are finite.
ALWAYS lanes half_values(ints half) {
  ints magnitude = (half & 0x7fff) << 13;
  ints normal = magnitude + (112 << 23), raised = magnitude + (113 << 23), least = 113 << 23;
  lanes a, b, c;
  memcpy(&a, &normal, sizeof a);
  memcpy(&b, &raised, sizeof b);
  memcpy(&c, &least, sizeof c);
  lanes size = SELECT((half & 0x7c00) == 0, b - c, a);
  return SELECT((half & 0x8000) != 0, -size, size);
}

// A tile's weights are measured in units of a power of two for each row, so that squares neither overflow nor
// vanish; what is stored is in true units. Both are exact but for floats below 2^-126.
typedef struct {
  lanes unit, inverse;
} units;

// The half nearest to x units, in units.
ALWAYS lanes as_half(lanes x, units u) { return half_values(half_bits(x * u.unit)) * u.inverse; }

// The codes of a tile's block, a vector of rows each.
typedef struct {
  ints d, minimum_d, scale[16], minimum[16];
  uint8_t level[256][LANES];
  uint16_t index[64][LANES];
  uint8_t sign[32][LANES];
} tile_codes;
