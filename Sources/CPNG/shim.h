#pragma once
#include <png.h>
#include <string.h>
// Macros over casts, which Swift does not see.
static const png_uint_32 cpng_rgba = PNG_FORMAT_RGBA;
static inline void cpng_begin(png_image *image) {
  memset(image, 0, sizeof *image);
  image->version = PNG_IMAGE_VERSION;
}
