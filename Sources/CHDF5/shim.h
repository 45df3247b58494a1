#pragma once
#include <hdf5.h>

// Swift sees neither macros over C globals nor macros that call functions: one accessor for each one used.

static inline hid_t chdf5_file_creation(void) { return H5P_FILE_CREATE; }
static inline hid_t chdf5_file_access(void) { return H5P_FILE_ACCESS; }
static inline hid_t chdf5_dataset_creation(void) { return H5P_DATASET_CREATE; }
static inline hid_t chdf5_link_creation(void) { return H5P_LINK_CREATE; }
static inline hid_t chdf5_attribute_creation(void) { return H5P_ATTRIBUTE_CREATE; }
static inline hid_t chdf5_string(void) { return H5T_C_S1; }
static inline unsigned chdf5_truncate(void) { return H5F_ACC_TRUNC; }
static inline hid_t chdf5_default_errors(void) { return H5E_DEFAULT; }
static inline hid_t chdf5_float64(void) { return H5T_IEEE_F64LE; }
static inline hid_t chdf5_float32(void) { return H5T_IEEE_F32LE; }
static inline hid_t chdf5_int64(void) { return H5T_STD_I64LE; }
static inline hid_t chdf5_int32(void) { return H5T_STD_I32LE; }
static inline hid_t chdf5_int16(void) { return H5T_STD_I16LE; }
static inline hid_t chdf5_int8(void) { return H5T_STD_I8LE; }
static inline hid_t chdf5_uint64(void) { return H5T_STD_U64LE; }
static inline hid_t chdf5_uint32(void) { return H5T_STD_U32LE; }
static inline hid_t chdf5_uint16(void) { return H5T_STD_U16LE; }
static inline hid_t chdf5_uint8(void) { return H5T_STD_U8LE; }
static inline hsize_t chdf5_unlimited(void) { return H5S_UNLIMITED; }
