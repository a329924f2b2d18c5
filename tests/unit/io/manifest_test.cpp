#include "kvlingua/io/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class ManifestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(dir_ / "sub");
    dir_.write("a.h5", "content of a");
    dir_.write("sub/b.h5", "content of b");
    manifest_.attributes()["seed"] = 7;
    manifest_.set_file(dir_.path(), "a.h5", {{"samples", 12}});
    manifest_.set_file(dir_.path(), "sub/b.h5");
    manifest_.save(dir_ / "manifest.json");
  }
  std::vector<ManifestDamage> verify() const {
    return Manifest::load(dir_ / "manifest.json").verify(dir_.path());
  }

  TempDir dir_;
  Manifest manifest_;
};

TEST_F(ManifestTest, RoundTrip) {
  const Manifest back = Manifest::load(dir_ / "manifest.json");
  EXPECT_EQ(back.dump(), manifest_.dump());
  EXPECT_EQ(back.attributes()["seed"], 7);
  EXPECT_EQ(back.find("a.h5")->attributes["samples"], 12);
  EXPECT_EQ(back.find("a.h5")->bytes, 12u);
  EXPECT_EQ(back.find("a.h5")->sha256, sha256_hex("content of a"));
  EXPECT_EQ(back.find("c"), nullptr);
  EXPECT_TRUE(back.verify(dir_.path()).empty());
  EXPECT_EQ(Manifest::parse(Manifest().dump(), "m").entries().size(), 0u);
}

TEST_F(ManifestTest, EntriesAreReplacedInPlace) {
  dir_.write("a.h5", "other");
  manifest_.set_file(dir_.path(), "a.h5");
  EXPECT_EQ(manifest_.entries().size(), 2u);
  EXPECT_EQ(manifest_.entries()[0].bytes, 5u);
  manifest_.remove("a.h5");
  EXPECT_EQ(manifest_.entries().size(), 1u);
}

TEST_F(ManifestTest, NamesEveryDamagedFile) {
  dir_.write("a.h5", "content of A");  // one flipped bit
  fs::remove(dir_ / "sub" / "b.h5");
  auto damage = verify();
  ASSERT_EQ(damage.size(), 2u);
  EXPECT_EQ(damage[0].path, "a.h5");
  EXPECT_THAT(damage[0].reason, HasSubstr("content changed"));
  EXPECT_EQ(damage[1].path, "sub/b.h5");
  EXPECT_EQ(damage[1].reason, "missing");
  dir_.write("a.h5", "short");
  EXPECT_EQ(verify()[0].reason, "5 bytes instead of 12");
  fs::remove(dir_ / "a.h5");
  fs::create_directory(dir_ / "a.h5");
  EXPECT_EQ(verify()[0].reason, "not a file");
}

TEST_F(ManifestTest, ShallowVerifyAndProgress) {
  dir_.write("a.h5", "content of A");
  EXPECT_TRUE(manifest_.verify(dir_.path(), false).empty());
  uint64_t last = 0, total = 0;
  manifest_.verify(dir_.path(), true, [&](uint64_t done, uint64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  EXPECT_EQ(last, 24u);
  EXPECT_EQ(total, 24u);
}

// Every bit of every byte, and every truncation.
TEST_F(ManifestTest, DamageToItselfIsFound) {
  const std::string text = manifest_.dump();
  ASSERT_NO_THROW(Manifest::parse(text, "m"));
  for (size_t i = 0; i < text.size(); ++i) {
    for (const int bit : {0, 3, 5, 7}) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      EXPECT_THROW(Manifest::parse(flipped, "m"), Error) << "byte " << i << " bit " << bit;
    }
    EXPECT_THROW(Manifest::parse(text.substr(0, i), "m"), Error) << "cut at " << i;
  }
  EXPECT_THROW(Manifest::parse(text + " ", "m"), Error);
}

// A manifest with a right seal around wrong content.
std::string sealed(const std::string& above) {
  return above + "\"sha256_of_lines_above\": \"" + sha256_hex(above) + "\"}\n";
}

TEST(Manifest, HostileContentIsRefused) {
  const auto message_of = [](const std::string& entries, const std::string& version = "1") {
    try {
      Manifest::parse(sealed("{\"kvlingua_manifest\": " + version +
                             ",\n\"attributes\": {},\n\"entries\": " + entries + ",\n"),
                      "m");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string hash(64, 'a');
  const auto entry = [&](const std::string& path) {
    return "{\"path\":\"" + path + "\",\"bytes\":1,\"sha256\":\"" + hash + "\",\"attributes\":{}}";
  };
  EXPECT_EQ(message_of("[" + entry("a/b") + "]"), "accepted");
  for (const char* path :
       {"../a", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\\\b", "a\\u0000"}) {
    EXPECT_THAT(message_of("[" + entry(path) + "]"), HasSubstr("path leads out of the folder"))
        << path;
  }
  EXPECT_THAT(message_of("[" + entry("a") + "," + entry("a") + "]"), HasSubstr("listed twice"));
  EXPECT_THAT(message_of("[3]"), HasSubstr("m: entry 0: entry is not an object"));
  EXPECT_THAT(message_of("[{}]"), HasSubstr("no \"path\""));
  EXPECT_THAT(message_of("{}"), HasSubstr("no \"entries\""));
  EXPECT_THAT(message_of("[]", "2"), HasSubstr("another version"));
}

TEST(Manifest, AbsentFileIsInput) {
  try {
    Manifest::load("/no/such/manifest.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
  }
}

}  // namespace
}  // namespace kvlingua
