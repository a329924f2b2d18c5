#include "kvlingua/io/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A cache of its own for each test.
class Hub : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "kvlingua-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    ::unsetenv("HUGGINGFACE_HUB_CACHE");
    ::unsetenv("KVLINGUA_MODELS");
    ::setenv("HF_HUB_CACHE", root_.c_str(), 1);
  }
  void TearDown() override {
    fs::remove_all(root_);
    ::unsetenv("HF_HUB_CACHE");
    ::unsetenv("KVLINGUA_MODELS");
  }

  // A snapshot as huggingface_hub lays it out: links into blobs.
  fs::path snapshot(const std::vector<std::string>& files, const std::string& commit = "abc123") {
    const fs::path folder = root_ / "models--org--name", dir = folder / "snapshots" / commit;
    fs::create_directories(dir);
    fs::create_directories(folder / "refs");
    fs::create_directories(folder / "blobs");
    std::ofstream(folder / "refs" / "main") << commit;
    for (const std::string& file : files) {
      std::ofstream(folder / "blobs" / ("blob-" + file)) << "{}";
      fs::create_symlink("../../blobs/blob-" + file, dir / file);
    }
    return dir;
  }
  static std::string message_of(const std::string& name) {
    try {
      resolve_model(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInput);
      return error.what();
    }
    return "accepted";
  }

  fs::path root_;
};

TEST_F(Hub, DirectoryAsItIs) { EXPECT_EQ(resolve_model(root_.string()), root_); }

TEST_F(Hub, SnapshotOfTheMainRevision) {
  const fs::path dir = snapshot({"config.json", "model.safetensors"});
  EXPECT_EQ(resolve_model("org/name"), dir);
  EXPECT_EQ(resolve_model("org/name@main"), dir);
  EXPECT_EQ(resolve_model("org/name@abc123"), dir);
}

TEST_F(Hub, OwnDirectoryOfModels) {
  const fs::path cached = snapshot({"config.json", "model.safetensors"}), own = root_ / "own";
  ::setenv("KVLINGUA_MODELS", own.c_str(), 1);
  EXPECT_EQ(resolve_model("org/name"), cached);
  for (const char* folder : {"name-1b", "Name-1B", "Org/Name-1B"}) {
    fs::create_directories(own / folder);
    std::ofstream(own / folder / "config.json") << "{}";
    EXPECT_EQ(resolve_model("Org/Name-1B"), own / folder);
  }
  EXPECT_THAT(message_of("Org/Name-1B@v2"), HasSubstr("hf download Org/Name-1B --revision v2"));
}

TEST_F(Hub, AbsentPrintsTheCommand) {
  EXPECT_THAT(message_of("Qwen/Qwen3-0.6B"), HasSubstr("run: hf download Qwen/Qwen3-0.6B"));
  snapshot({"config.json", "model.safetensors"});
  EXPECT_THAT(message_of("org/name@v2"), HasSubstr("run: hf download org/name --revision v2"));
}

TEST_F(Hub, NotANameNotADirectory) {
  for (const char* name : {"", "nothing", "a/b/c", "/no/such/dir", "../x", "org/../name", "org/",
                           "/name", "org/na me", "org/name@../../x", "-x/y"}) {
    EXPECT_THAT(message_of(name), HasSubstr("no such directory")) << name;
  }
  std::ofstream(root_ / "file") << "x";
  EXPECT_THAT(message_of((root_ / "file").string()), HasSubstr("is a file"));
}

TEST_F(Hub, DamagedDownloadsAreNamed) {
  const fs::path dir = snapshot({"config.json"});
  EXPECT_THAT(message_of("org/name"), HasSubstr("no model.safetensors"));
  std::ofstream(root_ / "models--org--name" / "blobs" / "deadbeef.incomplete") << "x";
  EXPECT_THAT(message_of("org/name"), HasSubstr("the download is incomplete (1 unfinished files)"));
  fs::create_symlink("../../blobs/none", dir / "model.safetensors");
  EXPECT_THAT(message_of("org/name"), HasSubstr("1 links without a file, first model.safetensors"));
}

TEST_F(Hub, EveryShardMustBeThere) {
  const fs::path dir = snapshot({"config.json"});
  std::ofstream(dir / "model.safetensors.index.json")
      << R"({"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})";
  std::ofstream(dir / "model-1.safetensors") << "x";
  EXPECT_THAT(message_of("org/name"), HasSubstr("no model-2.safetensors"));
  std::ofstream(dir / "model-2.safetensors") << "x";
  EXPECT_EQ(resolve_model("org/name"), dir);
}

TEST_F(Hub, CacheByEnvironment) {
  EXPECT_EQ(hub_cache(), root_);
  ::unsetenv("HF_HUB_CACHE");
  ::setenv("HF_HOME", "/a", 1);
  EXPECT_EQ(hub_cache(), "/a/hub");
  ::unsetenv("HF_HOME");
  ::setenv("XDG_CACHE_HOME", "/b", 1);
  EXPECT_EQ(hub_cache(), "/b/huggingface/hub");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", "/c", 1);
  EXPECT_EQ(hub_cache(), "/c/.cache/huggingface/hub");
}

TEST_F(Hub, VariablesAreExpandedAsHuggingFaceDoes) {
  snapshot({"config.json", "model.safetensors"});
  ::unsetenv("HF_HUB_CACHE");
  const std::string home = ::getenv("HOME") == nullptr ? "" : ::getenv("HOME");
  ::setenv("HOME", root_.c_str(), 1);
  ::setenv("KVLINGUA_TEST_X", root_.c_str(), 1);
  for (const char* written : {"~", "$KVLINGUA_TEST_X", "${KVLINGUA_TEST_X}", "$HOME/."}) {
    ::setenv("HF_HUB_CACHE", written, 1);
    EXPECT_NE(resolve_model("org/name").string().find("abc123"), std::string::npos) << written;
  }
  ::setenv("HF_HUB_CACHE", "$KVLINGUA_NO_SUCH/${x", 1);
  EXPECT_EQ(hub_cache(), "$KVLINGUA_NO_SUCH/${x");
  ::unsetenv("HF_HUB_CACHE");
  ::setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(hub_cache(), root_ / "hf" / "hub");
  ::unsetenv("HF_HOME");
  ::setenv("HOME", home.c_str(), 1);
}

TEST_F(Hub, LinksOfFilesThatNobodyNeedsMayDangle) {
  const fs::path dir = snapshot({"config.json", "model.safetensors"});
  fs::create_symlink("../../blobs/gone", dir / "README.md");
  EXPECT_EQ(resolve_model("org/name"), dir);
  fs::create_symlink("../../blobs/gone", dir / "tokenizer.json");
  EXPECT_THAT(message_of("org/name"), HasSubstr("tokenizer.json"));
}

TEST_F(Hub, RevisionsOfARecipe) {
  snapshot({"config.json", "model.safetensors"}, "c1");
  const fs::path second = snapshot({"config.json", "model.safetensors"}, "c2");
  std::ofstream(root_ / "models--org--name/refs/v2") << "c2\r\n";
  std::ofstream(root_ / "models--org--name/refs/main") << "c1";
  EXPECT_EQ(resolve_model("org/name", "v2"), second);
  EXPECT_EQ(resolve_model("org/name@v2", "v2"), second);
  EXPECT_EQ(resolve_model("org/name@v2", "main"), second);
  EXPECT_EQ(resolve_model("org/name", "main").filename(), "c1");
  EXPECT_THROW(resolve_model("org/name", "v3"), Error);
  EXPECT_THROW(resolve_model("org/name@v2", "c1"), Error);
  EXPECT_THROW(resolve_model(root_.string(), "v2"), Error);
}

}  // namespace
}  // namespace kvlingua
