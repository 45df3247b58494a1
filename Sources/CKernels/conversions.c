#include "CKernels.h"
#include <string.h>

void kernel_bf16_to_f32(const uint16_t *in, float *out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits = (uint32_t)in[i] << 16;
    memcpy(&out[i], &bits, 4);
  }
}
