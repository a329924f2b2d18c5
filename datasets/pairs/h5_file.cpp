#include "datasets/pairs/h5_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua::h5 {
namespace {

// HDF5 prints its error stack on stderr, per thread, unless told not to.
void be_quiet() {
  thread_local const bool done = [] {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return true;
  }();
  (void)done;
}

using Close = herr_t (*)(hid_t);
// A handle closed when it goes out of scope.
class Scoped {
 public:
  Scoped(hid_t id, Close close) : id_(id), close_(close) {}
  ~Scoped() {
    if (id_ >= 0) close_(id_);
  }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
  operator hid_t() const { return id_; }
  bool ok() const { return id_ >= 0; }

 private:
  hid_t id_;
  Close close_;
};

std::shared_ptr<void> shared_handle(hid_t id) {
  return std::shared_ptr<void>(new hid_t(id), [](void* p) {
    auto* handle = static_cast<hid_t*>(p);
    H5Dclose(*handle);
    delete handle;
  });
}
hid_t raw(const std::shared_ptr<void>& handle) { return *static_cast<const hid_t*>(handle.get()); }

// IEEE half precision, which HDF5 1.10 does not name.
hid_t half_type() {
  static const hid_t id = [] {
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_precision(type, 16);
    H5Tset_ebias(type, 15);
    H5Tset_size(type, 2);
    return type;
  }();
  return id;
}

hid_t h5_type(Type type) {
  switch (type) {
    case Type::kUint8:
      return H5T_STD_U8LE;
    case Type::kInt8:
      return H5T_STD_I8LE;
    case Type::kUint16:
      return H5T_STD_U16LE;
    case Type::kInt32:
      return H5T_STD_I32LE;
    case Type::kInt64:
      return H5T_STD_I64LE;
    case Type::kFloat16:
      return half_type();
    case Type::kFloat32:
      return H5T_IEEE_F32LE;
  }
  return -1;
}

std::vector<hsize_t> as_sizes(const std::vector<int64_t>& dims) {
  return {dims.begin(), dims.end()};
}

int64_t product(const std::vector<int64_t>& dims, size_t from) {
  int64_t n = 1;
  for (size_t i = from; i < dims.size(); ++i) n *= dims[i];
  return n;
}

std::string shape_text(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i)
    text += cat(i ? ", " : "", dims[i] < 0 ? "any" : std::to_string(dims[i]));
  return text + "]";
}

constexpr size_t kLongestAttribute = 64 << 10;

// One value: reading an attribute of more would write past where it is read to.
bool is_single(hid_t attribute) {
  const Scoped space(H5Aget_space(attribute), H5Sclose);
  return space.ok() && H5Sget_simple_extent_npoints(space) == 1;
}

// A name that stands for an object of this very file, not a link to another name or file.
bool is_hard_link(hid_t file, const std::string& name) {
  H5L_info_t info;
  return H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0 &&
         H5Lget_info(file, name.c_str(), &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
}

// What HDF5 says about its innermost error.
std::string innermost_error() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc != nullptr)
          *static_cast<std::string*>(out) = printable(error->desc);
        return 0;
      },
      &text);
  return text.empty() ? "HDF5 does not say why" : text;
}

}  // namespace

int64_t size_of(Type type) {
  switch (type) {
    case Type::kUint8:
    case Type::kInt8:
      return 1;
    case Type::kUint16:
    case Type::kFloat16:
      return 2;
    case Type::kInt32:
    case Type::kFloat32:
      return 4;
    case Type::kInt64:
      return 8;
  }
  return 0;
}

void File::check_writes() const {
  if (driver_ && driver_->failure) std::rethrow_exception(driver_->failure);
}

void File::fail(const std::string& what, const std::string& place) const {
  check_writes();
  const std::string where = place.empty() ? path_.string() : cat(path_.string(), ": ", place);
  throw Error({.code = writing_ ? ExitCode::kFailed : ExitCode::kCorrupt,
               .where = where,
               .what = what,
               .got = innermost_error()});
}

namespace {

// HDF5 locks the files it opens, and cannot open any where the file system has no locks (NFS
// without its daemon, some FUSE). Shards need none: they never change once they have their name,
// and generate has a lock of its own.
void without_lock(hid_t access) {
#if H5_VERSION_GE(1, 10, 7)
  H5Pset_file_locking(access, false, true);
#else
  ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
  (void)access;
#endif
}

}  // namespace

std::unique_ptr<File> File::create(const std::filesystem::path& path) {
  be_quiet();
  std::unique_ptr<File> file(new File);
  file->path_ = path;
  file->writing_ = true;
  file->driver_ = std::make_shared<DriverState>();
  const Scoped access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  set_writing_driver(access, file->driver_.get());
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  const Scoped creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);  // equal contents give equal bytes
  file->id_ = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access);
  if (file->id_ < 0) file->fail("cannot be created", "");
  return file;
}

std::unique_ptr<File> File::open(const std::filesystem::path& path) {
  be_quiet();
  std::unique_ptr<File> file(new File);
  file->path_ = path;
  std::error_code ignored;  // HDF5 would wait for a FIFO
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
    file->fail("is not a regular file", "");
  const Scoped access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  without_lock(access);
  file->id_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (file->id_ < 0) file->fail("is no HDF5 file that can be read", "");
  file->fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file->fd_ < 0) file->fail("cannot be opened", "");
  return file;
}

File::~File() {
  if (id_ >= 0) H5Fclose(id_);
  if (fd_ >= 0) ::close(fd_);
}

void File::close() {
  if (id_ < 0) return;
  const herr_t closed = H5Fclose(std::exchange(id_, -1));
  check_writes();
  if (closed < 0) fail("cannot be closed", "");
}

void File::release() {
  if (id_ >= 0) H5Fclose(std::exchange(id_, -1));
}

void File::make_group(const std::string& name) {
  be_quiet();
  const Scoped creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);
  const Scoped group(H5Gcreate2(id_, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose);
  if (!group.ok()) fail("group cannot be made", name);
}

void File::write_attribute(const std::string& name, std::string_view text) {
  be_quiet();
  // Long texts do not fit an attribute (64 KiB) in the oldest file format: they become a byte
  // array.
  if (text.size() > 60000) {
    write(name, Type::kUint8, {static_cast<int64_t>(text.size())}, text.data());
    return;
  }
  const Scoped type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, std::max<size_t>(text.size(), 1));
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  const Scoped space(H5Screate(H5S_SCALAR), H5Sclose);
  const Scoped attribute(H5Acreate2(id_, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  const char empty = 0;
  if (!attribute.ok() || H5Awrite(attribute, type, text.empty() ? &empty : text.data()) < 0) {
    fail("attribute cannot be written", name);
  }
}

void File::write_attribute(const std::string& name, int64_t value) {
  be_quiet();
  const Scoped space(H5Screate(H5S_SCALAR), H5Sclose);
  const Scoped attribute(
      H5Acreate2(id_, name.c_str(), H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.ok() || H5Awrite(attribute, H5T_NATIVE_INT64, &value) < 0)
    fail("attribute cannot be written", name);
}

std::string File::read_text_attribute(const std::string& name) const {
  be_quiet();
  if (H5Aexists(id_, name.c_str()) <= 0) {
    if (!has(name)) fail("attribute is missing", name);
    const auto bytes = read_all<char>(name, Type::kUint8);
    return {bytes.begin(), bytes.end()};
  }
  const Scoped attribute(H5Aopen(id_, name.c_str(), H5P_DEFAULT), H5Aclose);
  if (!attribute.ok()) fail("attribute cannot be read", name);
  const Scoped type(H5Aget_type(attribute), H5Tclose);
  if (!type.ok() || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0 ||
      !is_single(attribute) || H5Tget_size(type) > kLongestAttribute)
    fail("attribute is no text", name);
  std::string text(H5Tget_size(type), '\0');
  if (H5Aread(attribute, type, text.data()) < 0) fail("attribute cannot be read", name);
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

int64_t File::read_int_attribute(const std::string& name) const {
  be_quiet();
  const Scoped attribute(
      H5Aexists(id_, name.c_str()) > 0 ? H5Aopen(id_, name.c_str(), H5P_DEFAULT) : -1, H5Aclose);
  int64_t value = 0;
  const Scoped type(attribute.ok() ? H5Aget_type(attribute) : -1, H5Tclose);
  if (!type.ok() || H5Tget_class(type) != H5T_INTEGER || !is_single(attribute))
    fail("attribute is no number", name);
  if (H5Aread(attribute, H5T_NATIVE_INT64, &value) < 0) fail("attribute cannot be read", name);
  return value;
}

void File::write(const std::string& name, Type type, const std::vector<int64_t>& dims,
                 const void* data) {
  be_quiet();
  const Scoped creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);
  const int64_t bytes = product(dims, 0) * size_of(type);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  const auto sizes = as_sizes(dims);
  const Scoped space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
                     H5Sclose);
  const Scoped set(
      H5Dcreate2(id_, name.c_str(), h5_type(type), space, H5P_DEFAULT, creation, H5P_DEFAULT),
      H5Dclose);
  if (!set.ok() ||
      (bytes > 0 && H5Dwrite(set, h5_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)) {
    fail("array cannot be written", name);
  }
  check_writes();
}

Array File::create_rows(const std::string& name, Type type, const std::vector<int64_t>& dims) {
  be_quiet();
  Array array;
  array.file_ = this;
  array.name_ = name;
  array.type_ = type;
  array.dims_ = dims;
  array.row_bytes_ = product(dims, 1) * size_of(type);
  const Scoped creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation, false);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  const auto sizes = as_sizes(dims);
  const Scoped space(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr),
                     H5Sclose);
  const hid_t set =
      H5Dcreate2(id_, name.c_str(), h5_type(type), space, H5P_DEFAULT, creation, H5P_DEFAULT);
  if (set < 0) fail("array cannot be made", name);
  array.handle_ = shared_handle(set);
  return array;
}

void Array::append(const void* data, int64_t count) {
  be_quiet();
  if (count == 0) return;
  if (written_ + count > rows()) {
    throw Error({.where = cat(file_->path().string(), ": ", name_),
                 .what = "more rows than planned",
                 .got = cat(written_ + count),
                 .expected = cat(rows())});
  }
  auto offset = as_sizes(dims_), block = as_sizes(dims_);
  std::fill(offset.begin(), offset.end(), 0);
  offset[0] = static_cast<hsize_t>(written_);
  block[0] = static_cast<hsize_t>(count);
  const hid_t set = raw(handle_);
  const Scoped in_file(H5Dget_space(set), H5Sclose);
  const Scoped in_memory(H5Screate_simple(static_cast<int>(block.size()), block.data(), nullptr),
                         H5Sclose);
  H5Sselect_hyperslab(in_file, H5S_SELECT_SET, offset.data(), nullptr, block.data(), nullptr);
  if (H5Dwrite(set, h5_type(type_), in_memory, in_file, H5P_DEFAULT, data) < 0)
    file_->fail("array cannot be written", name_);
  file_->check_writes();
  written_ += count;
}

void File::read_bytes(int64_t place, int64_t size, void* data, const std::string& name) const {
  for (int64_t done = 0; done < size;) {
    const ssize_t n = ::pread(fd_, static_cast<char*>(data) + done,
                              static_cast<size_t>(size - done), place + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(path_.string(), ": ", name),
                   .what = "cannot be read",
                   .got = n < 0 ? std::strerror(errno) : "the file ends"});
    }
    done += n;
  }
}

bool File::has(const std::string& name) const {
  be_quiet();
  // H5Lexists fails on a missing group in the middle of a path: ask level by level.
  for (size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    if (!is_hard_link(id_, name.substr(0, slash))) return false;
  }
  return is_hard_link(id_, name);
}

void File::refuse(const std::string& name, const std::string& what, const std::string& got,
                  const std::string& expected) const {
  throw Error({.code = ExitCode::kCorrupt,
               .where = cat(path_.string(), ": ", name),
               .what = what,
               .got = got,
               .expected = expected});
}

// Where an array's bytes lie in this file. Only what is stored as this program stores it is read:
// in one piece, here. Chunks, external files and virtual arrays would read bytes that the hash of
// this file says nothing about, or claim sizes that no byte stands behind.
int64_t File::place_of(hid_t set, const std::string& name, int64_t bytes) const {
  const Scoped creation(H5Dget_create_plist(set), H5Pclose);
  if (!creation.ok() || H5Pget_layout(creation) != H5D_CONTIGUOUS ||
      H5Pget_external_count(creation) != 0 || H5Pget_nfilters(creation) != 0)
    refuse(name, "array is not stored in one piece of this file", "another storage",
           "contiguous storage, as kvlingua generate writes");
  if (bytes == 0) return 0;  // nothing to read, and no place
  const haddr_t place = H5Dget_offset(set);
  struct stat status {};
  if (place == HADDR_UNDEF || ::fstat(fd_, &status) != 0 || status.st_size < bytes ||
      place > static_cast<haddr_t>(status.st_size - bytes))
    refuse(name, "array reaches past the end of the file", cat(bytes, " bytes"),
           cat("within ", status.st_size));
  return static_cast<int64_t>(place);
}

Array File::array(const std::string& name, Type type, const std::vector<int64_t>& dims) const {
  be_quiet();
  if (!has(name)) fail("array is missing", name);
  const Scoped set(H5Dopen2(id_, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!set.ok()) fail("array cannot be opened", name);
  Array array;
  array.file_ = const_cast<File*>(this);
  array.name_ = name;
  array.type_ = type;
  const Scoped stored(H5Dget_type(set), H5Tclose);
  const Scoped space(H5Dget_space(set), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> sizes(static_cast<size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  bool fits = sizes.size() == dims.size() && H5Tequal(stored, h5_type(type)) > 0;
  int64_t bytes = size_of(type);
  for (size_t i = 0; i < sizes.size(); ++i) {
    const bool small = sizes[i] <= static_cast<hsize_t>(INT64_MAX);
    array.dims_.push_back(small ? static_cast<int64_t>(sizes[i]) : INT64_MAX);
    fits = fits && small && (dims[i] < 0 || dims[i] == array.dims_[i]) &&
           !__builtin_mul_overflow(bytes, array.dims_[i], &bytes);
  }
  if (!fits)
    refuse(name, "array has another type or shape", shape_text(array.dims_), shape_text(dims));
  array.row_bytes_ = product(array.dims_, 1) * size_of(type);
  array.place_ = place_of(set, name, bytes);
  return array;
}

void Array::read(int64_t begin, int64_t count, void* data) const {
  be_quiet();
  if (count == 0) return;
  if (begin < 0 || count < 0 || count > rows() || begin > rows() - count) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(file_->path().string(), ": ", name_),
                 .what = "rows outside the array",
                 .got = cat("[", begin, ", ", begin + count, ")"),
                 .expected = cat("within [0, ", rows(), ")")});
  }
  file_->read_bytes(place_ + begin * row_bytes_, count * row_bytes_, data, name_);
}

}  // namespace kvlingua::h5
