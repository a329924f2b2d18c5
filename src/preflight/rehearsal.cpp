// Preflight (preflight.h): every stage run small, in a process of its own.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/preflight/preflight.h"
#include "kvlingua/preflight/small_recipe.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// A folder that goes when this does.
struct Scratch {
  fs::path path;
  explicit Scratch(const fs::path& near) : path(temporary_directory(near)) {}
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

// This program with other arguments, its output in `log`. It dies with this process. Returns what
// waitpid says.
int run_self(const std::vector<std::string>& arguments, const fs::path& log) {
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const std::string log_name = log.string();
  // Variables of torchrun and Slurm would make the child wait for processes that do not come.
  std::vector<std::string> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    const auto named = [&](const char* prefix) { return text.starts_with(prefix); };
    if (!named("RANK=") && !named("WORLD_SIZE=") && !named("LOCAL_RANK=") && !named("MASTER_") &&
        !named("SLURM_"))
      kept.push_back(text);
  }
  std::vector<char*> environment;
  for (std::string& variable : kept) environment.push_back(variable.data());
  environment.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int out = ::open(log_name.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    ::execve("/proc/self/exe", argv.data(), environment.data());
    ::_exit(127);
  }
  int status = -1;
  bool told = false;
  for (pid_t ended = 0; child > 0 && ended == 0;) {
    ended = ::waitpid(child, &status, WNOHANG);
    if (ended == 0) ::usleep(20000);
    if (stop_requested() && !std::exchange(told, true)) ::kill(child, SIGTERM);
  }
  return status;
}

std::string last_line(const fs::path& file) {
  std::ifstream in(file);
  std::string last;
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) last = line;
  return last;
}

MeasuredStage measured_of(const std::string& name, const nlohmann::json& meter) {
  MeasuredStage stage{.name = name, .memory = meter.at("peak_memory_bytes").get<double>()};
  for (const auto& [phase, took] : meter.at("phases").items())
    stage.phases[phase] = {took.at("units").get<double>(), took.at("seconds").get<double>()};
  return stage;
}

std::vector<MeasuredStage> stages_of(const nlohmann::json& result) {
  std::vector<MeasuredStage> stages;
  if (result.contains("generate")) stages.push_back(measured_of("generate", result["generate"]));
  for (const auto& stage : result.at("train").at("stages"))
    stages.push_back(measured_of(stage.at("stage").get<std::string>(), stage));
  stages.push_back(measured_of("evaluate", result.at("evaluate").at("run")));
  return stages;
}

// Before the work itself a rehearsal is only made when it is a small part of it.
constexpr double kWorthIt = 30;  // seconds of work, as computed

std::string why_not(const Preflight& p, const RunContext& context, bool work_follows) {
  if (p.card) return "the card is not here";
  if (!p.can_run()) return "it cannot run here";
  if (work_follows && p.plan.seconds < kWorthIt) return "the run itself is short";
  if (!context.world.alone()) return "several processes";
  for (const auto& [name, cost] : costs_of(p.recipe))
    if (!cost.why_whole.empty()) return cost.why_whole;
  return {};
}

// The result of the small run; null, and `problem`, when it failed.
nlohmann::json small_run(const SmallRecipe& small, const Preflight& p, const RunContext& context,
                         std::string& problem) {
  const Scratch scratch(context.paths.out / ("rehearsal-" + p.recipe.run_name()));
  const fs::path recipe = scratch.path / "recipe.yaml", result = scratch.path / "result.json",
                 log = scratch.path / "log";
  write_file_atomic(recipe, small.recipe.to_yaml());
  std::vector<std::string> arguments = {"kvlingua",
                                        "quickstart",
                                        recipe.string(),
                                        "--out",
                                        scratch.path.string(),
                                        "--json",
                                        result.string(),
                                        "--device",
                                        context.device,
                                        "--rehearsal",
                                        cat(small.rows_of_whole),
                                        "-q"};
  if (context.seed) arguments.insert(arguments.end(), {"--seed", cat(*context.seed)});
  const int status = run_self(arguments, log);
  if (stop_requested()) throw stopped_error("nothing was begun");
  std::error_code ignored;
  const bool ended = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
  if (!ended || !fs::exists(result, ignored)) {
    problem = "the small run failed: " + printable(last_line(log), 300);
    return nullptr;
  }
  return parse_json(read_text_file(result), result.string());
}

}  // namespace

void rehearse(Preflight& p, const RunContext& context, const fs::path& keep) {
  p.rehearsal_problem = why_not(p, context, !keep.empty());
  if (!p.rehearsal_problem.empty()) return;
  const PlanInputs whole = p.inputs();
  const SmallRecipe small = cut_small(whole);
  PlanInputs part{small.recipe, whole.source, whole.target, p.corpus, p.machine};
  part.corpus.samples = small.recipe.data.max_samples;

  const double begin = wall_seconds();
  const std::string key = cat(p.recipe.recipe_sha256(), " ", context.device, " ", p.facts.name, " ",
                              p.facts.threads, " threads");
  nlohmann::json kept;
  std::error_code ignored;
  if (!keep.empty() && fs::exists(keep, ignored)) {
    try {
      kept = parse_json(read_text_file(keep), keep.string());
    } catch (const Error&) {
      // Cut off or damaged: measured again.
    }
  }
  nlohmann::json result;
  if (kept.is_object() && kept.value("key", "") == key) {
    result = kept["result"];
  } else {
    kept = nullptr;  // of another recipe or device: replaced below
    log_info("preflight: every stage runs small");
    result = small_run(small, p, context, p.rehearsal_problem);
  }
  if (!p.rehearsal_problem.empty()) return;
  const std::vector<MeasuredStage> stages = stages_of(result);
  adopt(p.plan, whole, part, stages);
  p.rehearsal_seconds = wall_seconds() - begin;
  p.rehearsal_how = say_cut(whole, part);
  find_misfits(p);
  if (!keep.empty() && !kept.is_object()) {
    nlohmann::json meters = {{"train", {{"stages", nlohmann::json::array()}}}};
    const auto meter_of = [](const nlohmann::json& j) {
      return nlohmann::json{{"peak_memory_bytes", j.at("peak_memory_bytes")},
                            {"phases", j.at("phases")}};
    };
    if (result.contains("generate")) meters["generate"] = meter_of(result["generate"]);
    for (const auto& stage : result["train"]["stages"]) {
      meters["train"]["stages"].push_back(meter_of(stage));
      meters["train"]["stages"].back()["stage"] = stage["stage"];
    }
    meters["evaluate"]["run"] = meter_of(result["evaluate"]["run"]);
    make_directories(keep.parent_path());
    write_file_atomic(keep, nlohmann::json{{"key", key}, {"result", meters}}.dump(1) + "\n");
  }
}

}  // namespace kvlingua
