#include "kvlingua/cache/profile_range.h"

#ifdef KVLINGUA_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

#include <utility>

namespace kvlingua {

#ifdef KVLINGUA_CUDA

ProfileRange::ProfileRange(const std::string& name) : id_(nvtxRangeStartA(name.c_str())) {}

void ProfileRange::end() {
  if (std::exchange(open_, false)) nvtxRangeEnd(id_);
}

#else

ProfileRange::ProfileRange(const std::string&) {}

void ProfileRange::end() { open_ = false; }

#endif

}  // namespace kvlingua
