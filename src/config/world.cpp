#include "kvlingua/config/world.h"

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Get = std::function<const char*(const char*)>;

std::optional<int64_t> integer(const Get& get, const char* name, int64_t min, int64_t max) {
  const char* text = get(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::string_view view(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < min || value > max) {
    throw Error({.code = ExitCode::kUsage,
                 .where = cat("environment: ", name),
                 .what = "wrong value",
                 .got = printable(view, 40),
                 .expected = cat("an integer from ", min, " to ", max)});
  }
  return value;
}

// "node[03-07,9]" -> "node03", "a,b" -> "a"
std::string first_host(std::string_view list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string_view::npos || comma < bracket)
    return std::string(list.substr(0, comma));
  const std::string_view inside = list.substr(bracket + 1);
  return std::string(list.substr(0, bracket)) +
         std::string(inside.substr(0, inside.find_first_of(",-]")));
}

}  // namespace

World World::from_environment() {
  return from_environment(
      [](const char* name) { return static_cast<const char*>(std::getenv(name)); });
}

World World::from_environment(const Get& get) {
  constexpr int64_t kMost = 1 << 20;
  World world;
  const auto text = [&](const char* name) {
    return std::string(get(name) == nullptr ? "" : get(name));
  };
  const auto size = integer(get, "WORLD_SIZE", 1, kMost), rank = integer(get, "RANK", 0, kMost - 1);
  if (size || rank) {
    if (!size || !rank) {
      throw Error({.code = ExitCode::kUsage,
                   .where = "environment",
                   .what = "RANK and WORLD_SIZE belong together",
                   .got = size ? "only WORLD_SIZE" : "only RANK",
                   .remedy = "set both, as torchrun does, or neither"});
    }
    world.size = *size;
    world.rank = *rank;
    world.local_rank = integer(get, "LOCAL_RANK", 0, kMost).value_or(0);
    if (!text("MASTER_ADDR").empty()) world.master_addr = text("MASTER_ADDR");
    world.master_port = integer(get, "MASTER_PORT", 1, 65535).value_or(world.master_port);
    world.served = text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  } else if (const auto tasks = integer(get, "SLURM_NTASKS", 1, kMost);
             tasks && get("SLURM_PROCID") != nullptr) {
    world.size = *tasks;
    world.rank = integer(get, "SLURM_PROCID", 0, kMost - 1).value_or(0);
    world.local_rank = integer(get, "SLURM_LOCALID", 0, kMost).value_or(0);
    if (!text("MASTER_ADDR").empty()) {
      world.master_addr = text("MASTER_ADDR");
    } else if (!text("SLURM_LAUNCH_NODE_IPADDR").empty() && text("SLURM_JOB_NODELIST").empty()) {
      world.master_addr = text("SLURM_LAUNCH_NODE_IPADDR");
    } else if (!text("SLURM_JOB_NODELIST").empty()) {
      world.master_addr = first_host(text("SLURM_JOB_NODELIST"));
    }
    world.master_port =
        integer(get, "MASTER_PORT", 1, 65535)
            .value_or(20000 + integer(get, "SLURM_JOB_ID", 0, INT64_MAX).value_or(9500) % 20000);
    // sbatch gives its script these variables too, with SLURM_PROCID 0; a step is srun's alone.
    const bool step = !text("SLURM_STEP_ID").empty() || !text("SLURM_STEPID").empty() ||
                      !text("SLURM_STEP_NUM_TASKS").empty();
    if (world.size > 1 && !step && world.rank == 0) {
      const int64_t tasks_said = world.size;
      world = World{};
      world.note =
          cat("Slurm's variables say ", tasks_said,
              " tasks, but no srun started this program (no SLURM_STEP_ID): it works alone "
              "and does all of it; start it with srun to share the work");
    }
  }
  if (world.rank >= world.size) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "environment",
                 .what = "rank outside the world",
                 .got = cat("rank ", world.rank, " of ", world.size),
                 .expected = cat("0 to ", world.size - 1)});
  }
  return world;
}

}  // namespace kvlingua
