#include "kvlingua/config/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/config/device_name.h"
#include "src/verbs/list.h"

namespace kvlingua {
namespace {

ParsedCommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "kvlingua");
  return parse_command_line(verbs::all_verbs<false>(), static_cast<int>(words.size()), words.data(),
                            "1.2.3");
}
// The options of the verb that these words name.
template <class Options>
Options options_of(std::vector<const char*> words) {
  const ParsedCommandLine parsed = parse(std::move(words));
  EXPECT_EQ(parsed.command.verb, Options::kText.name);
  return *static_cast<const Options*>(parsed.options.get());
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
  const std::vector<const char*> words = {
      "train",    "r.yaml", "--set",    "a.b=c", "--set=d=[1, 2]", "--json", "-",
      "--device", "cuda:1", "--seed",   "7",     "--out",          "/x",     "-q",
      "--stage",  "ridge",  "--restart"};
  const CommandLine c = parse(words).command;
  const auto train = options_of<verbs::TrainVerb>(words);
  EXPECT_EQ(c.verb, "train");
  EXPECT_THAT(c.arguments, testing::ElementsAre("r.yaml"));
  EXPECT_THAT(c.set, testing::ElementsAre("a.b=c", "d=[1, 2]"));
  EXPECT_TRUE(c.json_on_stdout());
  EXPECT_EQ(c.device, "cuda:1");
  EXPECT_EQ(c.seed, 7);
  EXPECT_EQ(c.out, "/x");
  EXPECT_EQ(c.verbosity, -1);
  EXPECT_EQ(train.stage, "ridge");
  EXPECT_TRUE(train.options.restart);
  EXPECT_EQ(train.seeds, 1);
}

TEST(CommandLine, ReadsEveryVerb) {
  EXPECT_EQ(parse({"preflight", "r"}).command.verb, "preflight");
  EXPECT_THAT(parse({"verify", "a", "b"}).command.arguments, testing::ElementsAre("a", "b"));
  EXPECT_THAT(parse({"import", "c2c", "in", "out"}).command.arguments,
              testing::ElementsAre("c2c", "in", "out"));
  EXPECT_THAT(options_of<verbs::QuickstartVerb>({"quickstart", "--train", "--validate"}).parts,
              testing::ElementsAre("train", "validate"));
  EXPECT_THAT(parse({"recipe", "check", "a", "b"}).command.arguments,
              testing::ElementsAre("a", "b"));
  const auto evaluate =
      options_of<verbs::EvaluateVerb>({"evaluate", "r", "--compare", "A", "B", "--limit", "9"});
  EXPECT_THAT(evaluate.compare, testing::ElementsAre("A", "B"));
  EXPECT_EQ(evaluate.options.limit, 9);
  const auto inspect =
      options_of<verbs::InspectVerb>({"inspect", "m", "--prompt", "one", "--prompt", "two", "--out",
                                      "m.json", "--determinism", "3"});
  EXPECT_THAT(inspect.prompt, testing::ElementsAre("one", "two"));
  EXPECT_EQ(inspect.determinism, 3);
  const auto sweep = options_of<verbs::SweepVerb>(
      {"sweep", "m", "--scale", "0.6B", "--scale", "1B", "--runs", "2", "--compare", "old.json"});
  EXPECT_THAT(sweep.scales, testing::ElementsAre("0.6B", "1B"));
  EXPECT_EQ(sweep.geometry.runs, 2);
  EXPECT_EQ(sweep.geometry.compare, "old.json");
  EXPECT_TRUE(options_of<verbs::AskVerb>({"ask", "r", "q", "--context", "-", "--beside"}).beside);
  EXPECT_EQ(parse({"generate", "r", "-vv"}).command.verbosity, 2);
}

// A verb's action is linked where it can run, and nowhere twice.
TEST(CommandLine, TheProgramItselfRunsWhatNeedsNoTorch) {
  for (const Verb& verb : verbs::all_verbs<false>())
    EXPECT_EQ(static_cast<bool>(verb.run), std::string(verb.text.name).starts_with("recipe "))
        << verb.text.name;
  const ParsedCommandLine parsed = parse({"recipe", "keys", "no.such.key"});
  EXPECT_THROW(parsed.verb->run(parsed.command, parsed.options.get()), Error);
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
