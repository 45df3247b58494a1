// Where the chunks of a dataset lie: the table that hdf5_reader.h describes.
#pragma once
#include <hdf5.h>
#include <stdint.h>

// Words of the table; 0 when it cannot be made.
uint64_t hdf5_chunk_words(hid_t dataset);

// Fills a table of so many words; 0 when libhdf5 refuses.
int hdf5_list_chunks(hid_t dataset, uint64_t *table, uint64_t words);
