// Patches of channels-last images: what a convolution multiplies, and how pooling looks at an image.
// Rows are pixels of the output, from left to right and from the top; a row is [kernel_height, kernel_width, channels].

#include "CKernels.h"
#include "per_cpu.h"

#include <string.h>

static inline void copy_or_clear(float *to, const float *from, size_t n) {
  if (from)
    memcpy(to, from, n * sizeof(float));
  else
    memset(to, 0, n * sizeof(float));
}

PER_CPU void kernel_unfold(const float *image, const kernel_patches *g, size_t first_channel, size_t count,
                           size_t first_pixel, size_t pixels, float *rows) {
  const size_t run = g->kernel_width * count;
  const int contiguous = count == g->channels && g->dilation_x == 1;
  for (size_t i = 0; i < pixels; ++i) {
    const size_t pixel = first_pixel + i;
    const ptrdiff_t top = (ptrdiff_t)(pixel / g->out_width * g->stride_y) - (ptrdiff_t)g->pad_top;
    const ptrdiff_t left = (ptrdiff_t)(pixel % g->out_width * g->stride_x) - (ptrdiff_t)g->pad_left;
    for (size_t ky = 0; ky < g->kernel_height; ++ky, rows += run) {
      const ptrdiff_t y = top + (ptrdiff_t)(ky * g->dilation_y);
      if (y < 0 || y >= (ptrdiff_t)g->height) {
        memset(rows, 0, run * sizeof(float));
        continue;
      }
      const float *line = image + (size_t)y * g->width * g->channels + first_channel;
      if (contiguous && left >= 0 && left + (ptrdiff_t)g->kernel_width <= (ptrdiff_t)g->width) {
        memcpy(rows, line + (size_t)left * g->channels, run * sizeof(float));
        continue;
      }
      for (size_t kx = 0; kx < g->kernel_width; ++kx) {
        const ptrdiff_t x = left + (ptrdiff_t)(kx * g->dilation_x);
        const int inside = x >= 0 && x < (ptrdiff_t)g->width;
        copy_or_clear(rows + kx * count, inside ? line + (size_t)x * g->channels : 0, count);
      }
    }
  }
}

PER_CPU void kernel_fold(const float *rows, const kernel_patches *g, size_t first_channel, size_t count,
                         float *image) {
  for (size_t pixel = 0; pixel < g->out_height * g->out_width; ++pixel) {
    const ptrdiff_t top = (ptrdiff_t)(pixel / g->out_width * g->stride_y) - (ptrdiff_t)g->pad_top;
    const ptrdiff_t left = (ptrdiff_t)(pixel % g->out_width * g->stride_x) - (ptrdiff_t)g->pad_left;
    for (size_t ky = 0; ky < g->kernel_height; ++ky) {
      const ptrdiff_t y = top + (ptrdiff_t)(ky * g->dilation_y);
      for (size_t kx = 0; kx < g->kernel_width; ++kx, rows += count) {
        const ptrdiff_t x = left + (ptrdiff_t)(kx * g->dilation_x);
        if (y < 0 || y >= (ptrdiff_t)g->height || x < 0 || x >= (ptrdiff_t)g->width) continue;
        float *to = image + ((size_t)y * g->width + (size_t)x) * g->channels + first_channel;
        for (size_t c = 0; c < count; ++c) to[c] += rows[c];
      }
    }
  }
}

PER_CPU void kernel_depthwise(const float *image, const kernel_patches *g, const float *weight,
                              size_t first_pixel, size_t pixels, float *out) {
  const size_t channels = g->channels;
  for (size_t i = 0; i < pixels; ++i, out += channels) {
    const size_t pixel = first_pixel + i;
    const ptrdiff_t top = (ptrdiff_t)(pixel / g->out_width * g->stride_y) - (ptrdiff_t)g->pad_top;
    const ptrdiff_t left = (ptrdiff_t)(pixel % g->out_width * g->stride_x) - (ptrdiff_t)g->pad_left;
    memset(out, 0, channels * sizeof(float));
    for (size_t ky = 0; ky < g->kernel_height; ++ky) {
      const ptrdiff_t y = top + (ptrdiff_t)(ky * g->dilation_y);
      if (y < 0 || y >= (ptrdiff_t)g->height) continue;
      for (size_t kx = 0; kx < g->kernel_width; ++kx) {
        const ptrdiff_t x = left + (ptrdiff_t)(kx * g->dilation_x);
        if (x < 0 || x >= (ptrdiff_t)g->width) continue;
        const float *from = image + ((size_t)y * g->width + (size_t)x) * channels;
        const float *w = weight + (ky * g->kernel_width + kx) * channels;
        for (size_t c = 0; c < channels; ++c) out[c] += from[c] * w[c];
      }
    }
  }
}

PER_CPU void kernel_pool(const float *image, const kernel_patches *g, kernel_pooling kind, float *out) {
  const size_t channels = g->channels;
  for (size_t pixel = 0; pixel < g->out_height * g->out_width; ++pixel, out += channels) {
    const ptrdiff_t top = (ptrdiff_t)(pixel / g->out_width * g->stride_y) - (ptrdiff_t)g->pad_top;
    const ptrdiff_t left = (ptrdiff_t)(pixel % g->out_width * g->stride_x) - (ptrdiff_t)g->pad_left;
    size_t seen = 0;
    for (size_t ky = 0; ky < g->kernel_height; ++ky) {
      const ptrdiff_t y = top + (ptrdiff_t)(ky * g->dilation_y);
      if (y < 0 || y >= (ptrdiff_t)g->height) continue;
      for (size_t kx = 0; kx < g->kernel_width; ++kx) {
        const ptrdiff_t x = left + (ptrdiff_t)(kx * g->dilation_x);
        if (x < 0 || x >= (ptrdiff_t)g->width) continue;
        const float *from = image + ((size_t)y * g->width + (size_t)x) * channels;
        if (seen++ == 0)
          memcpy(out, from, channels * sizeof(float));
        else if (kind == KERNEL_POOL_MAX)
          for (size_t c = 0; c < channels; ++c) out[c] = from[c] > out[c] ? from[c] : out[c];
        else
          for (size_t c = 0; c < channels; ++c) out[c] += from[c];
      }
    }
    if (seen == 0) memset(out, 0, channels * sizeof(float));
    if (kind == KERNEL_POOL_MAX) continue;
    const size_t whole = g->kernel_height * g->kernel_width;
    const float divisor = (float)(kind == KERNEL_POOL_MEAN_WITH_PADDING ? whole : seen ? seen : 1);
    for (size_t c = 0; c < channels; ++c) out[c] /= divisor;
  }
}

PER_CPU void kernel_pool_gradient(const float *image, const float *gradient, const kernel_patches *g,
                                  kernel_pooling kind, float *out) {
  const size_t channels = g->channels;
  for (size_t pixel = 0; pixel < g->out_height * g->out_width; ++pixel, gradient += channels) {
    const ptrdiff_t top = (ptrdiff_t)(pixel / g->out_width * g->stride_y) - (ptrdiff_t)g->pad_top;
    const ptrdiff_t left = (ptrdiff_t)(pixel % g->out_width * g->stride_x) - (ptrdiff_t)g->pad_left;
    // The window's part inside the image, in steps of the kernel.
    size_t first_y = g->kernel_height, end_y = 0, first_x = g->kernel_width, end_x = 0;
    for (size_t ky = 0; ky < g->kernel_height; ++ky) {
      const ptrdiff_t y = top + (ptrdiff_t)(ky * g->dilation_y);
      if (y < 0 || y >= (ptrdiff_t)g->height) continue;
      if (ky < first_y) first_y = ky;
      end_y = ky + 1;
    }
    for (size_t kx = 0; kx < g->kernel_width; ++kx) {
      const ptrdiff_t x = left + (ptrdiff_t)(kx * g->dilation_x);
      if (x < 0 || x >= (ptrdiff_t)g->width) continue;
      if (kx < first_x) first_x = kx;
      end_x = kx + 1;
    }
    if (end_y == 0 || end_x == 0) continue;
    const size_t seen = (end_y - first_y) * (end_x - first_x);
    const float share =
        1.0f / (float)(kind == KERNEL_POOL_MEAN_WITH_PADDING ? g->kernel_height * g->kernel_width : seen);
    for (size_t c = 0; c < channels; ++c) {
      size_t best = 0;
      float largest = 0;
      for (size_t ky = first_y; ky < end_y; ++ky)
        for (size_t kx = first_x; kx < end_x; ++kx) {
          const size_t y = (size_t)(top + (ptrdiff_t)(ky * g->dilation_y));
          const size_t x = (size_t)(left + (ptrdiff_t)(kx * g->dilation_x));
          const size_t place = (y * g->width + x) * channels + c;
          if (kind != KERNEL_POOL_MAX)
            out[place] += gradient[c] * share;
          else if ((ky == first_y && kx == first_x) || image[place] > largest)
            largest = image[best = place];
        }
      // The first of equal values was the one that the result took.
      if (kind == KERNEL_POOL_MAX) out[best] += gradient[c];
    }
  }
}

PER_CPU void kernel_scale_shift(float *x, size_t rows, size_t columns, const float *scale,
                                const float *shift) {
  for (size_t r = 0; r < rows; ++r, x += columns)
    for (size_t c = 0; c < columns; ++c) x[c] = x[c] * scale[c] + shift[c];
}
