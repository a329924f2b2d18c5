// The real tokenizer of SmolLM2 against ids that the `tokenizers` library gave. KVLINGUA_MODELS
// names the folder of models.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "support/text_goldens.h"

namespace kvlingua {
namespace {

std::optional<std::filesystem::path> model() {
  const char* models = std::getenv("KVLINGUA_MODELS");
  if (models == nullptr) return std::nullopt;
  const auto path = std::filesystem::path(models) / "smollm2-135m-instruct";
  return std::filesystem::exists(path) ? std::optional(path) : std::nullopt;
}

TEST(SmolLM2, AgreesWithTheLibrary) {
  const auto path = model();
  if (!path) GTEST_SKIP() << "KVLINGUA_MODELS does not hold smollm2-135m-instruct";
  const Tokenizer tokenizer = Tokenizer::from_directory(*path);
  const auto expected = testing::golden("smollm2_real.json");
  EXPECT_GE(testing::compare_rows(tokenizer, expected["rows"],
                                  testing::golden("strings.json")["strings"]),
            300U);
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.eos_id(), 2);
}

TEST(SmolLM2, EncodesAMegabyteASecond) {
  const auto path = model();
  if (!path) GTEST_SKIP() << "KVLINGUA_MODELS does not hold smollm2-135m-instruct";
  const Tokenizer tokenizer = Tokenizer::from_directory(*path);
  std::string text;
  const auto strings = testing::golden("strings.json")["strings"];
  for (const std::string line : strings) {
    if (std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c < 127; }))
      text += line + "\n";
  }
  while (text.size() < (size_t{4} << 20)) text += std::string(text);
  const auto start = std::chrono::steady_clock::now();
  const size_t tokens = tokenizer.encode(text).size();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const double rate = static_cast<double>(text.size()) / 1e6 / seconds.count();
  std::printf("%zu bytes, %zu tokens, %.1f MB/s\n", text.size(), tokens, rate);
  EXPECT_GT(rate, 1.0);
}

}  // namespace
}  // namespace kvlingua
