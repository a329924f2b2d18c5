// An HDF5 virtual file driver that writes through kvlingua/io/file_ops.h.
//
// HDF5's own driver hides why a write failed, and a file whose writes failed cannot even be closed.
// This one remembers the first error and from then on pretends success, so the library can close
// the file; the owner looks at `failure` before believing anything. Only for files being written
// by this process.
#pragma once

#include <hdf5.h>

#include <exception>
#include <filesystem>

namespace kvlingua::h5 {

struct DriverState {
  std::exception_ptr failure;  // of the first read, write or truncation that failed
};

// Makes `access` (a file access property list) use the driver; `state` must outlive the file.
void set_writing_driver(hid_t access, DriverState* state);

}  // namespace kvlingua::h5
