// gguf_encode.h for CPUs with AVX-512.
#if defined(__x86_64__) && defined(__gnu_linux__)
#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#pragma clang diagnostic ignored "-Wpsabi" // vectors never cross a call that is not inlined
#pragma clang fp contract(off)
#define LEVEL(NAME) NAME##_v4
#include "gguf_encode_levels.h"
#include "gguf_encode.h"
#pragma clang attribute pop
#endif
