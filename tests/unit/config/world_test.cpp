#include "kvlingua/config/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "kvlingua/base/error.h"
#include "kvlingua/config/paths.h"

namespace kvlingua {
namespace {

World world_of(const std::map<std::string, std::string>& environment) {
  return World::from_environment([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(World, AloneByDefault) {
  EXPECT_TRUE(world_of({}).alone());
  EXPECT_TRUE(world_of({}).is_main());
}

TEST(World, Torchrun) {
  const World w = world_of({{"RANK", "3"},
                            {"WORLD_SIZE", "4"},
                            {"LOCAL_RANK", "1"},
                            {"MASTER_ADDR", "h"},
                            {"MASTER_PORT", "123"},
                            {"SLURM_NTASKS", "9"},
                            {"SLURM_PROCID", "8"}});
  EXPECT_EQ(w.rank, 3);
  EXPECT_EQ(w.size, 4);
  EXPECT_EQ(w.local_rank, 1);
  EXPECT_EQ(w.master_addr, "h");
  EXPECT_EQ(w.master_port, 123);
  EXPECT_FALSE(w.served);
  EXPECT_EQ(w.note, "");
  EXPECT_TRUE(
      world_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}})
          .served);
}

TEST(World, Slurm) {
  const World w = world_of({{"SLURM_NTASKS", "2"},
                            {"SLURM_PROCID", "1"},
                            {"SLURM_LOCALID", "0"},
                            {"SLURM_JOB_NODELIST", "gpu[07-09,12]"},
                            {"SLURM_JOB_ID", "40017"}});
  EXPECT_EQ(w.rank, 1);
  EXPECT_EQ(w.size, 2);
  EXPECT_EQ(w.master_addr, "gpu07");
  EXPECT_EQ(w.master_port, 20017);
  // A batch script has SLURM_NTASKS but is no task itself.
  EXPECT_TRUE(world_of({{"SLURM_NTASKS", "2"}}).alone());
}

// sbatch sets SLURM_PROCID for its script too: a lone process must not pass for one of many.
TEST(World, SlurmWithoutSrunIsSaid) {
  std::map<std::string, std::string> slurm{{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}};
  EXPECT_THAT(world_of(slurm).note, ::testing::HasSubstr("4 tasks, but no srun"));
  EXPECT_TRUE(world_of(slurm).alone());  // all of the work, not a quarter of it
  slurm["SLURM_STEP_ID"] = "0";
  EXPECT_EQ(world_of(slurm).note, "");
  EXPECT_EQ(world_of({{"SLURM_NTASKS", "1"}, {"SLURM_PROCID", "0"}}).note, "");
}

TEST(World, RefusesContradictions) {
  EXPECT_THROW(world_of({{"RANK", "0"}}), Error);
  EXPECT_THROW(world_of({{"RANK", "4"}, {"WORLD_SIZE", "4"}}), Error);
  EXPECT_THROW(world_of({{"RANK", "x"}, {"WORLD_SIZE", "4"}}), Error);
  EXPECT_THROW(world_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}), Error);
}

TEST(Paths, RunsLiveUnderTheirNames) {
  const RunPaths paths = run_paths("/o", "d", "r");
  EXPECT_EQ(paths.dataset, "/o/datasets/d");
  EXPECT_EQ(paths.run, "/o/checkpoints/r");
  EXPECT_EQ(paths.eval(), "/o/checkpoints/r/eval");
}

// Wherever a room of code lies, a run of its name is refused by name; the shipped pair's folder is
// no such room.
TEST(Paths, RunsDoNotTakeTheNamesOfCodeRooms) {
  for (const char* room : {"corpus", "pairs", "generation", "loading"}) {
    try {
      run_paths(KVLINGUA_SOURCE_DIR, room, "r");
      ADD_FAILURE() << room << " was taken for a run";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(std::string("data.name ") + room), std::string::npos)
          << error.what();
    }
  }
  EXPECT_NO_THROW(run_paths(KVLINGUA_SOURCE_DIR, "nano", "nano"));
  EXPECT_NO_THROW(run_paths("/o", "pairs", "pairs"));
}

TEST(Paths, HubNamesPassThrough) { EXPECT_EQ(resolve_path("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B"); }

}  // namespace
}  // namespace kvlingua
