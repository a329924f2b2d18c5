// Checkpoints that are old or new after a crash at any write, a full disk or a flipped byte; and
// what is kept.
#include "checkpoints/store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "checkpoints/load_projector.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/projector/factory.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

const KvShape kSource{2, 1, 4}, kTarget{1, 2, 4};

Checkpoint make(int64_t step, bool finished = false, std::optional<double> score = {},
                const std::string& stage = "regression") {
  ProjectorOptions options;
  options.kind = "ridge";
  const auto projector = make_projector(kSource, kTarget, options);
  at::manual_seed(static_cast<uint64_t>(step));
  for (auto& [name, tensor] : projector->parameters()) tensor.copy_(at::randn(tensor.sizes()));
  Checkpoint c;
  c.state.stage = stage;
  c.state.stage_finished = finished;
  c.state.step = c.state.global_step = step;
  c.state.best_score = score;
  c.state.best_step = score ? step : 0;
  c.state.loader = {{"epoch", 3}, {"position", step}};
  c.pair = {.source = {"a/source", "Qwen3ForCausalLM", "w1", "t1", kSource},
            .target = {"a/target", "Qwen2ForCausalLM", "w2", "t2", kTarget},
            .alignment = "last_char"};
  c.projector_config = projector->config();
  c.projector = projector->state();
  c.optimizer = {{"first_moment", at::randn({7})}, {"second_moment", at::rand({7})}};
  c.rng = RngState::capture();
  c.recipe_yaml = "name: test\n";
  return c;
}

CheckpointOptions keep(int64_t last, int64_t best = 0, bool background = false) {
  CheckpointOptions options;
  options.keep_last = last;
  options.keep_best = best;
  options.background = background;
  return options;
}

void expect_equal(const Checkpoint& got, const Checkpoint& expected) {
  EXPECT_EQ(got.state.to_json(), expected.state.to_json());
  EXPECT_EQ(got.pair.to_json(), expected.pair.to_json());
  EXPECT_EQ(got.recipe_yaml, expected.recipe_yaml);
  const auto same = [](const NamedTensors& a, const NamedTensors& b) {
    const std::map<std::string, at::Tensor> x(a.begin(), a.end()), y(b.begin(), b.end());
    ASSERT_EQ(x.size(), y.size());
    for (const auto& [name, tensor] : x) EXPECT_TRUE(tensor.equal(y.at(name))) << name;
  };
  same(got.projector, expected.projector);
  same(got.optimizer, expected.optimizer);
  EXPECT_TRUE(got.rng.cpu.equal(expected.rng.cpu));
}

std::vector<std::string> names(const fs::path& run) {
  std::vector<std::string> all;
  for (const fs::path& path : list_checkpoints(run)) all.push_back(path.filename().string());
  return all;
}

void flip_byte(const fs::path& file, std::streamoff where) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekg(where);
  const char c = static_cast<char>(f.get());
  f.seekp(where);
  f.put(static_cast<char>(c ^ 1));
}

TEST(Checkpoint, ComesBackExactly) {
  for (const bool background : {false, true}) {
    const TempDir dir;
    const Checkpoint original = make(12);
    CheckpointStore store(dir / "run", keep(2, 0, background));
    const fs::path path = store.save(original);
    store.wait();
    EXPECT_EQ(path, dir / "run" / "step-000012");
    expect_equal(read_checkpoint(path), original);
    expect_equal(read_checkpoint(dir / "run" / "latest"), original);
  }
}

TEST(Checkpoint, BackgroundWriteHoldsTheValuesOfItsMoment) {
  const TempDir dir;
  CheckpointStore store(dir / "run", keep(2, 0, true));
  Checkpoint c = make(1);
  const Checkpoint before = c.snapshot();
  store.save(c);
  for (auto& [name, tensor] : c.projector) tensor.zero_();
  for (auto& [name, tensor] : c.optimizer) tensor.zero_();
  store.wait();
  expect_equal(read_checkpoint(dir / "run" / "step-000001"), before);
}

TEST(Checkpoint, RngStatesContinueTheSameNumbers) {
  at::manual_seed(5);
  at::randn({10});
  const RngState state = RngState::capture();
  const at::Tensor expected = at::randn({100}), order = at::randperm(50);
  at::randn({3});
  state.restore();
  EXPECT_TRUE(at::randn({100}).equal(expected));
  EXPECT_TRUE(at::randperm(50).equal(order));
}

TEST(Store, KeepsLastBestAndFinished) {
  const TempDir dir;
  CheckpointStore store(dir / "run", keep(2, 1));
  store.save(make(1, true, {}, "ridge"));
  const double scores[] = {0.9, 0.5, 0.7, 0.6, 0.8};
  for (int64_t i = 0; i < 5; ++i) store.save(make(2 + i, false, scores[i]));
  EXPECT_EQ(names(dir / "run"),
            (std::vector<std::string>{"step-000006", "step-000005", "step-000003", "step-000001"}));
  EXPECT_EQ(fs::read_symlink(dir / "run" / "ridge"), "step-000001");
  EXPECT_EQ(fs::read_symlink(dir / "run" / "latest"), "step-000006");
  store.save(make(7, true, 0.9));
  store.save(make(8, false, {}, "distillation"));
  store.save(make(9, false, {}, "distillation"));
  EXPECT_EQ(names(dir / "run"),
            (std::vector<std::string>{"step-000009", "step-000008", "step-000007", "step-000001"}));
  store.clear();
  EXPECT_TRUE(names(dir / "run").empty());
  EXPECT_FALSE(fs::is_symlink(dir / "run" / "latest"));
}

TEST(Store, OneProcessARun) {
  const TempDir dir;
  const CheckpointStore first(dir / "run", keep(1));
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      const CheckpointStore second(dir / "run", keep(1));
    } catch (const Error&) {
      ::_exit(7);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

// As cp -rL, zip and cloud drives copy a run.
TEST(Store, FoldersInPlaceOfLinksAreMovedAside) {
  const TempDir dir;
  {
    CheckpointStore store(dir / "run", keep(2));
    store.save(make(1, true));
  }
  for (const char* link : {"latest", "regression"}) {
    fs::remove(dir / "run" / link);
    fs::copy(dir / "run" / "step-000001", dir / "run" / link, fs::copy_options::recursive);
  }
  for (int64_t step : {2, 3}) {
    CheckpointStore store(dir / "run", keep(2));
    store.save(make(step, true));
  }
  for (const char* link : {"latest", "regression"}) {
    EXPECT_EQ(fs::read_symlink(dir / "run" / link), "step-000003");
    expect_equal(read_checkpoint(dir / "run" / (std::string(link) + ".copy-1")), make(1, true));
    EXPECT_FALSE(fs::exists(dir / "run" / (std::string(link) + ".copy-2")));
  }
}

TEST(Store, AnUnwritableFolderIsOneLine) {
  if (::geteuid() == 0) {
    const TempDir dir;
    dir.write("file", "not a folder");
    EXPECT_THROW(CheckpointStore(dir / "file" / "run", keep(1)), Error);
    return;
  }
  EXPECT_THROW(CheckpointStore("/proc/kvlingua/run", keep(1)), Error);
}

// A flipped byte in any file of the newest checkpoint: it is named and the older one is taken.
TEST(Store, AFlippedByteIsNamedAndTheOlderTaken) {
  for (const char* file : {"projector.safetensors", "projector.json", "optimizer.safetensors",
                           "state.json", "recipe.yaml", "manifest.json"}) {
    const TempDir dir;
    CheckpointStore store(dir / "run", keep(2));
    store.save(make(1));
    store.save(make(2));
    const fs::path damaged = dir / "run" / "step-000002" / file;
    flip_byte(damaged, static_cast<std::streamoff>(fs::file_size(damaged) / 2));
    const auto found = find_checkpoint(dir / "run");
    ASSERT_TRUE(found) << file;
    EXPECT_EQ(found->path.filename(), "step-000001") << file;
    ASSERT_EQ(found->skipped.size(), 1u);
    EXPECT_NE(found->skipped[0].find(file), std::string::npos) << found->skipped[0];
    try {
      read_checkpoint(dir / "run" / "step-000002");
      ADD_FAILURE() << file;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      EXPECT_NE(std::string(error.what()).find(file), std::string::npos) << error.what();
    }
  }
}

// A child dies at its n-th file operation, n = 1, 2, 3 ... until it gets through.
TEST(Store, SurvivesDeathAtEveryOperation) {
  int64_t n = 1, old_found = 0, new_found = 0;
  for (bool died = true; died; ++n) {
    ASSERT_LT(n, 400);
    const TempDir dir;
    {
      CheckpointStore store(dir / "run", keep(1));
      store.save(make(1));
    }
    const pid_t child = ::fork();
    if (child == 0) {
      file_ops::set_fault("kill@" + std::to_string(n));
      CheckpointStore store(dir / "run", keep(1));
      store.save(make(2));
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    died = WIFSIGNALED(status);
    std::vector<std::string> skipped;
    const auto found = find_checkpoint(dir / "run", &skipped);
    ASSERT_TRUE(found) << "killed at operation " << n;
    EXPECT_TRUE(skipped.empty()) << "killed at operation " << n << ": " << skipped[0];
    const bool is_new = found->path.filename() == "step-000002";
    ++(is_new ? new_found : old_found);
    expect_equal(read_checkpoint(found->path), make(is_new ? 2 : 1));
    if (!died) {
      EXPECT_TRUE(is_new);
    }
    // The next run goes on as if nothing had been.
    CheckpointStore store(dir / "run", keep(1));
    store.save(make(3));
    EXPECT_EQ(names(dir / "run"), std::vector<std::string>{"step-000003"});
    for (const auto& entry : fs::directory_iterator(dir / "run")) {
      const std::string name = entry.path().filename().string();
      EXPECT_TRUE(name == ".lock" || !name.starts_with(".")) << name << " after " << n;
    }
  }
  EXPECT_GT(old_found, 20);
  EXPECT_GT(new_found, 3);
}

// The last save of a stage killed at every operation: when the run is opened again the links lead
// to what is there, though nothing is saved any more.
TEST(Store, LinksLeadToWhatIsThereAfterDeathAtEveryOperation) {
  bool died = true;
  int64_t finished = 0;
  for (int64_t n = 1; died; ++n) {
    ASSERT_LT(n, 400);
    const TempDir dir;
    {
      CheckpointStore store(dir / "run", keep(1));
      store.save(make(1, true, {}, "ridge"));
    }
    const pid_t child = ::fork();
    if (child == 0) {
      CheckpointStore store(dir / "run", keep(1));
      file_ops::set_fault("kill@" + std::to_string(n));
      store.save(make(2, true));
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    died = WIFSIGNALED(status);
    { CheckpointStore store(dir / "run", keep(1)); }
    const auto newest = find_checkpoint(dir / "run")->path.filename();
    EXPECT_EQ(fs::read_symlink(dir / "run" / "latest"), newest) << n;
    EXPECT_EQ(fs::read_symlink(dir / "run" / "ridge"), "step-000001") << n;
    if (newest != "step-000002") continue;
    ++finished;
    EXPECT_EQ(fs::read_symlink(dir / "run" / "regression"), newest) << n;
  }
  EXPECT_GT(finished, 3);
}

TEST(Store, OpeningARunWhoseLinksAreRightChangesNothing) {
  const TempDir dir;
  {
    CheckpointStore store(dir / "run", keep(2));
    store.save(make(1, true, {}, "ridge"));
    store.save(make(2, true));
    store.save(make(3));
  }
  fs::remove(dir / "run" / "ridge");
  dir.write("run/ridge", "step-000001\n");  // of a file system without links
  const auto before = file_ops::count();
  { CheckpointStore store(dir / "run", keep(2)); }
  EXPECT_EQ(file_ops::count(), before);
}

// A full or failing disk at operation n, once or from then on.
class StoreOnABadDisk : public ::testing::TestWithParam<const char*> {};

TEST_P(StoreOnABadDisk, KeepsTheOldCheckpointOrHasTheNew) {
  const bool full = std::string(GetParam()).starts_with("enospc");
  int64_t operations = 0, failures = 0;
  {
    const TempDir dir(memory_folder());
    CheckpointStore store(dir / "run", keep(1));
    store.save(make(1));
    file_ops::set_fault("");
    store.save(make(2));
    operations = file_ops::count();
  }
  for (int64_t n = 1; n <= operations; ++n) {
    ASSERT_LT(n, 400);
    const TempDir dir(memory_folder());
    bool failed = false;
    {
      CheckpointStore store(dir / "run", keep(1, 0, n % 2 == 0));
      store.save(make(1));
      store.wait();
      file_ops::set_fault(cat(GetParam(), "@", n));
      try {
        store.save(make(2));
        store.wait();
      } catch (const Error& error) {
        failed = true;
        EXPECT_EQ(error.code(), full ? ExitCode::kDiskFull : ExitCode::kFailed) << error.what();
      }
      file_ops::set_fault("");
      const auto found = find_checkpoint(dir / "run");
      ASSERT_TRUE(found) << n;
      EXPECT_TRUE(found->skipped.empty()) << n << ": " << found->skipped[0];
      const bool is_new = found->path.filename() == "step-000002";
      EXPECT_TRUE(is_new || failed) << "lost without a word at operation " << n;
      expect_equal(read_checkpoint(found->path), make(is_new ? 2 : 1));
      failures += failed;
    }
    // The same process, or the next one, goes on as if nothing had been.
    CheckpointStore store(dir / "run", keep(1));
    store.save(make(3));
    EXPECT_EQ(names(dir / "run"), std::vector<std::string>{"step-000003"}) << n;
    EXPECT_EQ(fs::read_symlink(dir / "run" / "latest"), "step-000003");
    for (const auto& entry : fs::directory_iterator(dir / "run")) {
      const std::string name = entry.path().filename().string();
      EXPECT_TRUE(name == ".lock" || !name.starts_with(".")) << name << " after " << n;
    }
  }
  EXPECT_GT(failures, 20);
}

INSTANTIATE_TEST_SUITE_P(Faults, StoreOnABadDisk,
                         ::testing::Values("enospc", "enospc-once", "eio", "eio-once"));

TEST(LoadProjector, FromARunAStageOrACheckpoint) {
  const TempDir dir;
  CheckpointStore store(dir / "run", keep(1));
  store.save(make(1, true, {}, "ridge"));
  store.save(make(5));
  EXPECT_EQ(load_projector(dir / "run").global_step, 5);
  EXPECT_EQ(load_projector(dir / "run" / "step-000001").stage, "ridge");
  EXPECT_EQ(load_projector(dir / "run" / "ridge").global_step, 1);
  const LoadedProjector loaded = load_projector(dir / "run", at::kCPU, at::kFloat, "ridge");
  EXPECT_EQ(loaded.global_step, 1);
  EXPECT_EQ(loaded.projector->kind(), "ridge");
  EXPECT_TRUE(loaded.projector->parameters()[0].second.equal(make(1).projector[0].second));
  EXPECT_THROW(load_projector(dir / "run", at::kCPU, at::kFloat, "distillation"), Error);
  EXPECT_THROW(load_projector(dir / "nothing"), Error);
}

TEST(LoadProjector, RefusesOtherModels) {
  const TempDir dir;
  CheckpointStore store(dir / "run", keep(1));
  store.save(make(1));
  const LoadedProjector loaded = load_projector(dir / "run");
  ModelConfig config;
  config.vocab_size = 16;
  config.hidden_size = 8;
  config.intermediate_size = 8;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  config.rope.head_dim = 4;
  const CausalLM source = CausalLM::random(config);
  config.num_layers = 1;
  config.num_kv_heads = 2;
  const CausalLM target = CausalLM::random(config);
  loaded.check_models(source, target, /*strict=*/false);
  try {
    loaded.check_models(target, target, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_NE(std::string(error.what()).find(kSource.describe()), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find(kTarget.describe()), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(loaded.check_models(source, target, true), Error);  // right shapes, other weights
}

}  // namespace
}  // namespace kvlingua
