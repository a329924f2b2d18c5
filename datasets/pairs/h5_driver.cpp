#include "datasets/pairs/h5_driver.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"

namespace kvlingua::h5 {
namespace {

constexpr size_t kFlushBytes = size_t{16} << 20;

struct AccessInfo {
  DriverState* state;
};

struct OpenFile {
  H5FD_t base;  // first: HDF5 sees only this
  DriverState* state;
  std::filesystem::path path;
  int fd = -1;
  haddr_t end_of_allocation = 0;
  haddr_t end_of_file = 0;
  size_t unflushed = 0;  // bytes written since the system was last asked to begin writing back
};

OpenFile* self(H5FD_t* file) { return reinterpret_cast<OpenFile*>(file); }
const OpenFile* self(const H5FD_t* file) { return reinterpret_cast<const OpenFile*>(file); }

template <class F>
herr_t guarded(OpenFile* file, F&& work) {
  if (file->state->failure) return 0;
  try {
    work();
  } catch (...) {
    file->state->failure = std::current_exception();
  }
  return 0;
}

H5FD_t* open_file(const char* name, unsigned, hid_t access, haddr_t) {
  const auto* info = static_cast<const AccessInfo*>(H5Pget_driver_info(access));
  if (info == nullptr) return nullptr;
  auto file = std::make_unique<OpenFile>();
  std::memset(&file->base, 0, sizeof file->base);
  file->state = info->state;
  file->path = name;
  file->fd = file_ops::open(file->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC);
  if (file->fd < 0) {
    guarded(file.get(), [&] { file_ops::fail(file->path, "cannot be created", errno); });
    return nullptr;
  }
  return &file.release()->base;
}

herr_t close_file(H5FD_t* base) {
  std::unique_ptr<OpenFile> file(self(base));
  // A failed close of data already flushed loses nothing that fsync does not report later.
  ::close(file->fd);
  return 0;
}

int compare(const H5FD_t* a, const H5FD_t* b) { return a < b ? -1 : a > b; }

herr_t query(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr) {
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
  }
  return 0;
}

haddr_t get_eoa(const H5FD_t* file, H5FD_mem_t) { return self(file)->end_of_allocation; }
haddr_t get_eof(const H5FD_t* file, H5FD_mem_t) { return self(file)->end_of_file; }
herr_t set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  self(file)->end_of_allocation = address;
  return 0;
}

herr_t read(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  OpenFile* file = self(base);
  std::memset(buffer, 0, size);
  return guarded(file, [&] {
    size_t done = 0;
    while (done < size) {
      const ssize_t n = ::pread(file->fd, static_cast<char*>(buffer) + done, size - done,
                                static_cast<off_t>(address + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        throw Error({.where = file->path.string(),
                     .what = "cannot read back what was written",
                     .got = std::strerror(errno)});
      }
      if (n == 0) break;  // past the end: zeros, as HDF5's own driver gives
      done += static_cast<size_t>(n);
    }
  });
}

herr_t write(H5FD_t* base, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  OpenFile* file = self(base);
  if (address + size > file->end_of_file) file->end_of_file = address + size;
  return guarded(file, [&] {
    if (!file_ops::pwrite_all(file->fd, buffer, size, static_cast<off_t>(address))) {
      file_ops::fail(file->path, "cannot be written", errno, file->end_of_file);
    }
    // The disk begins now, not when the finished shard is flushed: that has little to wait for
    // then.
    file->unflushed += size;
    if (file->unflushed >= kFlushBytes) {
      ::sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
      file->unflushed = 0;
    }
  });
}

herr_t truncate(H5FD_t* base, hid_t, hbool_t) {
  OpenFile* file = self(base);
  if (file->end_of_file == file->end_of_allocation) return 0;
  file->end_of_file = file->end_of_allocation;
  return guarded(file, [&] {
    if (file_ops::truncate(file->fd, static_cast<off_t>(file->end_of_allocation)) != 0) {
      file_ops::fail(file->path, "cannot be truncated", errno);
    }
  });
}

hid_t driver() {
  static const hid_t id = [] {
    static H5FD_class_t cls;
    std::memset(&cls, 0, sizeof cls);
#ifdef H5FD_CLASS_VERSION  // 1.14
    cls.version = H5FD_CLASS_VERSION;
#endif
#if H5_VERSION_GE(1, 13, 0)
    cls.value = static_cast<H5FD_class_value_t>(600);
#endif
    cls.name = "kvlingua";
    cls.maxaddr = static_cast<haddr_t>(INT64_MAX);
    cls.fc_degree = H5F_CLOSE_STRONG;
    cls.fapl_size = sizeof(AccessInfo);
    cls.open = open_file;
    cls.close = close_file;
    cls.cmp = compare;
    cls.query = query;
    cls.get_eoa = get_eoa;
    cls.set_eoa = set_eoa;
    cls.get_eof = get_eof;
    cls.read = read;
    cls.write = write;
    cls.truncate = truncate;
    const H5FD_mem_t map[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
    std::memcpy(cls.fl_map, map, sizeof map);
    return H5FDregister(&cls);
  }();
  return id;
}

}  // namespace

void set_writing_driver(hid_t access, DriverState* state) {
  const AccessInfo info{state};
  if (driver() < 0 || H5Pset_driver(access, driver(), &info) < 0) {
    throw Error({.where = "HDF5", .what = "the file driver cannot be registered"});
  }
}

}  // namespace kvlingua::h5
