// Runs a fuzz target over the files of a folder: the kept corpus as an ordinary test.
//
//   replay_X FOLDER...            every file once
//   replay_X --random N [SEED]    N made-up inputs, for machines without a fuzzer; says how many
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "kvlingua/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

int random_inputs(int64_t n, uint64_t seed) {
  for (int64_t i = 0; i < n; ++i) {
    kvlingua::Random random(kvlingua::mix(seed, static_cast<uint64_t>(i)));
    std::vector<uint8_t> bytes(1 + random.below(48));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random.next());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%lld random inputs, seed %llu\n", static_cast<long long>(n),
              static_cast<unsigned long long>(seed));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2 && std::strcmp(argv[1], "--random") == 0)
    return random_inputs(std::atoll(argv[2]), argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      ++count;
    }
  }
  std::printf("%zu inputs replayed\n", count);
  return count > 0 ? 0 : 1;  // an empty corpus is a test that cannot fail
}
