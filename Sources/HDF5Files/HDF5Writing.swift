// The calls of libhdf5 that make a file. All of them happen inside HDF5Library's lock.

import CHDF5
import Checkpoints
import Tensors

import Glibc

enum HDF5Writing {
  /// The innermost message of the library's error stack.
  static func error(_ path: String, _ tensor: String?) -> CheckpointError {
    var text = ""
    unsafe withUnsafeMutablePointer(to: &text) { pointer in
      _ = unsafe H5Ewalk2(
        chdf5_default_errors(), H5E_WALK_DOWNWARD,
        { _, error, data in
          if let error = unsafe error, let words = unsafe error.pointee.desc {
            unsafe data?.assumingMemoryBound(to: String.self).pointee = String(cString: words)
          }
          return 0
        }, pointer)
    }
    H5Eclear2(chdf5_default_errors())
    return CheckpointError(path: path, tensor: tensor, .hdf5(text))
  }

  /// A new file whose links keep the order in which they were made.
  static func createFile(
    _ temporaryPath: String, path: String
  ) throws(CheckpointError) -> hid_t {
    H5open()
    // Messages are ours to print, or not.
    H5Eset_auto2(chdf5_default_errors(), nil, nil)
    let creation = H5Pcreate(chdf5_file_creation())
    let access = H5Pcreate(chdf5_file_access())
    defer {
      H5Pclose(creation)
      H5Pclose(access)
    }
    // Clocks are not written: the same work gives the same bytes.
    H5Pset_obj_track_times(creation, false)
    H5Pset_link_creation_order(
      creation, UInt32(H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED))
    // Attributes of more than 64 KB and the order of links need the format of version 1.8.
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18)
    let file = unsafe H5Fcreate(temporaryPath, chdf5_truncate(), creation, access)
    guard file >= 0 else {
      H5Eclear2(chdf5_default_errors())
      throw CheckpointError(path: path, .hdf5("the file cannot be created"))
    }
    return file
  }

  /// A text as a fixed-length UTF-8 attribute.
  static func attribute(
    of file: hid_t, _ name: String, _ text: String, path: String
  ) throws(CheckpointError) {
    let type = H5Tcopy(chdf5_string())
    H5Tset_size(type, max(1, text.utf8.count))
    H5Tset_cset(type, H5T_CSET_UTF8)
    H5Tset_strpad(type, H5T_STR_NULLPAD)
    let space = H5Screate(H5S_SCALAR)
    let attribute = unsafe H5Acreate2(file, name, type, space, 0, 0)
    defer {
      H5Aclose(attribute)
      H5Sclose(space)
      H5Tclose(type)
    }
    guard attribute >= 0, unsafe H5Awrite(attribute, type, Array(text.utf8) + [0]) >= 0 else {
      throw error(path, nil)
    }
  }

  /// Texts as an attribute, each of the length of the longest.
  static func attribute(
    of object: hid_t, _ name: String, texts: [String], path: String
  ) throws(CheckpointError) {
    let length = max(1, texts.map(\.utf8.count).max() ?? 0)
    var bytes = [UInt8](repeating: 0, count: max(1, texts.count * length))
    for (index, text) in texts.enumerated() {
      bytes.replaceSubrange(index * length..<index * length + text.utf8.count, with: text.utf8)
    }
    let type = H5Tcopy(chdf5_string())
    H5Tset_size(type, length)
    H5Tset_cset(type, H5T_CSET_UTF8)
    H5Tset_strpad(type, H5T_STR_NULLPAD)
    let space = unsafe H5Screate_simple(1, [hsize_t(texts.count)], nil)
    let attribute = unsafe H5Acreate2(object, name, type, space, 0, 0)
    defer {
      H5Aclose(attribute)
      H5Sclose(space)
      H5Tclose(type)
    }
    guard attribute >= 0 else { throw error(path, nil) }
    if texts.isEmpty { return }
    guard unsafe H5Awrite(attribute, type, bytes) >= 0 else { throw error(path, nil) }
  }

  /// Makes a group and those that it lies in; false when the library refused.
  static func group(in file: hid_t, _ name: String) -> Bool {
    let links = H5Pcreate(chdf5_link_creation())
    H5Pset_char_encoding(links, H5T_CSET_UTF8)
    H5Pset_create_intermediate_group(links, 1)
    let group = unsafe H5Gcreate2(file, name, links, 0, 0)
    H5Pclose(links)
    guard group >= 0 else { return false }
    return H5Gclose(group) >= 0
  }

  /// Writes a dataset; false when the library refused.
  static func dataset(
    in file: hid_t, _ link: String, _ tensor: Tensor, _ options: HDF5Writer.Options
  ) -> Bool {
    let type = elementType(tensor.dtype)
    let sizes = tensor.shape.map { hsize_t($0) }
    let space =
      sizes.isEmpty
      ? H5Screate(H5S_SCALAR) : unsafe H5Screate_simple(Int32(sizes.count), sizes, nil)
    let links = H5Pcreate(chdf5_link_creation())
    let creation = H5Pcreate(chdf5_dataset_creation())
    H5Pset_obj_track_times(creation, false)
    H5Pset_char_encoding(links, H5T_CSET_UTF8)
    H5Pset_create_intermediate_group(links, 1)
    if let level = options.deflateLevel, tensor.count > 0, !sizes.isEmpty {
      let chunk = chunkShape(tensor.shape, elements: options.chunkElements).map { hsize_t($0) }
      unsafe H5Pset_chunk(creation, Int32(chunk.count), chunk)
      H5Pset_shuffle(creation)
      H5Pset_deflate(creation, level)
    }
    let dataset = unsafe H5Dcreate2(file, link, type, space, links, creation, 0)
    defer {
      if dataset >= 0 { H5Dclose(dataset) }
      H5Pclose(creation)
      H5Pclose(links)
      H5Sclose(space)
      H5Tclose(type)
    }
    guard dataset >= 0 else { return false }
    guard tensor.count > 0 else { return true }
    return tensor.withBytes { span in
      unsafe span.withUnsafeBytes { unsafe H5Dwrite(dataset, type, 0, 0, 0, $0.baseAddress) >= 0 }
    }
  }

  /// As many whole rows of the outermost dimensions as fit, at least one element.
  static func chunkShape(_ shape: [Int], elements: Int) -> [Int] {
    var left = max(1, elements)
    var chunk = shape
    for index in shape.indices.reversed() {
      chunk[index] = min(shape[index], max(1, left))
      left /= max(1, chunk[index])
    }
    return chunk
  }

  /// The little-endian type of an element, which the caller closes.
  static func elementType(_ dtype: DType) -> hid_t {
    switch dtype {
    case .float64: return H5Tcopy(chdf5_float64())
    case .float32: return H5Tcopy(chdf5_float32())
    case .float16: return smallFloat(exponentBits: 5, mantissaBits: 10, bias: 15)
    case .bfloat16: return smallFloat(exponentBits: 8, mantissaBits: 7, bias: 127)
    case .int64: return H5Tcopy(chdf5_int64())
    case .int32: return H5Tcopy(chdf5_int32())
    case .int16: return H5Tcopy(chdf5_int16())
    case .int8: return H5Tcopy(chdf5_int8())
    case .uint64: return H5Tcopy(chdf5_uint64())
    case .uint32: return H5Tcopy(chdf5_uint32())
    case .uint16: return H5Tcopy(chdf5_uint16())
    case .uint8: return H5Tcopy(chdf5_uint8())
    case .bool:
      let type = H5Tenum_create(chdf5_int8())
      for (name, value) in [("FALSE", Int8(0)), ("TRUE", Int8(1))] {
        var value = value
        unsafe H5Tenum_insert(type, name, &value)
      }
      return type
    }
  }

  /// Two bytes: sign, exponent, mantissa from the top.
  private static func smallFloat(exponentBits: Int, mantissaBits: Int, bias: Int) -> hid_t {
    let type = H5Tcopy(chdf5_float32())
    H5Tset_fields(type, 15, mantissaBits, exponentBits, 0, mantissaBits)
    H5Tset_size(type, 2)
    H5Tset_ebias(type, bias)
    return type
  }
}
