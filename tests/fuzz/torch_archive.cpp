// A `.pt` file, and the pickle inside one, from arbitrary bytes.
// layers: io
#include "kvlingua/io/torch_archive.h"

#include <cstdint>

#include "kvlingua/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    // Most random archives fail at the zip; the pickle machine is what needs the work.
    if (bytes.substr(0, 2) == "PK") {
      kvlingua::read_torch_archive(bytes, "fuzz");
    } else {
      kvlingua::read_pickle_for_fuzzing(bytes);
    }
  } catch (const kvlingua::Error&) {
  }
  return 0;
}
