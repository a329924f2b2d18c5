// The peak memory of generation, training's ridge pass and the loader does not grow with the
// corpus: a process of its own for one size and for ten times that.
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "datasets/generate.h"
#include "datasets/loading/pair_loader.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/system.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

extern char** environ;

namespace kvlingua {
namespace {

// MiB at the peak of a child that runs the test FlatMemory.Child, as it says itself: what the
// system reports to a parent begins with the parent's own peak, which the child shares until it
// runs.
double peak_of_child(const std::string& work, const std::filesystem::path& models,
                     const std::filesystem::path& out, int64_t documents) {
  std::vector<std::string> environment{"KVLINGUA_MEMORY_WORK=" + work,
                                       "KVLINGUA_MEMORY_MODELS=" + models.string(),
                                       "KVLINGUA_MEMORY_OUT=" + out.string(),
                                       "KVLINGUA_MEMORY_DOCUMENTS=" + std::to_string(documents)};
  for (char** e = environ; *e != nullptr; ++e) environment.push_back(*e);
  std::vector<char*> env;
  for (std::string& e : environment) env.push_back(e.data());
  env.push_back(nullptr);
  std::string self = std::filesystem::read_symlink("/proc/self/exe").string(),
              filter = "--gtest_filter=FlatMemory.Child", brief = "--gtest_brief=1";
  std::vector<char*> argv{self.data(), filter.data(), brief.data(), nullptr};
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, self.c_str(), nullptr, nullptr, argv.data(), env.data()), 0);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0) << work;
  double peak = 0;
  std::ifstream(out / ("peak." + work)) >> peak;
  EXPECT_GT(peak, 0) << work;
  return peak;
}

Recipe recipe_of(const std::filesystem::path& models, int64_t documents) {
  Recipe recipe = testing::tiny_recipe(models);
  recipe.data.synthetic.documents = documents;
  recipe.data.batch_tokens = 2048;
  recipe.data.shard_bytes = 4 << 20;
  return recipe;
}

void load_all(const std::filesystem::path& out) {
  PairLoaderOptions options;
  options.batch_size = 512;
  options.buffer_bytes = 6 << 20;
  options.epochs = 2;
  PairLoader loader(PairReader::open(out / "datasets/tiny"), options);
  int64_t rows = 0;
  while (auto batch = loader.next()) rows += batch->rows.size();
  EXPECT_GT(rows, 1000);
}

TEST(FlatMemory, Child) {
  const char* work = std::getenv("KVLINGUA_MEMORY_WORK");
  if (work == nullptr) GTEST_SKIP() << "only as a child of the other tests";
  set_log_level(LogLevel::kError);
  const std::filesystem::path out = std::getenv("KVLINGUA_MEMORY_OUT");
  if (std::string(work) == "generate") {
    generate(recipe_of(std::getenv("KVLINGUA_MEMORY_MODELS"),
                       std::atoll(std::getenv("KVLINGUA_MEMORY_DOCUMENTS"))),
             testing::tiny_context(out));
  } else {
    load_all(out);
  }
  std::ofstream(out / cat("peak.", work)) << static_cast<double>(peak_rss_bytes()) / (1 << 20);
}

TEST(FlatMemory, OneAndTenTimesTheCorpusNeedTheSame) {
  const TempDir models, small, large;
  testing::save_tiny_pair(models.path());
  const int64_t documents = 600;
  const double one = peak_of_child("generate", models.path(), small.path(), documents),
               ten = peak_of_child("generate", models.path(), large.path(), 10 * documents);
  const double read_one = peak_of_child("load", models.path(), small.path(), 0),
               read_ten = peak_of_child("load", models.path(), large.path(), 0);
  RecordProperty("generate_mib", cat(one, " and ", ten));
  RecordProperty("load_mib", cat(read_one, " and ", read_ten));
  std::printf("generate %.0f and %.0f MiB, loader %.0f and %.0f MiB\n", one, ten, read_one,
              read_ten);
  // A plan of 40 bytes a sample, and what the allocator keeps; ten times the pairs are 40 MB more.
  EXPECT_LT(ten - one, 12) << one << " and " << ten;
  EXPECT_LT(read_ten - read_one, 12) << read_one << " and " << read_ten;
}

}  // namespace
}  // namespace kvlingua
