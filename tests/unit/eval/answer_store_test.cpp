#include "eval/answers/answer_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "kvlingua/base/error.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

StoreOptions options_of(const TempDir& dir, int64_t rank) {
  return {.file = dir / "eval" / "generations.jsonl",
          .fingerprint = "one evaluation",
          .rank = rank,
          .ranks = 2,
          .job = "job"};
}

// A process that works as rank 1; `finish`: it ends as it should, else it waits to be killed.
pid_t start_rank_one(const TempDir& dir, bool finish) {
  int ready[2];
  EXPECT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    Answers answers;
    std::map<std::string, double> distances;
    AnswerStore store(options_of(dir, 1), answers, distances);
    Answer answer;
    answer.condition = "full_text";
    answer.item = "identity/1";
    store.add(answer);
    if (finish) store.finish({.generated = 1});
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    if (!finish) ::pause();
    ::_exit(0);
  }
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1);
  ::close(ready[0]);
  ::close(ready[1]);
  return child;
}

TEST(AnswerStore, JoinsTheFilesOfAllRanks) {
  const TempDir dir;
  Answers answers;
  std::map<std::string, double> distances;
  AnswerStore store(options_of(dir, 0), answers, distances);
  const pid_t child = start_rank_one(dir, /*finish=*/true);
  ::waitpid(child, nullptr, 0);
  const std::vector<RankWork> works = store.join(answers, distances);
  ASSERT_EQ(works.size(), 1U);
  EXPECT_EQ(works[0].generated, 1);
  EXPECT_TRUE(answers.has("full_text", "identity/1"));
  EXPECT_TRUE(std::filesystem::exists(dir / "eval" / "generations.jsonl"));
}

TEST(AnswerStore, ARankThatDiesIsNoticedAtOnce) {
  const TempDir dir;
  Answers answers;
  std::map<std::string, double> distances;
  AnswerStore store(options_of(dir, 0), answers, distances);
  const pid_t child = start_rank_one(dir, /*finish=*/false);
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  });
  const auto begin = std::chrono::steady_clock::now();
  try {
    store.join(answers, distances);
    ADD_FAILURE() << "joined without rank 1";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 has ended before its work was done"));
  }
  killer.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST(AnswerStore, ARankThatDoesNotComeIsGivenUp) {
  const TempDir dir;
  Answers answers;
  std::map<std::string, double> distances;
  StoreOptions options = options_of(dir, 0);
  options.patience_seconds = 0.2;
  AnswerStore store(options, answers, distances);
  try {
    store.join(answers, distances);
    ADD_FAILURE() << "joined without rank 1";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 has not come"));
  }
}

TEST(AnswerStore, ASecondProcessOfTheSameRankIsRefused) {
  const TempDir dir;
  const pid_t child = start_rank_one(dir, /*finish=*/false);
  Answers answers;
  std::map<std::string, double> distances;
  try {
    AnswerStore store(options_of(dir, 1), answers, distances);
    ADD_FAILURE() << "two processes write the same answers";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("another process evaluates here"));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST(AnswerStore, NamesALineThatNoEvaluationWrote) {
  for (const std::string line :
       {R"({"control_distance":{"noise":"far"}})", R"([1,2])", R"({"condition":3,"item":[]})"}) {
    const TempDir dir;
    StoreOptions options = options_of(dir, 0);
    options.ranks = 1;
    std::filesystem::create_directories(dir / "eval");
    std::ofstream(options.file) << R"({"evaluation":"one evaluation"})"
                                << "\n"
                                << line << "\n";
    Answers answers;
    std::map<std::string, double> distances;
    try {
      AnswerStore store(options, answers, distances);
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      EXPECT_THAT(error.what(), HasSubstr("generations.jsonl:2"));
    }
  }
}

TEST(AnswerStore, AFileWithoutItsFirstLineIsBegunAnew) {
  const TempDir dir;
  StoreOptions options = options_of(dir, 0);
  options.ranks = 1;
  std::filesystem::create_directories(dir / "eval");
  std::ofstream(options.file).close();
  {
    Answers answers;
    std::map<std::string, double> distances;
    AnswerStore store(options, answers, distances);
    Answer answer;
    answer.condition = "full_text";
    answer.item = "identity/1";
    store.add(answer);
  }
  Answers answers;
  std::map<std::string, double> distances;
  AnswerStore store(options, answers, distances);
  EXPECT_TRUE(answers.has("full_text", "identity/1"));
  EXPECT_FALSE(std::filesystem::exists(dir / "eval" / "generations.other-1.jsonl"));
}

TEST(AnswerStore, DamagedFilesBesideAreNobodys) {
  const TempDir dir;
  StoreOptions options = options_of(dir, 0);
  options.ranks = 1;
  std::filesystem::create_directories(dir / "eval" / "generations.other-2.jsonl");
  std::ofstream(dir / "eval" / "generations.other-1.jsonl") << "{\n";
  Answers answers;
  std::map<std::string, double> distances;
  EXPECT_NO_THROW(AnswerStore(options, answers, distances));
  std::filesystem::remove(options.file);
  std::filesystem::create_directory(options.file);
  EXPECT_THROW(AnswerStore(options, answers, distances), Error);
}

}  // namespace
}  // namespace kvlingua
