// Steps of optimizers, element by element. Nothing is contracted, so that every CPU gives the same bits.

#include "CKernels.h"
#include "per_cpu.h"

#include <math.h>

#pragma clang fp contract(off)

PER_CPU void kernel_adamw(float *w, float *m, float *v, const float *g, size_t n, kernel_adamw_step s) {
  for (size_t i = 0; i < n; ++i) {
    float gradient = g[i] * s.gradient_scale;
    float mean = s.beta1 * m[i] + s.rest1 * gradient;
    float square = s.beta2 * v[i] + s.rest2 * (gradient * gradient);
    float step = (mean * s.correction1) / (sqrtf(square * s.correction2) + s.epsilon);
    m[i] = mean;
    v[i] = square;
    w[i] -= s.rate * step + s.decay * w[i];
  }
}

PER_CPU void kernel_lion(float *w, float *m, const float *g, size_t n, kernel_lion_step s) {
  for (size_t i = 0; i < n; ++i) {
    float gradient = g[i] * s.gradient_scale;
    float direction = s.beta1 * m[i] + s.rest1 * gradient;
    m[i] = s.beta2 * m[i] + s.rest2 * gradient;
    float sign = direction > 0 ? 1.0f : direction < 0 ? -1.0f : 0.0f;
    w[i] -= s.rate * sign + s.decay * w[i];
  }
}
