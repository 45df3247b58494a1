// How a dataset is stored, and where its chunks lie: the table that hdf5_reader.h describes.
#pragma once
#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

// Why a dataset of this creation list is not read, or NULL; the words may stand in `text`.
const char *hdf5_refusal(hid_t creation, char *text, size_t size);

// Bytes of one chunk of a dataset's creation list; 0 for other layouts.
uint64_t hdf5_chunk_bytes(hid_t creation, size_t element);

// Words of the table; 0 when it cannot be made.
uint64_t hdf5_chunk_words(hid_t dataset);

// Fills a table of so many words; 0 when libhdf5 refuses.
int hdf5_list_chunks(hid_t dataset, uint64_t *table, uint64_t words);
