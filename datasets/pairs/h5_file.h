// A thin, typed layer over the HDF5 C library: one file, simple arrays, string attributes, errors
// as kvlingua::Error.
//
// Written files go through a file driver of our own (h5_driver.h) over kvlingua/io/file_ops.h, so
// that a full disk is seen as what it is and crash tests reach every write HDF5 makes. HDF5 takes a
// global lock: calls from several threads are safe and serialised. Knows nothing of pair sets. HDF5
// C API: docs.hdfgroup.org/hdf5/v1_10.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/pairs/h5_driver.h"

#ifndef H5_HAVE_THREADSAFE
#error "several threads write and read shards: HDF5 must be built thread-safe, as Debian's is"
#endif

namespace kvlingua::h5 {

// Types of array elements on disk; all little-endian.
enum class Type { kUint8, kInt8, kUint16, kInt32, kInt64, kFloat16, kFloat32 };
int64_t size_of(Type type);

class File;

// One array, open for writing or reading of row ranges (rows = the first dimension).
class Array {
 public:
  Array() = default;
  const std::vector<int64_t>& dims() const { return dims_; }
  int64_t rows() const { return dims_.empty() ? 0 : dims_[0]; }
  int64_t row_bytes() const { return row_bytes_; }
  Type type() const { return type_; }
  // Writes the next `count` rows (only arrays made with create_rows). Throws Error: kDiskFull,
  // kFailed.
  void append(const void* data, int64_t count);
  int64_t written() const { return written_; }  // rows appended so far
  // Reads rows [begin, begin + count), past HDF5, which allows one thread at a time. Throws Error
  // (kCorrupt).
  void read(int64_t begin, int64_t count, void* data) const;

 private:
  friend class File;
  File* file_ = nullptr;
  std::shared_ptr<void> handle_;  // hid_t, closed with the last copy; null of one that is read
  std::string name_;
  std::vector<int64_t> dims_;
  int64_t row_bytes_ = 0, written_ = 0;
  int64_t place_ = -1;  // of the first row in the file, when rows lie one after the other there
  Type type_ = Type::kUint8;
};

class File {
 public:
  // Creates (truncates) `path` for writing.
  static std::unique_ptr<File> create(const std::filesystem::path& path);
  // Opens for reading. The caller has checked the file's hash: HDF5 is not safe on hostile files.
  static std::unique_ptr<File> open(const std::filesystem::path& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void make_group(const std::string& name);
  void write_attribute(const std::string& name, std::string_view text);
  void write_attribute(const std::string& name, int64_t value);
  std::string read_text_attribute(const std::string& name) const;
  int64_t read_int_attribute(const std::string& name) const;

  // A small array, contiguous, written at once.
  void write(const std::string& name, Type type, const std::vector<int64_t>& dims,
             const void* data);
  // An array of dims[0] rows, to be appended in parts. Contiguous: a run of rows is one write and
  // one read.
  Array create_rows(const std::string& name, Type type, const std::vector<int64_t>& dims);
  bool has(const std::string& name) const;
  // Throws Error (kCorrupt) when the array is not there under a name of its own (links are not
  // followed), its type or inner dimensions are others, or its bytes do not all lie in one piece in
  // this file. A dimension of -1 accepts any size.
  Array array(const std::string& name, Type type, const std::vector<int64_t>& dims) const;
  // Whole small arrays.
  template <class T>
  std::vector<T> read_all(const std::string& name, Type type, int64_t count = -1) const {
    const Array a = array(name, type, {count});
    std::vector<T> out(static_cast<size_t>(a.rows()));
    if (a.rows() > 0) a.read(0, a.rows(), out.data());
    return out;
  }

  // After all arrays were asked for: lets HDF5 go, and with it about half a megabyte a file. Later
  // only arrays already asked for may be read.
  void release();
  // Flushes, closes. Throws what the last writes failed with. Nothing may be written afterwards.
  void close();
  const std::filesystem::path& path() const { return path_; }

 private:
  friend class Array;
  File() = default;
  [[noreturn]] void fail(const std::string& what, const std::string& place) const;
  void check_writes() const;
  [[noreturn]] void refuse(const std::string& name, const std::string& what, const std::string& got,
                           const std::string& expected) const;
  int64_t place_of(hid_t set, const std::string& name, int64_t bytes) const;
  void read_bytes(int64_t place, int64_t size, void* data, const std::string& name) const;

  std::filesystem::path path_;
  hid_t id_ = -1;
  int fd_ = -1;  // for reads past HDF5
  bool writing_ = false;
  std::shared_ptr<DriverState> driver_;
};

}  // namespace kvlingua::h5
