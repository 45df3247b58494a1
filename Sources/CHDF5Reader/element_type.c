// Which element type of ours a type of HDF5 is, by its bits.
//
// Source   https://docs.hdfgroup.org/hdf5/v1_10, H5Tset_fields; bfloat16 is a float type of our writer's making

#include "element_type.h"
#include "hdf5_reader.h"

static int is_float(hid_t type, size_t size, size_t sign, size_t exponent, size_t exponent_bits,
                    size_t mantissa_bits, size_t bias) {
  size_t s, e, eb, m, mb;
  return H5Tget_size(type) == size && H5Tget_fields(type, &s, &e, &eb, &m, &mb) >= 0 &&
         s == sign && e == exponent && eb == exponent_bits && m == 0 && mb == mantissa_bits &&
         H5Tget_ebias(type) == bias && H5Tget_norm(type) == H5T_NORM_IMPLIED &&
         H5Tget_offset(type) == 0 && H5Tget_precision(type) == 8 * size;
}

static int float_type(hid_t type) {
  if (is_float(type, 4, 31, 23, 8, 23, 127)) return HDF5_F32;
  if (is_float(type, 8, 63, 52, 11, 52, 1023)) return HDF5_F64;
  if (is_float(type, 2, 15, 10, 5, 10, 15)) return HDF5_F16;
  if (is_float(type, 2, 15, 7, 8, 7, 127)) return HDF5_BF16;
  return -1;
}

static int integer_type(hid_t type) {
  static const int types[2][4] = {{HDF5_U8, HDF5_U16, HDF5_U32, HDF5_U64},
                                  {HDF5_I8, HDF5_I16, HDF5_I32, HDF5_I64}};
  size_t size = H5Tget_size(type);
  int index = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : size == 8 ? 3 : -1;
  if (index < 0 || H5Tget_precision(type) != 8 * size || H5Tget_offset(type) != 0) return -1;
  return types[H5Tget_sign(type) == H5T_SGN_2][index];
}

// h5py's booleans: an enumeration of FALSE = 0 and TRUE = 1 over one byte.
static int is_boolean(hid_t type) {
  signed char value = -1;
  return H5Tget_size(type) == 1 && H5Tget_nmembers(type) == 2 &&
         H5Tenum_valueof(type, "FALSE", &value) >= 0 && value == 0 &&
         H5Tenum_valueof(type, "TRUE", &value) >= 0 && value == 1;
}

const char *hdf5_class_name(H5T_class_t class) {
  switch (class) {
    case H5T_STRING: return "texts";
    case H5T_COMPOUND: return "compounds";
    case H5T_VLEN: return "lists of different lengths";
    case H5T_REFERENCE: return "references";
    case H5T_OPAQUE: return "opaque bytes";
    case H5T_ENUM: return "an enumeration";
    case H5T_ARRAY: return "arrays";
    case H5T_BITFIELD: return "bit fields";
    case H5T_TIME: return "times";
    default: return "elements of no known kind";
  }
}

int hdf5_element_type(hid_t type, H5T_class_t class) {
  if (class == H5T_FLOAT) return float_type(type);
  if (class == H5T_INTEGER) return integer_type(type);
  if (class == H5T_ENUM && is_boolean(type)) return HDF5_BOOL;
  return -1;
}
