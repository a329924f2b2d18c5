// Which process this is among how many: the environment of torchrun, or of Slurm, or alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace kvlingua {

struct World {
  int64_t rank = 0;
  int64_t size = 1;
  int64_t local_rank = 0;
  std::string master_addr = "127.0.0.1";
  int64_t master_port = 29500;
  // torchrun's agent keeps a store at that address: no process of the run opens one there.
  bool served = false;
  std::string note;  // what is odd about the environment, to be said aloud; mostly empty
  bool alone() const { return size == 1; }
  bool is_main() const { return rank == 0; }

  // RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_USE_AGENT_STORE; failing
  // these SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_LAUNCH_NODE_IPADDR or the first of
  // SLURM_JOB_NODELIST, and a port made from SLURM_JOB_ID. Throws Error (kUsage) naming the
  // variable when one is malformed or they contradict each other. `get` stands in for getenv in
  // tests.
  static World from_environment();
  static World from_environment(const std::function<const char*(const char*)>& get);
};

}  // namespace kvlingua
