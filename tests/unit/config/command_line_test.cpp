#include "kvlingua/config/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/config/device_name.h"

namespace kvlingua {
namespace {

ParsedCommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "kvlingua");
  return parse_command_line(static_cast<int>(words.size()), words.data(), "1.2.3");
}
std::string error_of(const std::vector<const char*>& words) {
  try {
    parse(words);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "no error";
}

TEST(CommandLine, ReadsTheContract) {
  const CommandLine c =
      parse({"train", "r.yaml", "--set", "a.b=c", "--set=d=[1, 2]", "--json", "-", "--device",
             "cuda:1", "--seed", "7", "--out", "/x", "-q", "--stage", "ridge", "--restart"})
          .command;
  EXPECT_EQ(c.verb, "train");
  EXPECT_THAT(c.arguments, testing::ElementsAre("r.yaml"));
  EXPECT_THAT(c.set, testing::ElementsAre("a.b=c", "d=[1, 2]"));
  EXPECT_TRUE(c.json_on_stdout());
  EXPECT_EQ(c.device, "cuda:1");
  EXPECT_EQ(c.seed, 7);
  EXPECT_EQ(c.out, "/x");
  EXPECT_EQ(c.verbosity, -1);
  EXPECT_EQ(c.stage, "ridge");
  EXPECT_TRUE(c.restart);
}

TEST(CommandLine, ReadsEveryVerb) {
  EXPECT_EQ(parse({"preflight", "r"}).command.verb, "preflight");
  EXPECT_THAT(parse({"verify", "a", "b"}).command.arguments, testing::ElementsAre("a", "b"));
  EXPECT_THAT(parse({"import", "c2c", "in", "out"}).command.arguments,
              testing::ElementsAre("c2c", "in", "out"));
  EXPECT_THAT(parse({"quickstart", "--train", "--validate"}).command.parts,
              testing::ElementsAre("train", "validate"));
  EXPECT_THAT(parse({"recipe", "check", "a", "b"}).command.arguments,
              testing::ElementsAre("a", "b"));
  EXPECT_THAT(parse({"evaluate", "r", "--compare", "A", "B", "--limit", "9"}).command.compare,
              testing::ElementsAre("A", "B"));
  const CommandLine c = parse({"inspect", "m", "--prompt", "one", "--prompt", "two", "--out",
                               "m.json", "--determinism", "3"})
                            .command;
  EXPECT_THAT(c.prompt, testing::ElementsAre("one", "two"));
  EXPECT_EQ(c.determinism, 3);
  EXPECT_EQ(parse({"generate", "r", "-vv"}).command.verbosity, 2);
}

TEST(CommandLine, NamesTheNearestVerbAndOption) {
  EXPECT_EQ(error_of({}), "no verb; `kvlingua --help` lists them");
  EXPECT_EQ(error_of({"evalute", "r"}), "unknown verb evalute; did you mean evaluate?");
  EXPECT_EQ(error_of({"xyzzy"}), "unknown verb xyzzy; `kvlingua --help` lists them");
  EXPECT_EQ(error_of({"recipe", "chekc", "r"}), "unknown verb recipe chekc; did you mean check?");
  EXPECT_EQ(error_of({"recipe"}), "recipe what?; kvlingua recipe ls, show, check or keys");
  EXPECT_EQ(error_of({"train", "r", "--stgae", "ridge"}),
            "train: unknown option --stgae; did you mean --stage?");
  EXPECT_EQ(error_of({"-q", "train", "r"}),
            "an option before the verb: -q; options follow the verb");
  EXPECT_THAT(error_of({"train"}), testing::HasSubstr("RECIPE is required"));
  EXPECT_THAT(error_of({"train", "a", "b"}), testing::StartsWith("train: "));
  EXPECT_THAT(error_of({"train", "r", "--resume", "--restart"}), testing::StartsWith("train: "));
  EXPECT_THAT(error_of({"train", "r", "--seed", "-3"}), testing::StartsWith("train: "));
  EXPECT_EQ(error_of({"train", "r", "--device", "gpu"}),
            "device: got gpu, expected auto, cpu, cuda or cuda:N");
}

TEST(CommandLine, HelpAndVersionAreAnswers) {
  EXPECT_THAT(parse({"--help"}).answer, testing::HasSubstr("usage: kvlingua <verb>"));
  EXPECT_EQ(parse({"--version"}).answer, "kvlingua 1.2.3\n");
  EXPECT_THAT(parse({"train", "--help"}).answer,
              testing::HasSubstr("train.regression.optimizer.lr="));
  EXPECT_THAT(parse({"help", "train"}).answer, testing::HasSubstr("--stage"));
}

TEST(DeviceName, Parses) {
  EXPECT_EQ(parse_device("cuda:3").index, 3);
  EXPECT_EQ(parse_device("auto").kind, DeviceName::Kind::kAuto);
  for (const char* bad : {"cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA"})
    EXPECT_THROW(parse_device(bad), Error) << bad;
}

}  // namespace
}  // namespace kvlingua
