#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>

static inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

PER_CPU void kernel_bf16_to_f32(const uint16_t *in, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = float_of((uint32_t)in[i] << 16);
}

// Half to float by moving the exponent: subnormals are normalised by one float subtraction.
static inline float half_to_float(uint16_t half) {
  uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
  uint32_t exponent = magnitude & (0x7c00u << 13);
  uint32_t normal = magnitude + ((127u - 15u) << 23);
  uint32_t infinite = magnitude + ((255u - 31u) << 23);
  uint32_t subnormal = bits_of(float_of(magnitude + (113u << 23)) - float_of(113u << 23));
  uint32_t bits = exponent == (0x7c00u << 13) ? infinite : exponent == 0 ? subnormal : normal;
  return float_of(bits | (uint32_t)(half & 0x8000) << 16);
}

PER_CPU void kernel_f16_to_f32(const uint16_t *in, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = half_to_float(in[i]);
}

static inline uint16_t float_to_half(float value) {
  uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  // Below 2^-14 the sum with 0.5 leaves the half's subnormal digits in the low bits, rounded.
  uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  uint32_t normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - ((127u - 15u) << 23)) >> 13;
  uint32_t nan = 0x7e00, infinite = 0x7c00;
  uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? infinite : half;
  half = magnitude > 0x7f800000 ? nan : half;
  return (uint16_t)(sign | half);
}

PER_CPU void kernel_f32_to_f16(const float *in, uint16_t *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = float_to_half(in[i]);
}

PER_CPU void kernel_f32_to_bf16(const float *in, uint16_t *out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits = bits_of(in[i]);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    out[i] = (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
  }
}

PER_CPU void kernel_f64_to_f32(const double *in, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = (float)in[i];
}

PER_CPU size_t kernel_count_not_finite(const float *in, size_t n) {
  size_t count = 0;
  for (size_t i = 0; i < n; ++i) count += (bits_of(in[i]) & 0x7f800000) == 0x7f800000;
  return count;
}
