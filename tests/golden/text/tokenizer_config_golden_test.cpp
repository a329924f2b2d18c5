// tokenizer_config.json and its companions as transformers reads them
// (scripts/goldens/tokenizer_config.py).
#include "kvlingua/text/tokenizer.h"
#include "support/temp_dir.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using nlohmann::json;
using testing::golden;
using testing::slurp;

void put(const std::filesystem::path& file, const json& content) {
  std::ofstream(file, std::ios::binary) << content.dump();
}

const std::filesystem::path kTokenizer =
    std::filesystem::path(KVLINGUA_TEST_DATA).parent_path().parent_path().parent_path() /
    "checkpoints/nano/source/tokenizer.json";

TEST(TokenizerConfigGolden, IsAppliedAsTransformersDoes) {
  const json data = golden("tokenizer_config.json");
  size_t compared = 0;
  for (const json& row : data["rows"]) {
    const TempDir folder;
    std::filesystem::copy_file(kTokenizer, folder / "tokenizer.json");
    put(folder / "tokenizer_config.json", row["config"]);
    for (const auto& [file, content] : row["files"].items()) put(folder / file, content);
    const Tokenizer tokenizer = Tokenizer::from_directory(folder.path());
    EXPECT_EQ(tokenizer.eos_id(), row["eos"].get<int64_t>()) << row["name"];
    for (size_t i = 0; i < data["texts"].size(); ++i) {
      const auto text = data["texts"][i].get<std::string>();
      EXPECT_EQ(json(tokenizer.encode(text, true).ids), row["ids"][i])
          << row["name"] << " " << text;
      EXPECT_EQ(json(tokenizer.encode(text, false).ids), row["plain"][i])
          << row["name"] << " " << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 100U);
}

TEST(TokenizerConfigGolden, WhatALastCallCutAndPaddedIsOfThatCall) {
  const json data = golden("tokenizer_config.json"), &saved = data["saved after a call"];
  json file = json::parse(slurp(kTokenizer));
  file["truncation"] = saved["truncation"];
  file["padding"] = saved["padding"];
  const Tokenizer tokenizer = Tokenizer::from_json(file.dump());
  for (size_t i = 0; i < data["texts"].size(); ++i) {
    EXPECT_EQ(json(tokenizer.encode(data["texts"][i].get<std::string>()).ids), saved["ids"][i]);
  }
}

}  // namespace
}  // namespace kvlingua
