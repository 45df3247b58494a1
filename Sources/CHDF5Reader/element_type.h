#pragma once
#include <hdf5.h>

/// The type of a dataset's elements; -1 when they are no numbers that a tensor can have.
int hdf5_element_type(hid_t type, H5T_class_t class);

/// What elements of a class are called in messages.
const char *hdf5_class_name(H5T_class_t class);
