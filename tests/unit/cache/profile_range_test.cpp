// What a profiler sees: this program attaches one of its own, by NVTX's way for programs that bring
// it with them.
#include "kvlingua/cache/profile_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/cache/stage_meter.h"

#ifdef KVLINGUA_CUDA
#define NVTX_NO_IMPL  // types alone
#include <nvtx3/nvToolsExt.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Seen {
  std::mutex mutex;
  std::vector<std::string> events;
  std::map<nvtxRangeId_t, std::string> open;
};
Seen& seen() {
  static Seen s;
  return s;
}

nvtxRangeId_t start_range(const char* name) {
  const std::lock_guard lock(seen().mutex);
  static nvtxRangeId_t next = 0;
  seen().events.push_back(std::string("+") + name);
  seen().open[++next] = name;
  return next;
}
void end_range(nvtxRangeId_t id) {
  const std::lock_guard lock(seen().mutex);
  seen().events.push_back("-" + seen().open.at(id));
  seen().open.erase(id);
}

int attach(NvtxGetExportTableFunc_t get) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr ||
      callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) == 0)
    return 0;
  *table[NVTX_CBID_CORE_RangeStartA] = reinterpret_cast<NvtxFunctionPointer>(start_range);
  *table[NVTX_CBID_CORE_RangeEnd] = reinterpret_cast<NvtxFunctionPointer>(end_range);
  return 1;
}

}  // namespace

extern "C" NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr;
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = attach;

namespace kvlingua {
namespace {

using ::testing::ElementsAre;

TEST(ProfileRange, StagesAndTheirPhasesAreSeenByAProfiler) {
  seen().events.clear();
  {
    const ProfileRange stage("train regression");
    StageMeter meter(at::kCPU);
    auto early = meter.time("load");
    early.stop();
    const auto steps = meter.time("steps", 3);
  }
  EXPECT_THAT(seen().events, ElementsAre("+train regression", "+load", "-load", "+steps", "-steps",
                                         "-train regression"));
  EXPECT_TRUE(seen().open.empty());
}

}  // namespace
}  // namespace kvlingua
#else
TEST(ProfileRange, StagesAndTheirPhasesAreSeenByAProfiler) {
  GTEST_SKIP() << "a build without CUDA has no ranges";
}
#endif
