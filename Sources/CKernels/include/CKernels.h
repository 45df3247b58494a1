// Kernels: pure loops over caller-owned memory. No allocation, no I/O, no state, no failure.
// Sizes are element counts; pointers may have any alignment; outputs do not overlap inputs.

#pragma once
#include <stddef.h>
#include <stdint.h>

/// out[i] = the bfloat16 in[i], widened.
void kernel_bf16_to_f32(const uint16_t *_Nonnull in, float *_Nonnull out, size_t n);
