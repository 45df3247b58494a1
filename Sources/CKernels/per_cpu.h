// One body, compiled for three CPU levels; the loader picks one (ifunc). Elsewhere: the plain body.
#pragma once
#if defined(__x86_64__) && defined(__gnu_linux__)
#define PER_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PER_CPU
#endif
