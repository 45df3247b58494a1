// gguf_encode.h for any CPU.
#include "CKernels.h"
#include "per_cpu.h"
#include <string.h>
#pragma clang diagnostic ignored "-Wpsabi" // vectors never cross a call that is not inlined
#pragma clang fp contract(off)
#define LEVEL(NAME) NAME##_plain
#include "gguf_encode_levels.h"
#include "gguf_encode.h"
