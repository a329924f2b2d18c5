#include "kvlingua/config/c2c_recipe.h"

#include <yaml-cpp/yaml.h>

#include <optional>
#include <set>

#include "kvlingua/config/recipe.h"

namespace kvlingua {
namespace {

struct C2cParams {
  int64_t hidden_dim = 1024, intermediate_dim = 1024, num_layers = 3, anneal_steps = 1929;
  double dropout = 0.1, initial_temperature = 1.0, final_temperature = 0.001;
  bool zero_init = false, use_gumbel = true;
  int64_t ablation_level = 0;
  // Of the older class.
  AllInOneOptions older;
  std::string gate_granularity = "scalar", gate_input_features, weight_granularity = "scalar";
  bool gate_depends_on_input = false, pos_emb = false;
  double gate_init_value = 0;
  int64_t max_sequence_length = 8192;

  template <class V>
  void visit(V& v) {
    v.field("hidden_dim", hidden_dim, {.min = 1, .max = 1 << 16});
    v.field("intermediate_dim", intermediate_dim, {.min = 1, .max = 1 << 16});
    v.field("num_layers", num_layers, {.min = 1, .max = 64});
    v.field("dropout", dropout, {.min = 0, .max = 0.95});
    v.field("initial_temperature", initial_temperature, {.above = 0});
    v.field("final_temperature", final_temperature, {.above = 0});
    v.field("anneal_steps", anneal_steps, {.min = 1});
    v.field("zero_init", zero_init, {});
    v.field("use_gumbel", use_gumbel, {});
    v.field("ablation_level", ablation_level, {.min = 0, .max = 4});
    v.field("weight_hidden_dim", older.weight_hidden_dim, {.min = 1, .max = 1 << 16});
    v.field("activation", older.activation, {.choices = {"gelu", "relu", "silu"}});
    v.field("use_layer_norm", older.layer_norm, {});
    v.field("use_residual", older.residual, {});
    v.field("use_swiglu", older.swiglu, {});
    v.field("use_concat", older.concat, {});
    v.field("gate_granularity", gate_granularity, {.choices = {"scalar"}});
    v.field("gate_depends_on_input", gate_depends_on_input, {});
    v.field("gate_input_features", gate_input_features, {});
    v.field("gate_init_value", gate_init_value, {});
    v.field("weight_granularity", weight_granularity, {.choices = {"scalar", "head_merged"}});
    v.field("weight_depends_on_input", older.weight_depends_on_input, {});
    v.field("weight_input_features", older.weight_input,
            {.choices = {"target_key", "target_value", "both", "target_projected_key",
                         "target_projected_value", "target_projected_both"}});
    v.field("weight_init_value", older.weight_init, {});
    v.field("preserve_target_weight", older.preserve_target_weight, {});
    v.field("add_self", older.add_self, {});
    v.field("scalar_temperature", older.scalar_temperature, {.above = 0});
    v.field("max_sequence_length", max_sequence_length, {.min = 1});
    v.field("pos_emb", pos_emb, {});
    v.require(!gate_depends_on_input, "gate_depends_on_input",
              "gates that depend on their input are not supported");
    v.require(older.weight_depends_on_input == (weight_granularity == "head_merged"),
              "weight_granularity",
              "head_merged with weight_depends_on_input, scalar without, are supported");
  }
};

struct C2cProjectorPart {
  std::string type = "C2CProjector";
  C2cParams params;

  template <class V>
  void visit(V& v) {
    v.field("type", type, {.choices = {"C2CProjector", "AblationProjector", "AllInOneProjector"}});
    v.section("params", params);
  }
  bool older() const { return type == "AllInOneProjector"; }
};

struct C2cModelPart {
  std::string base_model, teacher_model;
  bool is_do_alignment = false, include_response = false;
  std::string alignment_strategy = "first", multi_source_fusion_mode = "sequential",
              attn_implementation, mapping = "last_aligned";
  C2cProjectorPart projector;

  template <class V>
  void visit(V& v) {
    v.field("base_model", base_model, {.help = "the receiver", .required = true});
    v.field("teacher_model", teacher_model, {.help = "the sharer", .required = true});
    v.field("is_do_alignment", is_do_alignment, {});
    v.field("alignment_strategy", alignment_strategy, {.choices = {"first", "longest"}});
    v.field("include_response", include_response, {});
    v.field("multi_source_fusion_mode", multi_source_fusion_mode,
            {.choices = {"sequential", "parallel"}});
    v.field("attn_implementation", attn_implementation, {});
    v.section("projector", projector);
    v.field("mapping", mapping, {.choices = {"last_aligned", "k_nearest"}});
  }
};

struct C2cTrainingPart {
  double learning_rate = 1e-4, weight_decay = 0.01, num_epochs = 1, warmup_ratio = 0.1,
         max_grad_norm = 1.0;
  int64_t max_length = 2048, gradient_accumulation_steps = 8, per_device_train_batch_size = 4,
          seed = 42, pad_to_multiple_of = 0, num_processes = 0;
  std::string device, scheduler_type = "linear";
  std::vector<std::string> freeze;

  template <class V>
  void visit(V& v) {
    v.field("learning_rate", learning_rate, {.above = 0});
    v.field("weight_decay", weight_decay, {.min = 0});
    v.field("num_epochs", num_epochs, {.above = 0});
    v.field("max_length", max_length, {.min = 2, .max = 1 << 20});
    v.field("device", device, {});
    v.field("scheduler_type", scheduler_type, {.choices = {"linear", "cosine", "constant"}});
    v.field("warmup_ratio", warmup_ratio, {.min = 0, .max = 1});
    v.field("max_grad_norm", max_grad_norm, {.min = 0});
    v.field("gradient_accumulation_steps", gradient_accumulation_steps, {.min = 1, .max = 1 << 16});
    v.field("per_device_train_batch_size", per_device_train_batch_size, {.min = 1, .max = 1 << 24});
    v.field("num_processes", num_processes, {.min = 0});
    v.field("freeze", freeze, {.choices = {"teacher", "base", "projector"}});
    v.field("seed", seed, {.min = 0});
    v.field("pad_to_multiple_of", pad_to_multiple_of, {.min = 0});
  }
};

struct C2cWandbPart {
  std::string project, mode, entity, run_name;

  template <class V>
  void visit(V& v) {
    v.field("project", project, {});
    v.field("mode", mode, {});
    v.field("entity", entity, {});
    v.field("run_name", run_name, {});
  }
};

struct C2cOutputPart {
  std::string output_dir;
  int64_t save_steps = 500, eval_steps = 100;
  C2cWandbPart wandb_config;

  template <class V>
  void visit(V& v) {
    v.field("output_dir", output_dir, {});
    v.field("save_steps", save_steps, {.min = 0});
    v.field("eval_steps", eval_steps, {.min = 0});
    v.section("wandb_config", wandb_config);
  }
};

struct C2cKwargs {
  std::string split, dataset_path, data_path, path;
  int64_t num_samples = 0, max_word_count = 0, limit = 0;

  template <class V>
  void visit(V& v) {
    v.field("split", split, {});
    v.field("num_samples", num_samples, {.min = 0});
    v.field("max_word_count", max_word_count, {.min = 0});
    v.field("limit", limit, {.min = 0});
    v.field("dataset_path", dataset_path, {});
    v.field("data_path", data_path, {});
    v.field("path", path, {});
  }
};

struct C2cDataPart {
  std::string type = "OpenHermesChatDataset";
  C2cKwargs kwargs;
  double train_ratio = 0.99;

  template <class V>
  void visit(V& v) {
    v.field(
        "type", type,
        {.choices = {"OpenHermesChatDataset", "MMLUChatDataset", "MMLUCotChatDataset",
                     "OpenBookChatDataset", "LLMGeneratedChatDataset", "LongBenchChatDataset"}});
    v.section("kwargs", kwargs);
    v.field("train_ratio", train_ratio, {.max = 1, .above = 0});
  }
};

struct C2cRecipe {
  C2cModelPart model;
  C2cTrainingPart training;
  C2cOutputPart output;
  C2cDataPart data;

  template <class V>
  void visit(V& v) {
    v.section("model", model);
    v.section("training", training);
    v.section("output", output);
    v.section("data", data);
  }
};

constexpr const char* kParams = "model.projector.params.";

// Parameters that the other class alone has: its constructor would not take them.
std::vector<Problem> foreign_params(const C2cProjectorPart& projector, const Places& places) {
  static const std::set<std::string> newer{"intermediate_dim", "zero_init", "ablation_level"},
      common{"hidden_dim",        "num_layers",   "dropout",   "initial_temperature",
             "final_temperature", "anneal_steps", "use_gumbel"};
  std::vector<Problem> problems;
  for (const auto& [path, place] : places) {
    if (!path.starts_with(kParams)) continue;
    const std::string name = path.substr(std::string_view(kParams).size());
    if (common.contains(name) || newer.contains(name) != projector.older()) continue;
    Problem problem = place;
    problem.parts.what = cat(path, ": ", projector.type, " has no such parameter");
    problems.push_back(problem);
  }
  return problems;
}

// The older class's own defaults, where nothing was given.
C2cParams with_older_defaults(C2cParams params, const Places& places) {
  const auto absent = [&](const char* name) { return !places.contains(cat(kParams, name)); };
  if (absent("hidden_dim")) params.hidden_dim = 512;
  if (absent("num_layers")) params.num_layers = 2;
  if (absent("final_temperature")) params.final_temperature = 0.01;
  if (absent("anneal_steps")) params.anneal_steps = 1360;
  return params;
}

// Their fields to ours, one line each.
void translate(const C2cRecipe& from, const Places& places, const std::string& file, Recipe& to) {
  to.pair.target.name = from.model.base_model;
  to.pair.source.name = from.model.teacher_model;
  to.pair.alignment = from.model.is_do_alignment ? from.model.alignment_strategy : "identity";

  to.projector.kind = "c2c";
  C2cOptions& c2c = to.projector.c2c;
  const bool older = from.model.projector.older();
  const C2cParams params = older ? with_older_defaults(from.model.projector.params, places)
                                 : from.model.projector.params;
  if (older) {
    c2c.type = from.model.projector.type;
    c2c.all_in_one = params.older;
    c2c.all_in_one.gumbel = params.use_gumbel;
  }
  c2c.hidden_dim = params.hidden_dim;
  c2c.intermediate_dim = params.intermediate_dim;
  c2c.num_layers = params.num_layers;
  c2c.dropout = params.dropout;
  c2c.initial_temperature = params.initial_temperature;
  c2c.final_temperature = params.final_temperature;
  c2c.anneal_steps = params.anneal_steps;
  c2c.zero_init = params.zero_init;
  c2c.mapping = from.model.mapping;
  c2c.fusion = from.model.multi_source_fusion_mode;
  c2c.ablation = from.model.projector.type == "AblationProjector" ? params.ablation_level : 0;

  to.train.stages = {kC2cStage};
  to.train.seed = from.training.seed;
  C2cTrainOptions& train = to.train.c2c;
  train.optimizer.lr = from.training.learning_rate;
  train.optimizer.weight_decay = from.training.weight_decay;
  train.optimizer.schedule = from.training.scheduler_type;
  train.optimizer.warmup_ratio = from.training.warmup_ratio;
  train.optimizer.clip = from.training.max_grad_norm;
  train.batch.size = from.training.per_device_train_batch_size;
  train.batch.accumulation = from.training.gradient_accumulation_steps;
  train.batch.epochs = from.training.num_epochs;
  train.max_length = from.training.max_length;
  train.include_response = from.model.include_response;
  train.train_ratio = from.data.train_ratio;
  train.validate_every = from.output.eval_steps;
  to.checkpoint.every = from.output.save_steps;
  to.eval.conditions = {"baseline", "full_text", "same_cache", "noise",
                        "shuffled", "averaged",  "wrong_text", "fused"};
  to.eval.gated = "fused";
  if (!from.output.output_dir.empty()) {
    std::filesystem::path folder(from.output.output_dir);
    if (!folder.has_filename()) folder = folder.parent_path();
    to.checkpoint.name = folder.filename().string();
  }

  to.data.kind = from.data.type == "OpenHermesChatDataset" ? "sharegpt" : "chat";
  to.data.seed = from.training.seed;
  to.data.max_length = from.data.kwargs.max_word_count > 0 ? from.data.kwargs.max_word_count
                                                           : from.training.max_length;
  to.data.max_samples = from.data.kwargs.num_samples;
  for (const std::string& path :
       {from.data.kwargs.dataset_path, from.data.kwargs.data_path, from.data.kwargs.path}) {
    if (!path.empty()) to.data.files.push_back(path);
  }
  // C2C downloads its data sets by name; here they are files.
  if (to.data.files.empty()) {
    const bool hermes = from.data.type == "OpenHermesChatDataset";
    to.data.files = {hermes ? "openhermes2_5.json" : from.data.type + ".jsonl"};
    to.notes.push_back(cat(file, ": data.type ", from.data.type, " is read from ", to.data.files[0],
                           hermes ? ": `hf download --repo-type dataset teknium/OpenHermes-2.5 "
                                    "openhermes2_5.json --local-dir .`"
                                  : ": write it as JSONL of {\"messages\": [...]}",
                           ", or --set data.files=[FILE]"));
  }
}

// What was given but changes nothing here.
void add_notes(const C2cRecipe& from, const Places& places, const std::string& file,
               std::vector<std::string>& notes) {
  const std::pair<const char*, const char*> without_effect[] = {
      {"model.attn_implementation", "attention is chosen by device"},
      {"model.projector.params.use_gumbel", "the gate is always Gumbel in training"},
      {"training.device", "use --device"},
      {"training.num_processes",
       "torchrun's environment decides (C2C does not read it either), and a step has the same "
       "conversations however many share it; C2C's own have as many times more: multiply "
       "train.c2c.batch.accumulation"},
      {"training.pad_to_multiple_of", "batches are bucketed by length (C2C ignores it too)"},
      {"training.freeze", "both models are always frozen, the projector is trained"},
      {"output.wandb_config", "metrics go to JSON lines and TensorBoard"},
      {"data.kwargs.limit", "use data.max_samples"},
      {"data.kwargs.split", "files are named by data.files"},
  };
  for (const auto& [path, why] : without_effect) {
    if (from.model.projector.older() && std::string_view(path).ends_with("use_gumbel")) continue;
    const auto place = places.find(path);
    if (place != places.end())
      notes.push_back(cat(place->second.parts.where, ": ", path, " has no effect: ", why));
  }
  if (from.model.include_response) {
    notes.push_back(cat(places.at("model.include_response").parts.where,
                        ": model.include_response trains with the answer fused too; the condition "
                        "`fused` generates with the prompt alone fused, as C2C's evaluator does "
                        "unless told otherwise"));
  }
  if (from.output.output_dir.find('/') != std::string::npos) {
    notes.push_back(cat(
        file,
        ": output.output_dir: only its last part is used, as checkpoint.name; --out says where"));
  }
}

// Its baselines train one model alone.
std::optional<Problem> baseline(std::string_view yaml, const std::string& file) {
  const YAML::Node model = YAML::Load(std::string(yaml))["model"];
  if (!model.IsMap() || !model["baseline_model"]) return std::nullopt;
  const YAML::Mark mark = model["baseline_model"].Mark();
  return Problem{
      mark.line + 1,
      mark.column + 1,
      {.where = cat(file, ":", mark.line + 1, ":", mark.column + 1),
       .what = "model.baseline_model: a recipe that trains one model, without a projector",
       .expected = "base_model and teacher_model"}};
}

}  // namespace

bool is_c2c_recipe(std::string_view yaml) {
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    return root.IsMap() && root["model"] && root["training"];
  } catch (const YAML::Exception&) {
    return false;  // the reader will say what is wrong with it
  }
}

std::vector<Problem> read_c2c_recipe(std::string_view yaml, const std::string& file,
                                     Recipe& recipe) {
  if (auto problem = baseline(yaml, file)) return {std::move(*problem)};
  C2cRecipe c2c;
  Places places;
  std::vector<Problem> problems = read_options(visit_of(c2c), yaml, file, &places, true);
  if (problems.empty()) problems = check_options(visit_of(c2c), places, file);
  if (!problems.empty()) return problems;
  problems = foreign_params(c2c.model.projector, places);
  if (!problems.empty()) return problems;
  translate(c2c, places, file, recipe);
  add_notes(c2c, places, file, recipe.notes);
  return problems;
}

}  // namespace kvlingua
