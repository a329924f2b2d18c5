// A preflight as people read it: the machine, the plan a stage a line, the small run, the problems.
#include <torch/version.h>

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kvlingua/base/progress.h"
#include "kvlingua/model/weight_plan.h"
#include "kvlingua/preflight/preflight.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

std::string shape_text(const ModelConfig& c) {
  return cat(to_string(c.architecture), ", ", c.num_layers, " layers, ", c.num_kv_heads,
             " KV heads of ", c.head_dim, ", ",
             count_text(static_cast<double>(c.parameter_count())), " parameters");
}

Json model_json(const ModelCheck& model) {
  Json json = {{"name", model.name},
               {"present", model.present},
               {"directory", model.directory},
               {"problem", model.problem}};
  if (model.known) {
    json["architecture"] = to_string(model.config.architecture);
    json["num_layers"] = model.config.num_layers;
    json["num_kv_heads"] = model.config.num_kv_heads;
    json["head_dim"] = model.config.head_dim;
    json["parameters"] = model.config.parameter_count();
  }
  return json;
}

// What it takes to fit: nothing, changes, or null where nothing does.
Json fit_json(const Preflight& p) {
  if (p.plan.fits_memory && !p.plan.stages.empty()) {
    const StagePlan& most = *std::ranges::max_element(p.plan.stages, {}, &StagePlan::memory);
    return {{"set", Json::array()}, {"stage", most.name}, {"memory_bytes", most.memory}};
  }
  if (!p.fit) return nullptr;
  return {{"set", p.fit->set}, {"stage", p.fit->stage}, {"memory_bytes", p.fit->memory}};
}

// "dense 1.11 GiB, int8 ..., nf4 ...": what a model's weights take by how they are held.
std::string weights_text(const ModelConfig& config, int64_t compute_bytes) {
  std::string text;
  for (const HeldWeights& held : weights_by_type(config, compute_bytes, "dense"))
    text += cat(text.empty() ? "" : ", ", held.name, " ",
                bytes_text(static_cast<double>(held.bytes + held.scratch)));
  return text;
}

// A map of p features to n rows loses (1 - R2)
// p / n of its held-out R2 to there being no more rows.
void print_rows(std::ostream& row, const StagePlan& stage) {
  constexpr double kFewRows = 20;
  const double rows = static_cast<double>(stage.step_size), each = stage.rows_per_feature;
  std::ostringstream share;
  share << std::fixed << std::setprecision(each < 1 ? 2 : 1) << each;
  row << count_text(rows) << " rows, " << count_text(rows / each) << " features, " << share.str()
      << " rows each";
  if (each <= 1) {
    row << ": FEWER ROWS THAN FEATURES, only what lambda keeps of the map can hold elsewhere";
  } else if (each < kFewRows) {
    row << ": few, about " << count_text(100 / each)
        << " % of what the map leaves unexplained is for want of rows";
  }
  row << (each < kFewRows ? "; add documents, or lower projector.ridge.budget\n" : "\n");
}

std::ostream& row(std::ostream& out, std::string_view name) {
  return out << std::left << std::setw(12) << name;
}

void print_machine(std::ostream& out, const Preflight& p) {
  row(out, "recipe") << p.recipe.name << "  (" << p.recipe.file.string() << ")\n";
  row(out, "device")
      << (p.card ? "not here" : p.device.str()) << "  " << p.facts.name << ", "
      << bytes_text(static_cast<double>(p.facts.memory))
      << (p.device.is_cuda() ? "" : " available, " + std::to_string(p.facts.threads) + " threads")
      << (p.facts.capability.empty() ? "" : ", compute capability " + p.facts.capability)
      << ", bfloat16 " << (p.facts.bfloat16 ? "native" : "not native") << "\n";
  row(out, "") << count_text(p.machine.flops / 1e9) << " GFLOP/s "
               << (p.card ? "(half of what is published), " : "measured, ")
               << bytes_text(p.machine.bandwidth) << "/s\n";
  row(out, "software") << "libtorch " << TORCH_VERSION
                       << (p.facts.cuda_runtime.empty() ? ", no CUDA"
                                                        : ", CUDA " + p.facts.cuda_runtime)
                       << (p.facts.driver.empty() ? ", no NVIDIA driver"
                                                  : ", driver " + p.facts.driver)
                       << "\n";
}

void print_models(std::ostream& out, const Preflight& p) {
  for (const auto& [role, model] :
       {std::pair("source", &p.source), std::pair("target", &p.target)}) {
    row(out, role) << model->name << (model->present ? "" : "  NOT HERE")
                   << (model->known ? "  " + shape_text(model->config) : "") << "\n";
  }
  if (p.source.known && p.target.known) {
    const PlanInputs in = p.inputs();
    row(out, "weights") << "source: " << weights_text(p.source.config, in.source.compute_bytes)
                        << "\n";
    row(out, "") << "target: " << weights_text(p.target.config, in.target.compute_bytes) << "\n";
  }
  row(out, "disk") << (p.card ? ""
                              : cat(bytes_text(p.machine.disk_free), " free in ", p.out.string(),
                                    ", "))
                   << bytes_text(p.plan.disk) << " needed\n";
}

void print_sizes(std::ostream& out, const Preflight& p) {
  row(out, "pairs") << count_text(static_cast<double>(p.corpus.samples)) << " samples, "
                    << count_text(p.plan.dataset_tokens) << " tokens, "
                    << count_text(p.plan.bytes_per_token) << " bytes a token, "
                    << bytes_text(p.plan.dataset_bytes) << "\n";
  row(out, "projector") << p.recipe.projector.kind << ", "
                        << count_text(static_cast<double>(p.plan.projector_parameters))
                        << " parameters\n";
  for (const StagePlan& stage : p.plan.stages)
    if (stage.rows_per_feature > 0) print_rows(row(out, stage.name), stage);
}

void print_stages(std::ostream& out, const Preflight& p) {
  out << std::left << std::setw(14) << "stage" << std::right << std::setw(12) << "peak memory"
      << std::setw(16) << "time" << std::setw(12) << "disk"
      << "   largest batch that fits\n";
  for (const StagePlan& stage : p.plan.stages) {
    out << std::left << std::setw(14) << stage.name << std::right << std::setw(12)
        << bytes_text(stage.memory) << std::setw(16) << duration_text(stage.seconds)
        << std::setw(12) << bytes_text(stage.disk);
    if (!stage.batch_key.empty()) {
      out << "   " << stage.batch_key << " " << count_text(static_cast<double>(stage.largest_batch))
          << " (recipe: " << stage.batch << ")";
    }
    out << (stage.fits ? "" : "   DOES NOT FIT") << "\n";
  }
  out << std::left << std::setw(14) << "all" << std::right << std::setw(12) << "" << std::setw(16)
      << duration_text(p.plan.seconds) << std::setw(12) << bytes_text(p.plan.disk) << "\n";
}

}  // namespace

Json to_json(const Preflight& p) {
  Json stages = Json::array();
  for (const StagePlan& stage : p.plan.stages) {
    stages.push_back({{"stage", stage.name},
                      {"peak_memory_bytes", stage.memory},
                      {"seconds", stage.seconds},
                      {"rehearsed", !stage.rehearsed.empty()},
                      {"disk_bytes", stage.disk},
                      {"fits", stage.fits},
                      {"rows_per_feature", stage.rows_per_feature},
                      {"batch_key", stage.batch_key},
                      {"batch", stage.batch},
                      {"largest_batch", stage.largest_batch}});
  }
  return {{"recipe", p.recipe.name},
          {"recipe_sha256", p.recipe.recipe_sha256()},
          {"can_run", p.can_run()},
          {"problems", p.problems},
          {"device",
           {{"name", p.facts.name},
            {"kind", p.device.str()},
            {"here", !p.card.has_value()},
            {"usable_bytes", p.machine.memory},
            {"memory_bytes", p.facts.memory},
            {"bfloat16", p.facts.bfloat16},
            {"compute_capability", p.facts.capability},
            {"driver", p.facts.driver},
            {"cuda_runtime", p.facts.cuda_runtime},
            {"threads", p.facts.threads},
            {"flops", p.machine.flops},
            {"bandwidth", p.machine.bandwidth}}},
          {"libtorch", TORCH_VERSION},
          {"models", {{"source", model_json(p.source)}, {"target", model_json(p.target)}}},
          {"disk",
           {{"path", p.out.string()},
            {"free_bytes", p.machine.disk_free},
            {"needed_bytes", p.plan.disk},
            {"write_rate", p.machine.disk_rate}}},
          {"bytes_per_token", p.plan.bytes_per_token},
          {"dataset",
           {{"samples", p.corpus.samples},
            {"tokens_per_sample", p.corpus.tokens_per_sample},
            {"tokens", p.plan.dataset_tokens},
            {"bytes", p.plan.dataset_bytes}}},
          {"projector_parameters", p.plan.projector_parameters},
          {"rehearsal",
           {{"seconds", p.rehearsal_seconds},
            {"how", p.rehearsal_how},
            {"problem", p.rehearsal_problem}}},
          {"stages", stages},
          {"fit", fit_json(p)},
          {"seconds", p.plan.seconds}};
}

std::string to_text(const Preflight& p) {
  std::ostringstream out;
  print_machine(out, p);
  print_models(out, p);
  if (!p.plan.stages.empty()) {
    print_sizes(out, p);
    out << "\n";
    print_stages(out, p);
  }
  if (p.rehearsal_seconds > 0) {
    out << "\nmeasured: every stage ran small, in " << duration_text(p.rehearsal_seconds) << ": "
        << p.rehearsal_how << "\n";
  } else if (!p.rehearsal_problem.empty() && !p.plan.stages.empty()) {
    out << "\ncomputed from shapes alone: " << p.rehearsal_problem << "\n";
  }
  out << "\n" << (p.can_run() ? "can run\n" : "cannot run:\n");
  for (const std::string& problem : p.problems) out << "  " << problem << "\n";
  return out.str();
}

}  // namespace kvlingua
