// kernel_gguf_encode and kernel_gguf_feedback by CPU level.
#pragma once
#include "CKernels.h"

void kernel_gguf_encode_v4(const kernel_gguf_rows *rows);
void kernel_gguf_encode_v3(const kernel_gguf_rows *rows);
void kernel_gguf_encode_plain(const kernel_gguf_rows *rows);
void kernel_gguf_feedback_v4(const kernel_gguf_panel *panel);
void kernel_gguf_feedback_v3(const kernel_gguf_panel *panel);
void kernel_gguf_feedback_plain(const kernel_gguf_panel *panel);
