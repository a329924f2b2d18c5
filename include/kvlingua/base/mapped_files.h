// Which file a mapped address belongs to: a file that is cut while it is mapped, or a disk that is
// full under one that is written, ends the process with SIGBUS, and nobody but this table knows
// whose address it was.
#pragma once

#include <cstddef>
#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {

// Registered while it lives. `code`: what the process ends with when it is this file's fault.
class MappedFile {
 public:
  MappedFile(const void* begin, size_t size, const std::string& path,
             ExitCode code = ExitCode::kCorrupt);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

 private:
  int slot_ = -1;
};

// Makes a bus error within a mapped file one line that names it and its exit code. For main alone.
// The one signal handler of the program: it never returns to the code that it interrupts, so what
// that keeps below its stack pointer does not matter.
void install_bus_error_line();

}  // namespace kvlingua
