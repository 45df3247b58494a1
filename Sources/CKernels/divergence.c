// Log-softmax figures of rows of logits, in double.

#include "CKernels.h"
#include "exponential.h"
#include "per_cpu.h"
#include <math.h>

#pragma clang fp contract(fast)

static inline size_t first_largest(const float *x, size_t n, float largest) {
  for (size_t i = 0; i < n; ++i)
    if (x[i] == largest) return i;
  return 0;
}

PER_CPU static float largest_of(const float *x, size_t n) {
  float largest = x[0];
  for (size_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

PER_CPU double kernel_log_sum_exp(const float *x, size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  double largest = largest_of(x, n), sum = 0;
  for (size_t i = 0; i < n; ++i) sum += fast_exp_double((double)x[i] - largest);
  return log(sum) + largest;
}

PER_CPU kernel_divergence_result kernel_divergence(const float *reference, const float *model,
                                                   size_t n) {
#pragma clang fp reassociate(on) contract(fast)
  float top_reference = largest_of(reference, n), top_model = largest_of(model, n);
  double sum_reference = 0, sum_model = 0, difference = 0;
  for (size_t i = 0; i < n; ++i) {
    double r = (double)reference[i] - top_reference, m = (double)model[i] - top_model;
    double weight = fast_exp_double(r);
    sum_reference += weight;
    sum_model += fast_exp_double(m);
    difference += weight * (r - m);
  }
  double log_reference = log(sum_reference), log_model = log(sum_model);
  kernel_divergence_result result = {
      .reference_log_sum = log_reference + top_reference,
      .model_log_sum = log_model + top_model,
      .divergence = difference / sum_reference - log_reference + log_model,
      .reference_argmax = first_largest(reference, n, top_reference),
      .model_argmax = first_largest(model, n, top_model),
  };
  return result;
}
