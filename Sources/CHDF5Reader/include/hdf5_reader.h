// Reads HDF5 files that nobody vouches for: in a child process that may open, send and start nothing.
//
// libhdf5 is 300,000 lines of C with a history of files that crash it. A crash, a loop or worse ends the
// child, and the caller gets an error. The child sees the file's bytes only, which are mapped before it
// starts, and answers in memory that both share.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// What a record tells.
enum {
  /// What libhdf5 says; the name is that of the object at fault, or empty.
  HDF5_RECORD_ERROR = 1,
  /// A dataset whose elements lie in the file: at `offset` for `bytes`.
  HDF5_RECORD_IN_FILE = 2,
  /// A dataset that was decoded: at `offset` in the answer, little-endian.
  HDF5_RECORD_DECODED = 3,
  /// A dataset that is no tensor: texts, compounds. The text says which.
  HDF5_RECORD_SKIPPED = 4,
  /// Something that is not read at all: a link to another file, an unknown filter. The text says which.
  HDF5_RECORD_REFUSED = 5,
  /// A dataset that would take `bytes` when it is decoded, more than is left.
  HDF5_RECORD_TOO_LARGE = 6,
  /// An attribute: the name is OBJECT NUL ATTRIBUTE, the text its strings, each ended by NUL.
  HDF5_RECORD_ATTRIBUTE = 7,
  /// A link to an object of the same file, which is read by its own name.
  HDF5_RECORD_ALIAS = 8,
  /// A dataset in chunks, which the reader decodes itself: a table of words at `offset` in the answer, for
  /// `bytes`. See `hdf5_chunks`.
  HDF5_RECORD_CHUNKED = 9,
};

/// What is wanted of datasets in chunks.
enum {
  /// Their elements, decoded by libhdf5.
  HDF5_DECODES_CHUNKS = 0,
  /// The places of their chunks: u64 rank, rank sizes of a chunk, number of filters, their ids (in the order of
  /// writing), number of chunks; then of each chunk rank offsets, address, bytes, mask of the filters left out.
  HDF5_LISTS_CHUNKS = 1,
};

/// Element types, in the order of the cases of `DType`.
enum {
  HDF5_F64, HDF5_F32, HDF5_F16, HDF5_BF16, HDF5_I64, HDF5_I32, HDF5_I16, HDF5_I8,
  HDF5_U64, HDF5_U32, HDF5_U16, HDF5_U8, HDF5_BOOL,
};

/// The head of the answer.
struct hdf5_answer {
  /// 1 when the walk came to its end.
  uint64_t is_complete;
  /// Bytes used, this head included.
  uint64_t used;
  /// Where the last record starts.
  uint64_t last;
};

/// One record; `rank` dimensions (u64), the name and the text follow it.
struct hdf5_record {
  /// Where the next record starts; 0 for the last one.
  uint64_t next;
  uint64_t offset;
  uint64_t bytes;
  uint32_t kind;
  uint32_t dtype;
  uint32_t is_big_endian;
  uint32_t rank;
  uint32_t name_length;
  uint32_t text_length;
};

/// How a reading ended.
struct hdf5_outcome {
  /// An open file with the answer, which the caller closes; -1 when there is none.
  int descriptor;
  /// Bytes of the answer.
  uint64_t used;
  /// errno when the child could not be started.
  int error;
  /// The signal that ended the child; 0 when it came to its end.
  int signal;
};

/// Walks the file in a child process.
///
/// `limit` bounds the answer, and what the child allocates besides; `seconds` is processor time; `chunks` says
/// what is wanted of datasets in chunks.
/// One call at a time: the caller holds a lock.
struct hdf5_outcome hdf5_read(const void *_Nonnull bytes, size_t count, size_t limit,
                              unsigned seconds, int chunks);

/// The walk itself, which the child runs. Declared here for the other file.
void hdf5_walk(const void *_Nonnull bytes, size_t count, void *_Nonnull answer, size_t limit,
               int chunks);

/// Makes the library ready, so that a child finds it so.
void hdf5_prepare(void);
