// The encoder by CPU level: 0 any CPU, 1 with AVX2, 2 with AVX-512.

#include "gguf_encode_levels.h"

size_t kernel_gguf_levels(void) {
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (__builtin_cpu_supports("x86-64-v4")) return 3;
  if (__builtin_cpu_supports("x86-64-v3")) return 2;
#endif
  return 1;
}

void kernel_gguf_encode(size_t level, const kernel_gguf_rows *rows) {
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (level == 2) kernel_gguf_encode_v4(rows);
  if (level == 1) kernel_gguf_encode_v3(rows);
#endif
  if (level == 0) kernel_gguf_encode_plain(rows);
}

void kernel_gguf_feedback(const kernel_gguf_panel *panel) {
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (kernel_gguf_levels() == 3) kernel_gguf_feedback_v4(panel);
  else if (kernel_gguf_levels() == 2) kernel_gguf_feedback_v3(panel);
  else
#endif
    kernel_gguf_feedback_plain(panel);
}
