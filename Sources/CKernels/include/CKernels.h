// Kernels: pure loops over caller-owned memory. No allocation, no I/O, no state, no failure.
// Sizes are element counts; pointers may have any alignment; outputs do not overlap inputs unless
// it is said. Kernels that add floats in another order than written are marked (reorders): their
// results differ between machines in the last bits, never between runs or thread counts.

#pragma once
#include <stddef.h>
#include <stdint.h>

// conversions.c

/// out[i] = the bfloat16 in[i], widened.
void kernel_bf16_to_f32(const uint16_t *_Nonnull in, float *_Nonnull out, size_t n);
/// out[i] = the IEEE half in[i], widened.
void kernel_f16_to_f32(const uint16_t *_Nonnull in, float *_Nonnull out, size_t n);
/// out[i] = in[i] as a half, to nearest even; too large becomes infinity.
void kernel_f32_to_f16(const float *_Nonnull in, uint16_t *_Nonnull out, size_t n);
/// out[i] = in[i] as a bfloat16, to nearest even; NaN stays NaN.
void kernel_f32_to_bf16(const float *_Nonnull in, uint16_t *_Nonnull out, size_t n);
/// out[i] = (float)in[i].
void kernel_f64_to_f32(const double *_Nonnull in, float *_Nonnull out, size_t n);
/// The number of values that are infinite or NaN.
size_t kernel_count_not_finite(const float *_Nonnull in, size_t n);

// products.c

/// Columns of one packed panel.
size_t kernel_panel_width(void);
/// panel[p * width + j] = b[j * stride + p] for j < n, p < depth; columns n..<width become 0.
void kernel_pack_rows(const float *_Nonnull b, size_t stride, size_t n, size_t depth,
                      float *_Nonnull panel);
/// panel[p * width + j] = b[p * stride + j] for j < n, p < depth; columns n..<width become 0.
void kernel_pack_columns(const float *_Nonnull b, size_t stride, size_t n, size_t depth,
                         float *_Nonnull panel);
/// c[i, j] = sum over p of a[i, p] * panel[p, j], for i < m, j < n <= width. Each sum runs over p
/// in order, whatever m and n are.
void kernel_multiply_panel(const float *_Nonnull a, size_t a_stride, size_t m,
                           const float *_Nonnull panel, size_t depth, float *_Nonnull c,
                           size_t c_stride, size_t n);
/// The same, added to c.
void kernel_add_panel_product(const float *_Nonnull a, size_t a_stride, size_t m,
                              const float *_Nonnull panel, size_t depth, float *_Nonnull c,
                              size_t c_stride, size_t n);
/// out[j * out_stride + i] = in[i * in_stride + j] for i < rows, j < columns.
void kernel_transpose(const float *_Nonnull in, size_t in_stride, size_t rows, size_t columns,
                      float *_Nonnull out, size_t out_stride);
/// Sum of a[i] * b[i] (reorders).
float kernel_dot(const float *_Nonnull a, const float *_Nonnull b, size_t n);
/// out[i] += scale * in[i].
void kernel_axpy(float scale, const float *_Nonnull in, float *_Nonnull out, size_t n);

// products_bf16.c: bfloat16 values in pairs along the depth, float32 sums. The CPU's own instruction for pairs of
// products may round its sums otherwise than the plain form (reorders).

/// out[i, p] = in[i, p] rounded to nearest even for p < depth, 0 up to the even out_stride >= depth.
void kernel_round_pairs_bf16(const float *_Nonnull in, size_t in_stride, size_t rows, size_t depth,
                             uint16_t *_Nonnull out, size_t out_stride);
/// panel[p / 2, j, p % 2] = b[j * stride + p] for j < n, p < depth; the rest becomes 0.
void kernel_pack_rows_bf16(const float *_Nonnull b, size_t stride, size_t n, size_t depth,
                           uint16_t *_Nonnull panel);
/// panel[p / 2, j, p % 2] = b[p * stride + j] for j < n, p < depth; the rest becomes 0.
void kernel_pack_columns_bf16(const float *_Nonnull b, size_t stride, size_t n, size_t depth,
                              uint16_t *_Nonnull panel);
/// c[i, j] = the sum over pairs p and both of each pair of a[i, 2p + k] * panel[p, j, k], for i < m, j < n <= width;
/// added to c if adds.
void kernel_multiply_panel_bf16(const uint16_t *_Nonnull a, size_t a_stride, size_t m,
                                const uint16_t *_Nonnull panel, size_t pairs, float *_Nonnull c,
                                size_t c_stride, size_t n, int adds);

// activations.c

/// Sum of in[i]² (reorders).
float kernel_sum_of_squares(const float *_Nonnull in, size_t n);
/// out[i] = in[i] * scale * weight[i]; out may be in.
void kernel_scale_by(const float *_Nonnull in, float scale, const float *_Nonnull weight,
                     float *_Nonnull out, size_t n);
/// out[i] = (in[i] - mean) / sqrt(variance + epsilon) * weight[i] + bias[i] (reorders); out may be in.
void kernel_layer_norm(const float *_Nonnull in, float epsilon, const float *_Nonnull weight,
                       const float *_Nonnull bias, float *_Nonnull out, size_t n);
/// gate[i] = silu(gate[i]) * up[i].
void kernel_silu_multiply(float *_Nonnull gate, const float *_Nonnull up, size_t n);
/// x[i] = x[i] / (1 + exp(-x[i])).
void kernel_silu(float *_Nonnull x, size_t n);
/// x[i] = x[i] * (1 + erf(x[i] / sqrt 2)) / 2.
void kernel_gelu(float *_Nonnull x, size_t n);
/// The tanh approximation of GELU.
void kernel_gelu_tanh(float *_Nonnull x, size_t n);
/// gradient[i] *= the derivative of x / (1 + exp(-x)) at x[i].
void kernel_silu_gradient(const float *_Nonnull x, float *_Nonnull gradient, size_t n);
/// gradient[i] *= the derivative of GELU at x[i].
void kernel_gelu_gradient(const float *_Nonnull x, float *_Nonnull gradient, size_t n);
/// gradient[i] *= the derivative of GELU's tanh approximation at x[i].
void kernel_gelu_tanh_gradient(const float *_Nonnull x, float *_Nonnull gradient, size_t n);
/// x[i] = exp(scale * x[i] - max) / sum (reorders).
void kernel_softmax(float *_Nonnull x, float scale, size_t n);
/// Rotates pairs (x[i], x[i + half]) by the angles whose cosines and sines are given, `half` each.
void kernel_rotate(float *_Nonnull x, const float *_Nonnull cosines, const float *_Nonnull sines,
                   size_t half);

// optimizers.c

/// The constants of one AdamW step: rest = 1 - beta, corrections are the factors that undo the means' start at zero.
typedef struct {
  float gradient_scale, rate, decay, beta1, rest1, beta2, rest2, correction1, correction2, epsilon;
} kernel_adamw_step;
/// One step of AdamW on n values w with their moments m and v and gradients g.
void kernel_adamw(float *_Nonnull w, float *_Nonnull m, float *_Nonnull v, const float *_Nonnull g,
                  size_t n, kernel_adamw_step step);
/// The constants of one Lion step.
typedef struct {
  float gradient_scale, rate, decay, beta1, rest1, beta2, rest2;
} kernel_lion_step;
/// One step of Lion on n values w with their moment m and gradients g.
void kernel_lion(float *_Nonnull w, float *_Nonnull m, const float *_Nonnull g, size_t n,
                 kernel_lion_step step);

// divergence.c

/// What two rows of logits over one vocabulary say; log-softmax and sums in double.
typedef struct {
  double reference_log_sum; ///< log of the sum of exp(reference[i])
  double model_log_sum;     ///< log of the sum of exp(model[i])
  double divergence;        ///< KL(softmax(reference) || softmax(model)) in nats
  size_t reference_argmax;  ///< first largest
  size_t model_argmax;      ///< first largest
} kernel_divergence_result;

/// Both log-sums, the KL divergence and the argmaxes of two rows (reorders).
kernel_divergence_result kernel_divergence(const float *_Nonnull reference,
                                           const float *_Nonnull model, size_t n);
/// log of the sum of exp(x[i]), in double (reorders).
double kernel_log_sum_exp(const float *_Nonnull x, size_t n);

// byte_products.c: activations as signed bytes, weights as codes around 128

enum {
  KERNEL_BYTE_PANEL = 32,         ///< rows of codes in a panel
  KERNEL_BYTE_PANEL_DEPTH = 65536 ///< columns whose products 32 bits hold
};

/// out[i] = round(x[i] / scale), scale = max |x| / 127, which is returned; *sum = the sum of out. A row with an infinite
/// or NaN value gives zeros and the scale NaN.
float kernel_quantize_row(const float *_Nonnull x, int8_t *_Nonnull out, int32_t *_Nonnull sum,
                          size_t n);
/// Sum of x[i] * w[i], exact.
int64_t kernel_byte_dot(const int8_t *_Nonnull x, const uint8_t *_Nonnull w, size_t n);
/// Whether this CPU has the kernels below; elsewhere they do nothing.
int kernel_has_byte_panels(void);
/// Packs n <= KERNEL_BYTE_PANEL rows of codes, stride apart: ceil(depth / 4) * 4 * KERNEL_BYTE_PANEL bytes.
void kernel_pack_bytes(const uint8_t *_Nonnull w, size_t stride, size_t n, size_t depth,
                       uint8_t *_Nonnull panel);
/// c[i, j] = (sum over p of (w[j, p] - 128) * x[i, p]) * (x_scales[i] * w_scales[j]), the sum exact, for i < m, j < n.
/// The rows of x are ceil(depth / 4) * 4 bytes apart, zero beyond depth <= KERNEL_BYTE_PANEL_DEPTH.
void kernel_multiply_byte_panel(const int8_t *_Nonnull x, size_t m, const uint8_t *_Nonnull panel,
                                size_t depth, const float *_Nonnull x_scales,
                                const int32_t *_Nonnull x_sums, const float *_Nonnull w_scales,
                                float *_Nonnull c, size_t c_stride, size_t n);

// group_integers.c

/// Unpacks n codes of `bits` (1 to 8) bits, least significant bit first, from byte 0 of `in`.
/// Reads ceil(n * bits / 8) bytes and no more.
void kernel_unpack_codes(const uint8_t *_Nonnull in, size_t bits, uint8_t *_Nonnull out, size_t n);
/// out[i] = scale * (codes[i] - zero).
void kernel_decode_group(const uint8_t *_Nonnull codes, float scale, float zero,
                         float *_Nonnull out, size_t n);
/// Weighted squared error of rounding x to scale * (clamp(round(x / scale + zero), 0, top) - zero),
/// sums in 8 fixed lanes, so that it is the same on every machine without contraction.
float kernel_grid_error(const float *_Nonnull x, const float *_Nonnull weights, float scale,
                        float inverse, float zero, float top, size_t n);
/// One column of GPTQ: codes, errors (x - q) / divisor for n rows with their own grids.
void kernel_round_column(const float *_Nonnull x, const float *_Nonnull scales,
                         const float *_Nonnull inverses, const float *_Nonnull zeros, float top,
                         float *_Nonnull quantized, uint8_t *_Nonnull codes, size_t n);

// level_groups.c: codes into a table of levels

/// FP8 E4M3, 256 levels; NF4, 16 levels.
enum { KERNEL_E4M3 = 0, KERNEL_NF4 = 1 };

/// The levels of a kind, by code.
void kernel_level_table(uint32_t kind, float *_Nonnull levels);
/// out[i] = scale * levels[codes[i]]; codes are below the table's size.
void kernel_decode_levels(const uint8_t *_Nonnull codes, const float *_Nonnull levels, float scale,
                          float *_Nonnull out, size_t n);
/// Weighted squared error of rounding x to scale * the nearest level, in 8 fixed lanes without contraction.
float kernel_level_error(const float *_Nonnull x, const float *_Nonnull weights, uint32_t kind,
                         float scale, float inverse, size_t n);
/// Codes and scale * level of n values, each with its own scale.
void kernel_round_levels(const float *_Nonnull x, const float *_Nonnull scales,
                         const float *_Nonnull inverses, uint32_t kind, float *_Nonnull quantized,
                         uint8_t *_Nonnull codes, size_t n);

// gguf_*.c: ggml's block formats, as GGUF files store them. `type` is ggml's number of a format.

/// What one block stores, as small integers; a format uses the fields it has.
typedef struct {
  uint16_t d;           ///< the block's scale: a half, or MXFP4's exponent
  uint16_t minimum_d;   ///< the block's second half: Q4_1's and Q5_1's offset, the scale of minima
  int8_t scale[16];     ///< a sub-block's scale, as it multiplies d; NVFP4: a byte of E4M3
  uint8_t minimum[16];  ///< a sub-block's minimum, as it multiplies minimum_d
  uint8_t level[256];   ///< a column's code
  uint16_t index[64];   ///< a group's entry of the codebook, groups of 8 columns (IQ3: 4)
  uint8_t sign[32];     ///< a bit for each of 8 columns, 1 = negative; IQ1: 1 = shifted down
} kernel_gguf_codes;

/// Takes a block's bytes apart.
void kernel_gguf_unpack(uint32_t type, const uint8_t *_Nonnull in, kernel_gguf_codes *_Nonnull codes);
/// The floats of a block's codes. `grid`: the format's codebook, 8 (IQ3: 4) bytes an entry.
void kernel_gguf_values(uint32_t type, const kernel_gguf_codes *_Nonnull codes,
                        const uint8_t *_Nullable grid, float *_Nonnull out);
/// The floats of consecutive blocks.
void kernel_gguf_decode(uint32_t type, const uint8_t *_Nonnull in, size_t block_bytes,
                        size_t block_columns, size_t blocks, const uint8_t *_Nullable grid,
                        float *_Nonnull out);
/// Puts a block's bytes together; the inverse of kernel_gguf_unpack.
void kernel_gguf_pack(uint32_t type, const kernel_gguf_codes *_Nonnull codes, uint8_t *_Nonnull out);

/// The codebook of an IQ format, as the encoder searches it: points sorted by their second half. A half
/// is the number of its digits, the first column lowest.
typedef struct {
  size_t width;                    ///< columns of a group: 8 or 4
  size_t seconds;                  ///< how many numbers a half can be
  const uint8_t *_Nullable digits; ///< [points][width]: which level
  const uint8_t *_Nullable firsts; ///< [points]: the first half
  const size_t *_Nullable starts;  ///< [seconds + 1]: where the points with each second half start
  const uint16_t *_Nullable points_by_first; ///< [points]: the points sorted by their first half
  const size_t *_Nullable first_starts; ///< [seconds + 1]: where those with each first half start
} kernel_gguf_codebook;

/// Up to 16 rows to encode.
typedef struct {
  uint32_t type;                                  ///< ggml's number of the format
  size_t block_columns, block_bytes;              ///< the format's sizes
  const kernel_gguf_codebook *_Nullable codebook; ///< the format's, for IQ1, IQ2 and IQ3
  const uint8_t *_Nullable grid;                  ///< the same codebook, as kernel_gguf_values takes it
  const float *_Nonnull x;                        ///< x[r * stride + c]
  size_t stride, rows, columns;                   ///< columns: a multiple of block_columns
  const float *_Nullable importance;              ///< [columns], not negative; NULL: 1 everywhere
  uint8_t *_Nonnull out;                          ///< row r's blocks go to out + r * out_stride
  size_t out_stride;
} kernel_gguf_rows;

/// CPU levels that this machine has, at least 1. All levels give the same bytes.
size_t kernel_gguf_levels(void);
/// Chooses the codes with the least sum of importance[c] * (x - value)^2 that its search finds, by the
/// code for a CPU level below kernel_gguf_levels().
void kernel_gguf_encode(size_t level, const kernel_gguf_rows *_Nonnull rows);

/// Some columns of up to 16 rows to round by GPTQ.
typedef struct {
  uint32_t type;                                  ///< ggml's number of the format
  size_t block_columns, block_bytes;              ///< the format's sizes
  const kernel_gguf_codebook *_Nullable codebook; ///< the format's, for IQ1, IQ2 and IQ3
  float *_Nonnull w;         ///< w[j * stride + r]: weights less the feedback of earlier panels
  float *_Nonnull errors;    ///< receives (w - q) / U_jj at [j * stride + r]
  size_t stride, rows;
  size_t columns;            ///< of the panel: a multiple of block_columns
  const float *_Nonnull u;   ///< U's corner of the panel, u[i * u_stride + j]
  size_t u_stride;
  uint8_t *_Nonnull out;     ///< row r's blocks of the panel go to out + r * out_stride
  size_t out_stride;
} kernel_gguf_panel;

/// Chooses the scales of each block of the panel on weights that carry the earlier columns' feedback, and rounds
/// column by column (IQ1, IQ2, IQ3: group by group) with feedback inside the panel. Changes w.
void kernel_gguf_feedback(const kernel_gguf_panel *_Nonnull panel);
// entropy_coder.c: rANS with 8 interleaved states. A table is 4096 entries, sorted by symbol: bits 0-11 the
// symbol's frequency, 12-23 the slot's distance from the symbol's first, 24-31 the symbol, -128 for an escape.

enum { KERNEL_RANS_LANES = 8 };

/// Where the decoder of a block stands.
typedef struct {
  uint32_t state[KERNEL_RANS_LANES];
  const uint8_t *_Nonnull words; ///< 16-bit words, any alignment
  size_t word, word_count;       ///< the next word, and all
  const uint8_t *_Nonnull raw;   ///< the section of raw bits
  size_t raw_bit, raw_count;     ///< the next bit; bytes of the section
  int overrun;                   ///< set to 1 when a word past the end was asked for
} kernel_rans_reader;

/// A row that is to be decoded: code c has the table at map[columns[c]], whose lowest 3 bits are the code's raw low bits.
/// `places` and `values` have room for as many as there are codes.
typedef struct {
  kernel_rans_reader *_Nonnull reader;
  const uint32_t *_Nonnull map;
  const uint16_t *_Nonnull columns;
  int8_t *_Nonnull out;
  uint32_t *_Nonnull places;
  int32_t *_Nonnull values;
} kernel_rans_row;

/// Decodes rows of n codes, each with a reader of its own; two take little more time than one. Any bytes decode to
/// something. Codes larger than `largest` (63...127) become 0 in `out` and are listed in `places` and `values`; how many
/// of each row goes to `exceptions`.
void kernel_rans_decode_rows(const kernel_rans_row *_Nonnull rows, size_t count,
                             const uint32_t *_Nonnull tables, int32_t largest,
                             size_t *_Nonnull exceptions, size_t n);
/// The same without the instructions of a newer CPU.
void kernel_rans_decode_rows_plain(const kernel_rans_row *_Nonnull rows, size_t count,
                                   const uint32_t *_Nonnull tables, int32_t largest,
                                   size_t *_Nonnull exceptions, size_t n);
/// Turns a row of k of a trellis (Trellis.swift) into codes, takes the columns' states on, and notes for each column
/// `columns` + `odd` when its next code is odd, else `columns`. Exceptions are as kernel_rans_decode_row lists them.
void kernel_trellis_follow(uint8_t *_Nonnull states, const uint16_t *_Nonnull columns, uint16_t odd,
                           uint16_t *_Nonnull next, int8_t *_Nonnull codes, size_t n,
                           const uint32_t *_Nonnull places, int32_t *_Nonnull values,
                           size_t exceptions);
/// One column of trellis-coded GPTQ: the codes v of the path from state 0 with the least sum of
/// (x[i] * inverse - v)^2; errors[i] = (x[i] - v * step) * divisor. n is at most 128.
void kernel_trellis_round(const float *_Nonnull x, float step, float inverse, float divisor,
                          int32_t *_Nonnull codes, float *_Nonnull errors, size_t n);
/// The same where row i has the step steps[i] and takes its error, times shares[i * n + r], off what row r > i aims at:
/// each state's path passes on its own errors, so that the least sum is no longer certain. errors[i] = (x[i] - v *
/// steps[i]) * divisor.
void kernel_trellis_round_passing(const float *_Nonnull x, const float *_Nonnull steps,
                                  const float *_Nonnull shares, float divisor,
                                  int32_t *_Nonnull codes, float *_Nonnull errors, size_t n);
/// Encodes a row from its end: words go to words[position - 1] and down; returns the new position. An
/// encoder's table is 128 entries, first slot << 16 | frequency; no symbol has frequency 0.
size_t kernel_rans_encode_row(uint32_t *_Nonnull state, const uint32_t *_Nonnull tables,
                              const uint32_t *_Nonnull map, const uint16_t *_Nonnull columns,
                              const uint8_t *_Nonnull symbols, uint16_t *_Nonnull words,
                              size_t position, size_t n);
/// out[i] = codes[i] * steps[i] * scale.
void kernel_decode_steps(const int8_t *_Nonnull codes, const float *_Nonnull steps, float scale,
                         float *_Nonnull out, size_t n);
/// The sum of x[i] * codes[i] (reorders).
float kernel_dot_codes(const float *_Nonnull x, const int8_t *_Nonnull codes, size_t n);
/// One column of entropy-coded GPTQ: codes[i] = x[i] * inverse to the nearest integer below 2^22 in size,
/// errors[i] = (x[i] - codes[i] * step) * divisor.
void kernel_round_integers(const float *_Nonnull x, float step, float inverse, float divisor,
                           int32_t *_Nonnull codes, float *_Nonnull errors, size_t n);

// sparse.c: values of the columns whose bit is set in `mask`, lowest bit first; 16 floats beyond the last can be read.

/// out[i] = the next value where bit i is set, else 0.
void kernel_sparse_expand(const uint8_t *_Nonnull mask, const float *_Nonnull values,
                          float *_Nonnull out, size_t n);
/// The sum of value * x[i] over set bits (reorders).
float kernel_sparse_dot(const uint8_t *_Nonnull mask, const float *_Nonnull values,
                        const float *_Nonnull x, size_t n);

// patches.c

/// How a kernel moves over a channels-last image; all counts are at least 1, paddings at least 0.
typedef struct {
  size_t height, width, channels;          ///< of the image
  size_t kernel_height, kernel_width;      ///< of the window
  size_t stride_y, stride_x;               ///< from one pixel of the output to the next
  size_t dilation_y, dilation_x;           ///< between the window's pixels
  size_t pad_top, pad_left;                ///< zeros before the image
  size_t out_height, out_width;            ///< of the output
} kernel_patches;

/// What a window becomes.
typedef enum {
  KERNEL_POOL_MAX,                ///< its largest value; padding does not count
  KERNEL_POOL_MEAN,               ///< the mean of its pixels inside the image
  KERNEL_POOL_MEAN_WITH_PADDING,  ///< the mean with zeros outside the image
} kernel_pooling;

/// rows[i] = the window [kernel_height, kernel_width, count] behind output pixel first_pixel + i, of the channels
/// first_channel ..< first_channel + count; zeros outside the image.
void kernel_unfold(const float *_Nonnull image, const kernel_patches *_Nonnull patches,
                   size_t first_channel, size_t count, size_t first_pixel, size_t pixels,
                   float *_Nonnull rows);
/// Adds the windows of all output pixels to the pixels that they were read from.
void kernel_fold(const float *_Nonnull rows, const kernel_patches *_Nonnull patches, size_t first_channel,
                 size_t count, float *_Nonnull image);
/// out[i, c] = sum over the window behind output pixel first_pixel + i of image[.., c] * weight[.., c];
/// weight is [kernel_height * kernel_width, channels].
void kernel_depthwise(const float *_Nonnull image, const kernel_patches *_Nonnull patches,
                      const float *_Nonnull weight, size_t first_pixel, size_t pixels,
                      float *_Nonnull out);
/// out[p, c] = what the window behind output pixel p becomes; a window wholly outside becomes 0.
void kernel_pool(const float *_Nonnull image, const kernel_patches *_Nonnull patches, kernel_pooling kind,
                 float *_Nonnull out);
/// Adds each output pixel's gradient to the pixels of the image that it was made from.
void kernel_pool_gradient(const float *_Nonnull image, const float *_Nonnull gradient,
                          const kernel_patches *_Nonnull patches, kernel_pooling kind,
                          float *_Nonnull out);
/// x[r, c] = x[r, c] * scale[c] + shift[c].
void kernel_scale_shift(float *_Nonnull x, size_t rows, size_t columns, const float *_Nonnull scale,
                        const float *_Nonnull shift);
