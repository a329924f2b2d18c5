#include "kvlingua/bridge/cache_bridge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kvlingua/base/error.h"
#include "kvlingua/model/generation.h"
#include "kvlingua/projector/identity.h"
#include "kvlingua/projector/noise.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

constexpr const char* kContext = "My name is Lemo and I live in Valeport.";
constexpr const char* kQuestion = "What is your name and where do you live?";

const OpenModel& nano_target() {
  static const OpenModel model =
      open_model({.name = KVLINGUA_SOURCE_DIR "/checkpoints/nano/target"});
  return model;
}

std::string error_of(const std::function<void()>& call, ExitCode code) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "accepted";
}

// The target as its own source, through the projector that changes nothing: its cache at the place
// where it was read is worth the text.
class SelfBridge : public ::testing::Test {
 protected:
  const OpenModel& model_ = nano_target();
  IdentityProjector identity_{model_.model.kv_shape(), model_.model.kv_shape()};
  CacheBridge bridge_{model_, model_, identity_, AlignmentKind::kIdentity};
};

TEST_F(SelfBridge, AnswersFromTheCacheAsFromTheText) {
  const CacheBridge::Context context = bridge_.read(kContext);
  const Reply from_cache = bridge_.ask(context, kQuestion);
  const Reply from_text = bridge_.ask_text(kContext, kQuestion);
  EXPECT_EQ(from_cache.ids, from_text.ids);
  EXPECT_EQ(from_cache.text, from_text.text);
  EXPECT_THAT(from_cache.text, HasSubstr("Valeport"));
  EXPECT_TRUE(from_cache.stopped);
  // The target itself read the question alone.
  EXPECT_EQ(from_cache.read_tokens + context.target_tokens, from_text.read_tokens);
  EXPECT_EQ(from_cache.context_bytes,
            context.target_tokens * model_.model.kv_shape().bytes_per_token(4));
  EXPECT_EQ(from_text.context_bytes, static_cast<int64_t>(std::string(kContext).size()));
  // Asked again it is the same: the context is not used up.
  EXPECT_EQ(bridge_.ask(context, kQuestion).ids, from_cache.ids);
}

TEST_F(SelfBridge, WithoutTheContextItCannotKnow) {
  const Reply alone = bridge_.ask_text("", kQuestion);
  EXPECT_THAT(alone.text, ::testing::Not(HasSubstr("Valeport")));
  EXPECT_EQ(alone.context_bytes, 0);
}

TEST_F(SelfBridge, StreamsWhatItAnswersAndCanBeEnded) {
  const CacheBridge::Context context = bridge_.read(kContext);
  std::string streamed;
  int pieces = 0;
  const Reply whole = bridge_.ask(context, kQuestion, {.on_text = [&](std::string_view piece) {
                                    streamed += piece;
                                    ++pieces;
                                    return true;
                                  }});
  EXPECT_EQ(streamed, whole.text);
  EXPECT_GT(pieces, 2);
  const Reply cut = bridge_.ask(context, kQuestion, {.on_text = [](auto) { return false; }});
  EXPECT_FALSE(cut.stopped);
  EXPECT_EQ(cut.ids, std::vector<int64_t>({whole.ids.front()}));
  const Reply short_one = bridge_.ask(context, kQuestion, {.max_new_tokens = 2});
  EXPECT_EQ(short_one.ids, std::vector<int64_t>(whole.ids.begin(), whole.ids.begin() + 2));
}

TEST_F(SelfBridge, RefusesWhatCannotBeAskedInOneLine) {
  const CacheBridge::Context context = bridge_.read(kContext);
  EXPECT_THAT(error_of([&] { bridge_.ask(context, " \n"); }, ExitCode::kUsage),
              HasSubstr("question: is empty"));
  EXPECT_THAT(error_of([&] { bridge_.read(""); }, ExitCode::kUsage),
              HasSubstr("context: is empty"));
  std::string endless;
  while (endless.size() < 40000) endless += "I live in Valeport. ";
  const std::string refused = error_of([&] { bridge_.read(endless); }, ExitCode::kInput);
  EXPECT_THAT(refused, HasSubstr("context: longer than the source model allows"));
  EXPECT_THAT(refused, HasSubstr("at most " +
                                 std::to_string(model_.model.config().max_position_embeddings)));
  EXPECT_THAT(error_of([&] { bridge_.ask(context, endless); }, ExitCode::kInput),
              HasSubstr("longer than the target model allows"));
}

TEST_F(SelfBridge, RefusesAProjectorOfOtherShapes) {
  const KvShape other{.layers = 2, .kv_heads = 1, .head_dim = 4};
  const IdentityProjector wrong(other, other);
  EXPECT_THAT(error_of([&] { CacheBridge(model_, model_, wrong); }, ExitCode::kInput),
              HasSubstr("another cache shape"));
}

TEST(OpenModel, TakesTheRevisionThatIsAskedFor) {
  const TempDir folder;
  ::setenv("HF_HUB_CACHE", folder.path().c_str(), 1);
  ::unsetenv("KVLINGUA_MODELS");
  const auto repository = folder.path() / "models--org--name";
  for (const char* commit : {"aaa111", "bbb222"}) {
    std::filesystem::create_directories(repository / "snapshots" / commit);
    for (const char* file : {"config.json", "model.safetensors"})
      std::ofstream(repository / "snapshots" / commit / file) << "{}";
  }
  std::filesystem::create_directories(repository / "refs");
  std::ofstream(repository / "refs" / "main") << "aaa111";
  std::ofstream(repository / "refs" / "tuned") << "bbb222";
  const auto where = [](const char* name, const char* revision) {
    return locate_model({.name = name, .revision = revision}).filename().string();
  };
  EXPECT_EQ(where("org/name", "main"), "aaa111");
  EXPECT_EQ(where("org/name", "tuned"), "bbb222");
  EXPECT_EQ(where("org/name", "bbb222"), "bbb222");
  EXPECT_EQ(where("org/name@tuned", "main"), "bbb222");
  EXPECT_THAT(error_of([&] { where("org/name", "absent"); }, ExitCode::kInput),
              HasSubstr("revision absent"));
  // A folder has no revisions: one that is asked for is not ignored.
  const std::string snapshot = repository / "snapshots" / "aaa111";
  EXPECT_EQ(where(snapshot.c_str(), "main"), "aaa111");
  EXPECT_THAT(error_of([&] { where(snapshot.c_str(), "tuned"); }, ExitCode::kInput),
              HasSubstr("has no revisions"));
  ::unsetenv("HF_HUB_CACHE");
}

}  // namespace
}  // namespace kvlingua
