// Source   https://docs.hdfgroup.org/hdf5/v1_10: reference manual, H5Dget_num_chunks, H5Dget_chunk_info

#include "chunk_table.h"

#include <stdio.h>

const char *hdf5_refusal(hid_t creation, char *text, size_t size) {
  if (H5Pget_layout(creation) == H5D_VIRTUAL) return "a dataset made of other files' datasets";
  if (H5Pget_external_count(creation) > 0) return "a dataset whose elements lie in another file";
  int filters = H5Pget_nfilters(creation);
  for (int i = 0; i < filters; ++i) {
    unsigned flags, configuration;
    size_t values = 0;
    char name[64] = "";
    H5Z_filter_t filter =
        H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL, sizeof name, name,
                       &configuration);
    switch (filter) {
      case H5Z_FILTER_DEFLATE:
      case H5Z_FILTER_SHUFFLE:
      case H5Z_FILTER_FLETCHER32:
      case H5Z_FILTER_NBIT:
      case H5Z_FILTER_SCALEOFFSET: continue;
      default:
        name[sizeof name - 1] = 0;
        snprintf(text, size, "filter %d%s%s%s", (int)filter, *name ? " (" : "", name,
                 *name ? ")" : "");
        return text;
    }
  }
  return NULL;
}

uint64_t hdf5_chunk_bytes(hid_t creation, size_t element) {
  hsize_t sizes[H5S_MAX_RANK];
  if (H5Pget_layout(creation) != H5D_CHUNKED) return 0;
  int rank = H5Pget_chunk(creation, H5S_MAX_RANK, sizes);
  uint64_t bytes = element;
  for (int i = 0; i < rank; ++i)
    if (__builtin_mul_overflow(bytes, (uint64_t)sizes[i], &bytes)) return UINT64_MAX;
  return bytes;
}

// What precedes the chunks: rank and sizes, filters, the number of chunks.
struct description {
  hid_t space, creation;
  int rank, filters;
  hsize_t sizes[H5S_MAX_RANK], chunks;
};

static int describe(hid_t dataset, struct description *d) {
  d->space = H5Dget_space(dataset);
  d->creation = H5Dget_create_plist(dataset);
  d->rank = H5Pget_chunk(d->creation, H5S_MAX_RANK, d->sizes);
  d->filters = H5Pget_nfilters(d->creation);
  return d->space >= 0 && d->rank > 0 && d->filters >= 0 &&
         H5Dget_num_chunks(dataset, d->space, &d->chunks) >= 0;
}

static void close_description(struct description *d) {
  if (d->creation >= 0) H5Pclose(d->creation);
  if (d->space >= 0) H5Sclose(d->space);
}

static uint64_t words_of(const struct description *d) {
  uint64_t each = (uint64_t)d->rank + 3, words;
  if (__builtin_mul_overflow(each, (uint64_t)d->chunks, &words) ||
      __builtin_add_overflow(words, 3 + (uint64_t)d->rank + (uint64_t)d->filters, &words))
    return UINT64_MAX / 8;
  return words;
}

uint64_t hdf5_chunk_words(hid_t dataset) {
  struct description d;
  uint64_t words = describe(dataset, &d) ? words_of(&d) : 0;
  close_description(&d);
  return words;
}

int hdf5_list_chunks(hid_t dataset, uint64_t *table, uint64_t words) {
  struct description d;
  int is_listed = describe(dataset, &d) && words_of(&d) == words;
  if (is_listed) {
    *table++ = (uint64_t)d.rank;
    for (int i = 0; i < d.rank; ++i) *table++ = d.sizes[i];
    *table++ = (uint64_t)d.filters;
    for (int i = 0; i < d.filters; ++i) {
      unsigned flags;
      size_t values = 0;
      *table++ = (uint64_t)H5Pget_filter2(d.creation, (unsigned)i, &flags, &values, NULL, 0, NULL, NULL);
    }
    *table++ = d.chunks;
    for (hsize_t index = 0; is_listed && index < d.chunks; ++index) {
      hsize_t offset[H5S_MAX_RANK], bytes = 0;
      unsigned mask = 0;
      haddr_t address = HADDR_UNDEF;
      is_listed = H5Dget_chunk_info(dataset, d.space, index, offset, &mask, &address, &bytes) >= 0;
      for (int i = 0; i < d.rank; ++i) *table++ = offset[i];
      *table++ = address;
      *table++ = bytes;
      *table++ = mask;
    }
  }
  close_description(&d);
  return is_listed;
}
