// Element-wise layers of the networks, one row at a time.

#include "CKernels.h"
#include "exponential.h"
#include "per_cpu.h"
#include <math.h>

#pragma clang fp contract(fast)

PER_CPU float kernel_sum_of_squares(const float *in, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += in[i] * in[i];
  return sum;
}

PER_CPU void kernel_scale_by(const float *in, float scale, const float *weight, float *out,
                             size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = in[i] * scale * weight[i];
}

PER_CPU void kernel_layer_norm(const float *in, float epsilon, const float *weight,
                               const float *bias, float *out, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += in[i];
  float mean = sum / (float)n, squares = 0;
  for (size_t i = 0; i < n; ++i) squares += (in[i] - mean) * (in[i] - mean);
  float scale = 1 / sqrtf(squares / (float)n + epsilon);
  for (size_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * scale * weight[i] + bias[i];
}

PER_CPU void kernel_silu_multiply(float *gate, const float *up, size_t n) {
  for (size_t i = 0; i < n; ++i) gate[i] = gate[i] / (1 + fast_exp(-gate[i])) * up[i];
}

PER_CPU void kernel_silu(float *x, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] = x[i] / (1 + fast_exp(-x[i]));
}

// Source   |z| < 1: the Taylor series of erf, 11 terms, error below 2e-9. Elsewhere: Abramowitz and
//          Stegun, Handbook of Mathematical Functions, 7.1.26, absolute error below 1.5e-7.
static inline float fast_erf(float z) {
  float magnitude = z < 0 ? -z : z, square = z * z;
  float s = 1.48051e-8f;
  s = s * square - 1.636856e-7f;
  s = s * square + 1.6462115e-6f;
  s = s * square - 1.4925650e-5f;
  s = s * square + 1.2055333e-4f;
  s = s * square - 8.5483270e-4f;
  s = s * square + 5.2239776e-3f;
  s = s * square - 2.6866171e-2f;
  s = s * square + 1.1283792e-1f;
  s = s * square - 3.7612639e-1f;
  s = s * square + 1.1283792f;
  float series = s * z;
  float t = 1 / (1 + 0.3275911f * magnitude);
  float tail = 1.061405429f;
  tail = tail * t - 1.453152027f;
  tail = tail * t + 1.421413741f;
  tail = tail * t - 0.284496736f;
  tail = tail * t + 0.254829592f;
  float rest = 1 - tail * t * fast_exp(-square);
  rest = z < 0 ? -rest : rest;
  return magnitude < 1 ? series : rest;
}

PER_CPU void kernel_gelu(float *x, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1 + fast_erf(x[i] * 0x1.6a09e6p-1f));
}

PER_CPU void kernel_gelu_tanh(float *x, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    float inner = 0x1.988454p-1f * (x[i] + 0.044715f * x[i] * x[i] * x[i]); // sqrt(2 / pi)
    x[i] = x[i] - x[i] / (1 + fast_exp(2 * inner)); // (1 + tanh(u)) / 2 = 1 - 1 / (1 + exp(2u))
  }
}

// Derivatives. With p the sigmoid or the normal distribution's integral, each activation is x p(x), and its
// derivative p + x p'.

PER_CPU void kernel_silu_gradient(const float *x, float *gradient, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    float p = 1 / (1 + fast_exp(-x[i]));
    gradient[i] *= p * (1 + x[i] * (1 - p));
  }
}

PER_CPU void kernel_gelu_gradient(const float *x, float *gradient, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    float p = 0.5f * (1 + fast_erf(x[i] * 0x1.6a09e6p-1f));
    float density = 0x1.988454p-2f * fast_exp(-0.5f * x[i] * x[i]); // 1 / sqrt(2 pi)
    gradient[i] *= p + x[i] * density;
  }
}

PER_CPU void kernel_gelu_tanh_gradient(const float *x, float *gradient, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    float square = x[i] * x[i];
    float inner = 0x1.988454p-1f * (x[i] + 0.044715f * square * x[i]);
    float slope = 0x1.988454p-1f * (1 + 0.134145f * square); // 3 * 0.044715
    float rest = 1 / (1 + fast_exp(2 * inner)), p = 1 - rest;
    gradient[i] *= p + 2 * x[i] * p * rest * slope;
  }
}

PER_CPU void kernel_softmax(float *x, float scale, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float largest = x[0], sum = 0;
  for (size_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (size_t i = 0; i < n; ++i) {
    x[i] = fast_exp(scale * (x[i] - largest));
    sum += x[i];
  }
  float inverse = 1 / sum;
  for (size_t i = 0; i < n; ++i) x[i] *= inverse;
}

PER_CPU void kernel_rotate(float *x, const float *cosines, const float *sines, size_t half) {
  for (size_t i = 0; i < half; ++i) {
    float a = x[i], b = x[i + half];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + half] = b * cosines[i] + a * sines[i];
  }
}
