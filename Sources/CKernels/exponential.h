// exp for loops that vectorise: no table, no branch.
//
// Method   exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln 2 / 2, Taylor's polynomial for exp(r).
// Error    float: degree 7, below 2 ulp (r^8/8! < 6e-9 of the result). double: degree 13, below 2 ulp
//          (r^14/14! < 5e-18). Arguments are clamped to where the result is a normal number.
#pragma once
#include <stdint.h>
#include <string.h>

static inline float fast_exp(float x) {
  const float magic = 0x1.8p23f; // adding and subtracting it rounds to an integer
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float shifted = x * 0x1.715476p+0f + magic;
  float n = shifted - magic;
  float r = x - n * 0x1.62e4p-1f;   // ln 2, high bits
  r = r - n * 0x1.7f7d1cp-20f;      // ln 2, low bits
  float p = 0x1.a01a02p-13f;        // 1/7!
  p = p * r + 0x1.6c16c2p-10f;      // 1/6!
  p = p * r + 0x1.111112p-7f;
  p = p * r + 0x1.555556p-5f;
  p = p * r + 0x1.555556p-3f;
  p = p * r + 0x1p-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  int32_t bits;
  memcpy(&bits, &p, 4);
  bits += (int32_t)n << 23;
  memcpy(&p, &bits, 4);
  return p;
}

static inline double fast_exp_double(double x) {
  const double magic = 0x1.8p52;
  x = x < -700.0 ? -700.0 : x;
  x = x > 700.0 ? 700.0 : x;
  double shifted = x * 0x1.71547652b82fep+0 + magic;
  double n = shifted - magic;
  double r = x - n * 0x1.62e42fee00000p-1;
  r = r - n * 0x1.a39ef35793c76p-33;
  double p = 0x1.6124613a86d09p-33; // 1/13!
  p = p * r + 0x1.1eed8eff8d898p-29;
  p = p * r + 0x1.ae64567f544e4p-26;
  p = p * r + 0x1.27e4fb7789f5cp-22;
  p = p * r + 0x1.71de3a556c734p-19;
  p = p * r + 0x1.a01a01a01a01ap-16;
  p = p * r + 0x1.a01a01a01a01ap-13;
  p = p * r + 0x1.6c16c16c16c17p-10;
  p = p * r + 0x1.1111111111111p-7;
  p = p * r + 0x1.5555555555555p-5;
  p = p * r + 0x1.5555555555555p-3;
  p = p * r + 0x1p-1;
  p = p * r + 1.0;
  p = p * r + 1.0;
  int64_t bits, shifted_bits;
  memcpy(&bits, &p, 8);
  memcpy(&shifted_bits, &shifted, 8); // the low bits of the shifted value are n
  bits += (int64_t)((uint64_t)shifted_bits << 52);
  memcpy(&p, &bits, 8);
  return p;
}
