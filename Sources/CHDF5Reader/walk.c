// Walks groups, datasets and attributes, and writes a record for each into the answer.
//
// Source   https://docs.hdfgroup.org/hdf5/v1_10: reference manual, H5Literate, H5Oget_info, H5Dget_offset,
//          H5Pset_file_image_callbacks, H5Ewalk2

#define _GNU_SOURCE
#include "chunk_table.h"
#include "element_type.h"
#include "hdf5_reader.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_LIMIT = 64, LINK_LIMIT = 1 << 20, ATTRIBUTE_LIMIT = 1 << 12, NAME_LIMIT = 1 << 12 };

// Everything that a walk knows.
struct walk {
  char *answer;
  size_t limit;
  int chunks;
  unsigned links;
  unsigned depth;
  // Groups above the current one: a link to one of them would lead in circles.
  haddr_t above[DEPTH_LIMIT + 1];
  // The path of the current object, without a leading slash.
  char path[NAME_LIMIT * 4];
  size_t path_length;
};

static struct hdf5_answer *head(struct walk *w) { return (struct hdf5_answer *)w->answer; }

// MARK: - Records

// Room in the answer, on a multiple of 64; NULL when there is none.
static void *take(struct walk *w, size_t bytes) {
  size_t start = (head(w)->used + 63) / 64 * 64;
  if (start > w->limit || bytes > w->limit - start) return NULL;
  head(w)->used = start + bytes;
  return w->answer + start;
}

static struct hdf5_record *put(struct walk *w, struct hdf5_record record, const hsize_t *shape,
                               const char *name, size_t name_length, const char *text,
                               size_t text_length) {
  char *place = take(w, sizeof record + 8 * record.rank + name_length + text_length);
  // Without room for a record there is no answer: the walk ends here, incomplete.
  if (!place) abort();
  record.name_length = (uint32_t)name_length;
  record.text_length = (uint32_t)text_length;
  struct hdf5_record *result = (struct hdf5_record *)place;
  *result = record;
  place += sizeof record;
  for (uint32_t i = 0; i < record.rank; ++i, place += 8) {
    uint64_t size = shape[i];
    memcpy(place, &size, 8);
  }
  memcpy(place, name, name_length);
  if (text_length) memcpy(place + name_length, text, text_length);
  uint64_t start = (uint64_t)((char *)result - w->answer);
  if (head(w)->last) ((struct hdf5_record *)(w->answer + head(w)->last))->next = start;
  head(w)->last = start;
  return result;
}

static void put_text(struct walk *w, uint32_t kind, const char *text) {
  put(w, (struct hdf5_record){.kind = kind}, NULL, w->path, w->path_length, text, strlen(text));
}

struct message {
  char text[600], outer[200];
};

static herr_t describe(unsigned depth, const H5E_error2_t *error, void *data) {
  struct message *message = data;
  const char *text = error->desc ? error->desc : "";
  // The stack goes from the call down to the cause: the call's words and the cause's make the message.
  if (depth == 0) snprintf(message->outer, sizeof message->outer, "%s", text);
  snprintf(message->text, sizeof message->text, "%s", text);
  return 0;
}

// The error stack as one line, at the object of the path.
static void put_error(struct walk *w, const char *fallback) {
  struct message message = {0};
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, describe, &message);
  H5Eclear2(H5E_DEFAULT);
  char line[900];
  if (!message.text[0])
    snprintf(line, sizeof line, "%s", fallback);
  else if (strcmp(message.text, message.outer) == 0)
    snprintf(line, sizeof line, "%s", message.text);
  else
    snprintf(line, sizeof line, "%s: %s", message.outer, message.text);
  put_text(w, HDF5_RECORD_ERROR, line);
}

// MARK: - Datasets

static void read_elements(struct walk *w, hid_t dataset, hid_t type, struct hdf5_record record,
                          const hsize_t *shape) {
  struct hdf5_record *written = put(w, record, shape, w->path, w->path_length, NULL, 0);
  char *target = take(w, record.bytes);
  if (!target) {
    written->kind = HDF5_RECORD_TOO_LARGE;
    return;
  }
  written->offset = (uint64_t)(target - w->answer);
  hid_t memory = H5Tcopy(type);
  H5Tset_order(memory, H5T_ORDER_LE);
  if (record.bytes > 0 &&
      H5Dread(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, target) < 0)
    put_error(w, "the elements cannot be read");
  H5Tclose(memory);
}

// Where the chunks lie, for a reader that decodes them itself.
static void list_chunks(struct walk *w, hid_t dataset, struct hdf5_record record,
                        const hsize_t *shape) {
  uint64_t words = hdf5_chunk_words(dataset);
  record.kind = HDF5_RECORD_CHUNKED;
  record.bytes = words * 8;
  struct hdf5_record *written = put(w, record, shape, w->path, w->path_length, NULL, 0);
  char *target = words && words < w->limit / 8 ? take(w, words * 8) : NULL;
  if (!target) {
    written->kind = HDF5_RECORD_TOO_LARGE;
    return;
  }
  written->offset = (uint64_t)(target - w->answer);
  if (!hdf5_list_chunks(dataset, (uint64_t *)target, words)) put_error(w, "the chunks cannot be listed");
}

static void walk_dataset(struct walk *w, hid_t dataset) {
  hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
  hid_t creation = H5Dget_create_plist(dataset);
  char text[128];
  hsize_t shape[H5S_MAX_RANK];
  if (type < 0 || space < 0 || creation < 0) {
    put_error(w, "the dataset cannot be described");
    goto done;
  }
  H5T_class_t class = H5Tget_class(type);
  int element = hdf5_element_type(type, class);
  const char *reason = hdf5_refusal(creation, text, sizeof text);
  if (element < 0) {
    snprintf(text, sizeof text, "%s of %zu bytes",
             class == H5T_FLOAT ? "floats" : class == H5T_INTEGER ? "integers" : hdf5_class_name(class),
             H5Tget_size(type));
    // Numbers of an unusual kind may be weights; texts and the like are none.
    put_text(w, class == H5T_FLOAT || class == H5T_INTEGER ? HDF5_RECORD_REFUSED
                                                           : HDF5_RECORD_SKIPPED, text);
    goto done;
  }
  if (reason) {
    put_text(w, HDF5_RECORD_REFUSED, reason);
    goto done;
  }
  if (H5Sget_simple_extent_type(space) == H5S_NULL) {
    put_text(w, HDF5_RECORD_SKIPPED, "a dataset without a shape");
    goto done;
  }
  int rank = H5Sget_simple_extent_dims(space, shape, NULL);
  if (rank < 0) {
    put_error(w, "the dataset has no shape");
    goto done;
  }
  size_t size = H5Tget_size(type);
  uint64_t bytes = size;
  int has_none = 0;
  for (int i = 0; i < rank; ++i) {
    if (shape[i] == 0) has_none = 1;
    if (shape[i] && __builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes)) bytes = UINT64_MAX;
  }
  struct hdf5_record record = {.kind = HDF5_RECORD_IN_FILE,
                               .dtype = (uint32_t)element,
                               .is_big_endian = H5Tget_order(type) == H5T_ORDER_BE,
                               .rank = (uint32_t)rank,
                               .bytes = has_none && bytes != UINT64_MAX ? 0 : bytes};
  haddr_t offset = H5Dget_offset(dataset);
  H5Eclear2(H5E_DEFAULT);
  if (bytes != UINT64_MAX && H5Pget_layout(creation) == H5D_CONTIGUOUS && offset != HADDR_UNDEF) {
    record.offset = offset;
    put(w, record, shape, w->path, w->path_length, NULL, 0);
    goto done;
  }
  if (w->chunks == HDF5_LISTS_CHUNKS && H5Pget_layout(creation) == H5D_CHUNKED && rank > 0) {
    list_chunks(w, dataset, record, shape);
    goto done;
  }
  uint64_t chunk = hdf5_chunk_bytes(creation, size);
  record.is_big_endian = 0;
  record.kind = HDF5_RECORD_DECODED;
  if (record.bytes > w->limit || chunk > w->limit) {
    record.kind = HDF5_RECORD_TOO_LARGE;
    if (chunk > record.bytes) record.bytes = chunk;
    put(w, record, shape, w->path, w->path_length, NULL, 0);
    goto done;
  }
  read_elements(w, dataset, type, record, shape);
done:
  if (creation >= 0) H5Pclose(creation);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
}

// MARK: - Attributes

// Writes the strings of an attribute, each ended by NUL. Other attributes are left out.
static herr_t walk_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
  (void)info;
  struct walk *w = data;
  if (++w->links > LINK_LIMIT) return -1;
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (attribute < 0) return 0;
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  hssize_t count = H5Sget_simple_extent_npoints(space);
  size_t size = H5Tget_size(type), name_length = strlen(name);
  uint64_t bytes = 0;
  char label[NAME_LIMIT * 4 + NAME_LIMIT + 1];
  if (H5Tget_class(type) == H5T_STRING && count >= 0 && name_length < NAME_LIMIT && size > 0 &&
      !__builtin_mul_overflow((uint64_t)count, (uint64_t)size, &bytes) && bytes < w->limit) {
    memcpy(label, w->path, w->path_length);
    label[w->path_length] = 0;
    memcpy(label + w->path_length + 1, name, name_length);
    size_t label_length = w->path_length + 1 + name_length;
    struct hdf5_record record = {.kind = HDF5_RECORD_ATTRIBUTE, .bytes = (uint64_t)count};
    char *raw = calloc(1, bytes + 1);
    int is_variable = H5Tis_variable_str(type) > 0;
    if (raw && H5Aread(attribute, type, raw) >= 0) {
      size_t total = 0;
      for (hssize_t i = 0; i < count; ++i) {
        const char *text = is_variable ? ((char **)raw)[i] : raw + (size_t)i * size;
        total += (is_variable ? (text ? strlen(text) : 0) : strnlen(text, size)) + 1;
      }
      char *texts = total < w->limit ? malloc(total + 1) : NULL;
      if (texts) {
        char *place = texts;
        for (hssize_t i = 0; i < count; ++i) {
          const char *text = is_variable ? ((char **)raw)[i] : raw + (size_t)i * size;
          size_t length = is_variable ? (text ? strlen(text) : 0) : strnlen(text, size);
          if (length) memcpy(place, text, length);
          place[length] = 0;
          place += length + 1;
        }
        put(w, record, NULL, label, label_length, texts, total);
        free(texts);
      }
      if (is_variable) H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
    } else {
      put_error(w, "an attribute cannot be read");
    }
    free(raw);
  }
  H5Sclose(space);
  H5Tclose(type);
  H5Aclose(attribute);
  return 0;
}

// MARK: - Groups

static herr_t walk_link(hid_t group, const char *name, const H5L_info_t *info, void *data);

static void walk_group(struct walk *w, hid_t group, haddr_t address) {
  for (unsigned i = 0; i < w->depth; ++i) {
    if (w->above[i] == address) {
      put_text(w, HDF5_RECORD_ALIAS, "a link back");
      return;
    }
  }
  if (w->depth >= DEPTH_LIMIT) {
    put_text(w, HDF5_RECORD_REFUSED, "a group in more than 64 others");
    return;
  }
  w->above[w->depth++] = address;
  hsize_t attribute = 0;
  if (H5Aiterate2(group, H5_INDEX_NAME, H5_ITER_NATIVE, &attribute, walk_attribute, w) < 0)
    put_error(w, "the attributes cannot be listed");
  // In the order of creation where the file keeps it, by name where it does not.
  hid_t creation = H5Gget_create_plist(group);
  unsigned order = 0;
  int keeps_order = creation >= 0 && H5Pget_link_creation_order(creation, &order) >= 0 &&
                    (order & H5P_CRT_ORDER_TRACKED) != 0;
  if (creation >= 0) H5Pclose(creation);
  hsize_t link = 0;
  if (H5Literate(group, keeps_order ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME, H5_ITER_INC, &link,
                 walk_link, w) < 0)
    put_error(w, "the links cannot be listed");
  --w->depth;
}

static void walk_object(struct walk *w, hid_t object) {
  H5O_info_t info;
  if (H5Oget_info2(object, &info, H5O_INFO_BASIC) < 0) {
    put_error(w, "the object cannot be described");
    return;
  }
  if (info.type == H5O_TYPE_GROUP)
    walk_group(w, object, info.addr);
  else if (info.type == H5O_TYPE_DATASET)
    walk_dataset(w, object);
}

static herr_t walk_link(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  struct walk *w = data;
  size_t length = strlen(name), before = w->path_length;
  if (++w->links > LINK_LIMIT || length > NAME_LIMIT ||
      before + length + 2 > sizeof w->path) {
    put_text(w, HDF5_RECORD_REFUSED, "more links, or longer names, than any model has");
    return -1;
  }
  if (before) w->path[w->path_length++] = '/';
  memcpy(w->path + w->path_length, name, length);
  w->path_length += length;
  if (info->type == H5L_TYPE_HARD) {
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
      put_error(w, "the object cannot be opened");
    } else {
      walk_object(w, object);
      H5Oclose(object);
    }
  } else if (info->type == H5L_TYPE_SOFT) {
    put_text(w, HDF5_RECORD_ALIAS, "a link");
  } else {
    put_text(w, HDF5_RECORD_REFUSED, "a link into another file");
  }
  w->path_length = before;
  return 0;
}

// MARK: - The file

// The library takes the mapped bytes for its own copy: see the reference of H5Pset_file_image_callbacks.
static const void *image;
static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *data) {
  return (void)size, (void)op, (void)data, (void *)image;
}
static void *image_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t op,
                          void *data) {
  return (void)from, (void)size, (void)op, (void)data, to;
}
static void *image_realloc(void *bytes, size_t size, H5FD_file_image_op_t op, void *data) {
  return (void)bytes, (void)size, (void)op, (void)data, NULL;
}
static herr_t image_free(void *bytes, H5FD_file_image_op_t op, void *data) {
  return (void)bytes, (void)op, (void)data, 0;
}
static void *data_copy(void *data) { return data; }
static herr_t data_free(void *data) { return (void)data, 0; }

// At the program's end the library would close what is open, and it crashes on a file that a full disk cut off. Whoever
// opens a file here closes it; this must be said before the library's first use.
__attribute__((constructor)) static void close_nothing_at_exit(void) { H5dont_atexit(); }

void hdf5_prepare(void) {
  H5open();
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void hdf5_walk(const void *bytes, size_t count, void *answer, size_t limit, int chunks) {
  struct walk *w = calloc(1, sizeof *w);
  if (!w) return;
  w->answer = answer;
  w->limit = limit;
  w->chunks = chunks;
  head(w)->used = sizeof(struct hdf5_answer);
  image = bytes;
  // Filters of other libraries are never looked for.
  H5PLset_loading_state(0);
  // Memory goes back to the allocator, which knows of misuse; the library's own lists do not.
  H5set_free_list_limits(0, 0, 0, 0, 0, 0);
  H5FD_file_image_callbacks_t callbacks = {
      .image_malloc = image_malloc, .image_memcpy = image_memcpy, .image_realloc = image_realloc,
      .image_free = image_free, .udata_copy = data_copy, .udata_free = data_free, .udata = w};
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  hid_t file = -1;
  if (H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
      H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
      H5Pset_file_image(access, (void *)image, count) >= 0)
    file = H5Fopen("file", H5F_ACC_RDONLY, access);
  if (file < 0) {
    put_error(w, "it is no HDF5 file");
  } else {
    hid_t root = H5Oopen(file, "/", H5P_DEFAULT);
    if (root < 0)
      put_error(w, "it has no root");
    else
      walk_object(w, root);
  }
  head(w)->is_complete = 1;
}
