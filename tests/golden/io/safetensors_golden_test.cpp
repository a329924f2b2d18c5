// Files written by the reference implementation are read as they were meant, and written again byte
// for byte.
#include <gtest/gtest.h>

#include "kvlingua/io/json.h"
#include "kvlingua/io/safetensors.h"
#include "kvlingua/io/safetensors_writer.h"
#include "kvlingua/io/sha256.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

class SafetensorsGolden : public ::testing::TestWithParam<std::string> {
 protected:
  const std::filesystem::path data_ = std::filesystem::path(KVLINGUA_TEST_DATA) / "io";
  const std::filesystem::path path_ = data_ / (GetParam() + ".safetensors");
  const nlohmann::json expected_ =
      parse_json(read_text_file(data_ / (GetParam() + ".json")), GetParam());
};

TEST_P(SafetensorsGolden, IsReadAsMeant) {
  const SafetensorsFile file = SafetensorsFile::open(path_);
  EXPECT_EQ(nlohmann::json(file.metadata()), expected_["metadata"]);
  ASSERT_EQ(file.tensors().size(), expected_["tensors"].size());
  for (const auto& [name, tensor] : expected_["tensors"].items()) {
    const SafetensorsView& view = file.at(name);
    EXPECT_EQ(to_string(view.dtype), tensor["dtype"].get<std::string>()) << name;
    EXPECT_EQ(nlohmann::json(view.shape), tensor["shape"]) << name;
    const std::string_view bytes(reinterpret_cast<const char*>(view.data.data()), view.data.size());
    EXPECT_EQ(sha256_hex(bytes), tensor["sha256"].get<std::string>()) << name;
  }
}

TEST_P(SafetensorsGolden, IsWrittenByteForByte) {
  const SafetensorsFile file = SafetensorsFile::open(path_);
  const TempDir dir;
  std::vector<SafetensorsEntry> specs;
  for (const auto& [name, view] : file.tensors()) specs.push_back({name, view.dtype, view.shape});
  SafetensorsWriter writer(dir / "copy.safetensors", specs, file.metadata());
  for (const auto& [name, view] : file.tensors()) {
    const size_t half = view.data.size() / 2;
    writer.write(name, view.data.first(half));
    writer.write(name, view.data.subspan(half));
  }
  writer.finish();
  EXPECT_EQ(bytes_of(dir / "copy.safetensors"), bytes_of(path_));
  EXPECT_EQ(writer.file_bytes(), std::filesystem::file_size(path_));
}

INSTANTIATE_TEST_SUITE_P(Files, SafetensorsGolden,
                         ::testing::Values("all_dtypes", "with_metadata"));

}  // namespace
}  // namespace kvlingua
