#include "kvlingua/config/plan.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

struct Inputs {
  const Recipe& recipe;
  const ModelNumbers& source;
  const ModelNumbers& target;
  const CorpusNumbers& corpus;
  const MachineNumbers& machine;

  double length() const { return std::max(1.0, corpus.tokens_per_sample); }
  double span_tokens() const { return d(corpus.samples) * length(); }
};

// Source channels that one ridge problem gathers, and that one target layer reads.
int64_t gathered_channels(const RidgeOptions& ridge, const ModelNumbers& source) {
  const int64_t candidates =
      ridge.candidate_layers > 0 ? std::min(ridge.candidate_layers, source.layers) : source.layers;
  const int64_t both = ridge.features == "both" ? 2 : 1;
  return both * (candidates + ridge.previous_tokens) * source.kv_channels();
}
int64_t read_channels(const RidgeOptions& ridge, const ModelNumbers& source) {
  const int64_t gathered = gathered_channels(ridge, source);
  if (ridge.source_layers == 0) return gathered;
  const int64_t both = ridge.features == "both" ? 2 : 1;
  return std::min(gathered, both * ridge.source_layers * source.kv_channels());
}

int64_t ridge_parameters(const RidgeOptions& ridge, const ModelNumbers& source,
                         const ModelNumbers& target) {
  const int64_t in = read_channels(ridge, source);
  const int64_t inputs = ridge.layout == "head_matched"
                             ? std::max<int64_t>(1, in / std::max<int64_t>(1, source.kv_heads))
                             : in;
  const int64_t outputs = 2 * target.layers * target.kv_channels();
  return outputs * (inputs + 1) + ridge.change_rank * (inputs + outputs);
}

int64_t mlp_parameters(const ProjectorOptions& options, const ModelNumbers& source,
                       const ModelNumbers& target) {
  const MlpOptions& mlp = options.mlp;
  const int64_t networks = 2 * target.layers, in = read_channels(options.ridge, source);
  const int64_t first = mlp.rank > 0 ? (in + mlp.hidden) * mlp.rank : in * mlp.hidden;
  return networks * (first + mlp.hidden + (mlp.depth - 1) * (mlp.hidden + 1) * mlp.hidden +
                     mlp.hidden * target.kv_channels());
}

int64_t all_in_one_parameters(const C2cOptions& c2c, const ModelNumbers& source,
                              const ModelNumbers& target) {
  const AllInOneOptions& o = c2c.all_in_one;
  const int64_t h = c2c.hidden_dim, cs = source.kv_channels(), ct = target.kv_channels();
  int64_t network = 0;  // keys' or values'
  for (int64_t i = 0; i < c2c.num_layers; ++i) {
    const bool last = i == c2c.num_layers - 1;
    const int64_t out = last ? ct : h;
    network += ((i == 0 ? cs : h) + 1) * out * (o.swiglu && !last ? 2 : 1);
    if (o.layer_norm && !last) network += 2 * h;
  }
  if (o.concat) network += (2 * ct + 1) * ct;
  int64_t weights = 2;
  if (o.weight_depends_on_input) {
    const int64_t w = o.weight_hidden_dim,
                  in = o.weight_input == "target_projected_both"                            ? 4
                       : o.weight_input == "target_key" || o.weight_input == "target_value" ? 1
                                                                                            : 2;
    weights = (in * ct + 1) * w + 2 * w + (w + 1) * w + 2 * (w + 1) * target.kv_heads;
  }
  return target.layers * (2 * network + weights + 1);
}

int64_t c2c_parameters(const C2cOptions& c2c, const ModelNumbers& source,
                       const ModelNumbers& target) {
  if (c2c.type == "AllInOneProjector") return all_in_one_parameters(c2c, source, target);
  const int64_t h = c2c.hidden_dim, i = c2c.intermediate_dim, cs = source.kv_channels(),
                ct = target.kv_channels();
  const int64_t tower = (cs + ct + 1) * h + (h + 2 * i * h) + (h + 2 * h * h) +
                        (h + 1) * target.kv_heads + (c2c.num_layers - 2) * (h + 2 * i * h) +
                        (h + 1) * ct + 1;
  return 2 * target.layers * tower;
}

// Forward through one model: the widest layer's temporaries, `tokens` at once.
double activation_bytes(const ModelNumbers& m, double tokens) {
  const double widest =
      std::max(3.0 * d(m.intermediate) + 2.0 * d(m.hidden),
               d(m.heads * m.head_dim) * 3.0 + 4.0 * d(m.kv_channels()) + 2.0 * d(m.hidden));
  return tokens * widest * d(m.compute_bytes);
}

// What backward keeps of one layer, per token: inputs of norms, projections, attention and the
// gated MLP.
double saved_bytes_per_token(const ModelNumbers& m) {
  const double layer = 4.0 * d(m.hidden) + 3.0 * d(m.heads * m.head_dim) +
                       4.0 * d(m.kv_channels()) + 4.0 * d(m.intermediate);
  return layer * d(m.compute_bytes);
}

double operations(const ModelNumbers& m) { return 30.0 * d(m.layers); }  // of one forward

double forward_seconds(const Inputs& in, const ModelNumbers& m, double tokens, double batches) {
  const double compute = tokens * m.flops_per_token(in.length()) / in.machine.flops;
  return std::max(compute, batches * operations(m) * in.machine.launch_seconds);
}

// Memory is affine in the batch: `memory(0)` and the same again for every unit.
StagePlan stage(const Inputs& in, std::string name, const std::function<double(double)>& memory,
                std::string key, int64_t batch) {
  StagePlan plan{.name = std::move(name), .batch_key = std::move(key), .batch = batch};
  plan.memory_per_batch = plan.batch_key.empty() ? 0 : memory(1) - memory(0);
  set_memory(plan, in.machine.base_memory + memory(d(batch)), in.machine);
  return plan;
}

// `one_at_a_time`: the stage can do with one model after the other (data.sequential).
double resident_weights(const Inputs& in, bool one_at_a_time) {
  const auto held = [](const ModelNumbers& m, bool streaming) {
    return streaming ? d(m.weight_bytes() - m.head_parameters * m.compute_bytes) /
                               d(std::max<int64_t>(1, m.layers)) * 2 +
                           d(m.head_parameters * m.compute_bytes)
                     : d(m.weight_bytes());
  };
  const double source = held(in.source, in.recipe.pair.source.layer_streaming);
  const double target = held(in.target, in.recipe.pair.target.layer_streaming);
  if (in.recipe.pair.source.name == in.recipe.pair.target.name)
    return source;  // one model, loaded once
  return one_at_a_time && in.recipe.data.sequential ? std::max(source, target) : source + target;
}

StagePlan generate_stage(const Inputs& in, double stored) {
  const DataOptions& data = in.recipe.data;
  const double weights = resident_weights(in, true);
  // What is computed faster than it is written waits, 256 MiB at most, in the host's memory.
  const double prefill_rate = in.machine.flops / (in.source.flops_per_token(in.length()) +
                                                  in.target.flops_per_token(in.length()));
  const double made = stored * prefill_rate / std::max(1.0, in.span_tokens());  // bytes a second
  const double late = stored * std::max(0.0, 1 - in.machine.disk_rate / std::max(1.0, made));
  const double waiting = in.machine.cuda ? 0 : std::min(late, double{256 << 20});
  const auto memory = [&, weights, waiting](double tokens) {
    const double caches = in.source.kv_bytes(d(in.source.compute_bytes)) +
                          in.target.kv_bytes(d(in.target.compute_bytes));
    return weights + tokens * caches + waiting +
           std::max(activation_bytes(in.source, tokens), activation_bytes(in.target, tokens));
  };
  StagePlan plan = stage(in, "generate", memory, "data.batch_tokens", data.batch_tokens);
  const double batches = std::ceil(in.span_tokens() / d(std::max<int64_t>(1, data.batch_tokens)));
  plan.disk = stored;
  const double prefill = forward_seconds(in, in.source, in.span_tokens(), batches) +
                         forward_seconds(in, in.target, in.span_tokens(), batches);
  plan.seconds = std::max(prefill, stored / in.machine.disk_rate);  // they overlap
  return plan;
}

// What reading the pairs holds: the loader's groups (256 MiB at most) and the held-out rows.
double reading_bytes(const Inputs& in) {
  const double loader = 256 << 20;
  const double element = storage_element_bytes(in.recipe.data.storage_dtype);
  const double stored =
      in.span_tokens() * (in.source.kv_bytes(element) + in.target.kv_bytes(element));
  const double previous =
      2.0 * d(in.recipe.projector.ridge.previous_tokens) * d(in.source.kv_channels());
  const double row = in.source.kv_bytes(4) + in.target.kv_bytes(4) + 4 * previous;
  const double held = std::min({4096.0, loader / row, in.span_tokens()}) * row;
  return in.machine.cuda ? held : held + std::min(stored, loader);
}

StagePlan ridge_stage(const Inputs& in) {
  const RidgeOptions& ridge = in.recipe.projector.ridge;
  const bool joint = ridge.features == "both";
  const double problems = joint ? 1 : 2, f = d(gathered_channels(ridge, in.source)),
               g = d(in.target.layers * in.target.kv_channels()) * (joint ? 2 : 1);
  const double element = 8;
  const double sums = problems * (f * f + f * g) * element;
  // Fitted and held-out rows are gathered apart, whether any are held out or not. The solution
  // holds their sum, and in standard units all, the fitted and the held-out rows.
  const bool judged = ridge.lambda.size() > 1 || ridge.source_layers > 0;
  const double copies = judged ? 5 : 3;
  // One group's system: a shifted copy, its factor and two weights; with a choice of lambda the best
  // one so far and the held-out products too.
  const double n = d(read_channels(ridge, in.source)),
               o = ridge.source_layers == 0 ? g : d(in.target.kv_channels());
  const double solve = (n * n * 2 + (ridge.lambda.size() > 1 ? 6 : 4) * n * o) * element;
  const double weights = d(ridge_parameters(ridge, in.source, in.target)) * 4;
  const double reading = reading_bytes(in);
  const auto memory = [=](double) { return sums * copies + solve + weights * 2 + reading; };
  StagePlan plan = stage(in, "ridge", memory, "", 0);
  const RidgeWork work = ridge_work(ridge, in.source, in.target, in.span_tokens());
  plan.seconds = work.gather / in.machine.flops_float32 + work.solve_seconds(in.machine) +
                 work.kept / in.machine.disk_rate;
  plan.disk = weights + work.kept;
  return plan;
}

// Weights, gradient and two moments in float32, and the copy that a background checkpoint takes.
double training_state_bytes(const Inputs& in, double parameters,
                            const OptimizerOptions& optimizer) {
  const double copies = 4 + (optimizer.ema > 0 ? 1 : 0) +
                        (in.recipe.checkpoint.background && !in.machine.cuda ? 3 : 0);
  return parameters * 4 * copies;
}

double checkpoint_bytes(const Inputs& in, double parameters) {
  return parameters * 4 * 3 * d(in.recipe.checkpoint.keep_last + in.recipe.checkpoint.keep_best);
}

StagePlan regression_stage(const Inputs& in, double parameters) {
  const RegressionOptions& options = in.recipe.train.regression;
  const ProjectorOptions& projector = in.recipe.projector;
  const double state = training_state_bytes(in, parameters, options.optimizer);
  const double networks = 2 * d(in.target.layers), reading = reading_bytes(in);
  const double inputs = 2 * d((in.source.layers + projector.ridge.previous_tokens) *
                              in.source.kv_channels()),
               outputs = networks * d(in.target.kv_channels());
  const double hidden = networks * d(projector.mlp.hidden + projector.mlp.rank) *
                        (2.0 + 2.0 * d(projector.mlp.depth));
  const auto memory = [=](double rows) {
    return state + reading + rows * 4 * (3 * inputs + hidden + 6 * outputs);
  };
  StagePlan plan =
      stage(in, "regression", memory, "train.regression.batch.size", options.batch.size);
  const double rows = options.batch.steps > 0
                          ? d(options.batch.steps * options.batch.size * options.batch.accumulation)
                          : options.batch.epochs * in.span_tokens();
  const double steps = std::max(1.0, rows / d(options.batch.size * options.batch.accumulation));
  plan.seconds = 6 * parameters * rows / in.machine.flops_float32 +
                 steps * parameters * 4 * 6 / in.machine.bandwidth +
                 steps * 200 * in.machine.launch_seconds;
  plan.disk = checkpoint_bytes(in, parameters);
  return plan;
}

StagePlan distillation_stage(const Inputs& in, double parameters, const BatchOptions& batch,
                             const OptimizerOptions& optimizer, double length, bool recompute,
                             const std::string& name, const std::string& key) {
  const double answer = std::min<double>(d(in.recipe.train.distillation.max_answer), length);
  const double context = length, question = 24;  // a question and its frame
  const double state = training_state_bytes(in, parameters, optimizer);
  const double weights = resident_weights(in, false);
  const double kept_layers = recompute ? 1 + std::sqrt(d(in.target.layers)) : d(in.target.layers);
  const ProjectorOptions& projector = in.recipe.projector;
  const double networks = 2 * d(in.target.layers);
  const double width = projector.kind == "c2c"
                           ? 12.0 * d(projector.c2c.hidden_dim)
                           : 4.0 * d(projector.mlp.hidden) + 6.0 * d(in.target.kv_channels());
  // What does not depend on the projector is kept while 1 GiB lasts; c2c reads no pairs.
  const bool pairs = name == "distillation";
  const double reading = pairs ? reading_bytes(in) : 0;
  const PreparedItems prepared = prepared_items(in.recipe, in.source, in.target, in.corpus);
  const double kept = pairs && prepared.kept() ? prepared.bytes : 0;
  const auto memory = [=, &in](double items) {
    const double read = items * (question + answer);
    const double caches = items * context * (in.source.kv_bytes(4) + 2 * in.target.kv_bytes(4));
    const double logits =
        3 * items * answer * d(in.target.vocab) * 4;  // student, teacher, gradient
    return weights + state + reading + kept + caches + items * context * networks * width * 4 +
           read * kept_layers * saved_bytes_per_token(in.target) + logits +
           activation_bytes(in.source, items * context);
  };
  StagePlan plan = stage(in, name, memory, key, batch.size);
  const double items = d(batch.size * batch.accumulation);
  const double steps =
      batch.steps > 0 ? d(batch.steps) : std::max(1.0, batch.epochs * d(in.corpus.samples) / items);
  const double read = items * (question + answer);
  const double target_flops = in.target.flops_per_token(context) + 2 * d(in.target.head_parameters);
  const double flops =
      items * context *
          (in.source.flops_per_token(context) + in.target.flops_per_token(context)) +  // contexts
      read * target_flops * (recompute ? 4 : 3) +  // teacher, student, gradient to its past
      items * context * 6 * parameters;
  const double micro = d(batch.accumulation);
  const double launches =
      micro * (operations(in.source) + 4 * operations(in.target)) * in.machine.launch_seconds;
  plan.seconds = steps * (std::max(flops / in.machine.flops, launches) +
                          parameters * 4 * 6 / in.machine.bandwidth);
  plan.disk = checkpoint_bytes(in, parameters);
  return plan;
}

constexpr double kMergedBatches = 4;

StagePlan evaluate_stage(const Inputs& in, double parameters) {
  const EvalOptions& eval = in.recipe.eval;
  const double weights = resident_weights(in, false) + parameters * 4;
  const double length = in.length() + 24 + d(eval.max_new_tokens);
  const auto memory = [&, weights, length](double items) {
    const double rows =
        kMergedBatches * items;  // of several conditions that decode together (eval/runner.h)
    const double caches = rows * length *
                          (in.source.kv_bytes(d(in.source.compute_bytes)) +
                           3 * in.target.kv_bytes(d(in.target.compute_bytes)));
    return weights + caches + activation_bytes(in.target, rows * length) +
           2 * rows * d(in.target.vocab) * 4;
  };
  StagePlan plan = stage(in, "evaluate", memory, "eval.batch_size", eval.batch_size);
  const double per_condition =
      d(static_cast<int64_t>(eval.families.size() * eval.forms.size() * eval.seeds.size())) *
      d(eval.items);
  const double conditions = d(static_cast<int64_t>(eval.conditions.size()));
  const double batches = std::ceil(per_condition / d(eval.batch_size));
  const double prefill =
      per_condition * length *
      (in.source.flops_per_token(length) + conditions * in.target.flops_per_token(length)) /
      in.machine.flops;
  // A decoding step reads every weight once, or is bound by arithmetic or by launches.
  const double step = std::max({d(in.target.weight_bytes()) / in.machine.bandwidth,
                                d(eval.batch_size) * 2 * d(in.target.parameters) / in.machine.flops,
                                operations(in.target) * in.machine.launch_seconds});
  plan.seconds = prefill + conditions * batches * d(eval.max_new_tokens) * step;
  plan.disk = 64 << 20;
  return plan;
}

}  // namespace

double ModelNumbers::flops_per_token(double context) const {
  const double body = static_cast<double>(parameters - head_parameters);
  return 2 * body + 2.0 * static_cast<double>(layers * heads * head_dim) *
                        context;  // causal: half of 4 * context
}

double storage_element_bytes(const std::string& storage_dtype) {
  if (storage_dtype == "float32") return 4;
  return storage_dtype == "int8" ? 1 : 2;
}

int64_t projector_parameters(const ProjectorOptions& options, const ModelNumbers& source,
                             const ModelNumbers& target) {
  if (options.kind == "ridge") return ridge_parameters(options.ridge, source, target);
  if (options.kind == "mlp")
    return ridge_parameters(options.ridge, source, target) +
           mlp_parameters(options, source, target);
  if (options.kind == "c2c") return c2c_parameters(options.c2c, source, target);
  if (options.kind == "lcf") {
    const int64_t latent = options.lcf.latent;
    return target.layers *
           ((2 * source.kv_channels() + 1) * latent + (latent + 1) * 2 * target.kv_channels());
  }
  if (options.kind == "dense_latent") {
    const int64_t hidden = options.dense_latent.expansion * target.head_dim,
                  heads = std::max<int64_t>(1, source.kv_heads / target.kv_heads);
    return 2 * target.layers * target.kv_heads *
           ((heads * source.head_dim + 1) * hidden + (hidden + 1) * target.head_dim + 1);
  }
  return 0;
}

Plan make_plan(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
               const CorpusNumbers& corpus, const MachineNumbers& machine) {
  const Inputs in{recipe, source, target, corpus, machine};
  Plan plan;
  const double element = storage_element_bytes(recipe.data.storage_dtype);
  plan.bytes_per_token = source.kv_bytes(element) + target.kv_bytes(element);
  // int8 keeps a float32 scale for each head's key and value.
  if (recipe.data.storage_dtype == "int8")
    plan.bytes_per_token +=
        2 * 4 * d(source.layers * source.kv_heads + target.layers * target.kv_heads);
  const double kept = recipe.data.tokens_per_sample > 0
                          ? std::min(d(recipe.data.tokens_per_sample), in.length())
                          : in.length();
  plan.dataset_tokens = recipe.data.online ? 0 : d(corpus.samples) * kept;
  plan.dataset_bytes = plan.dataset_tokens * plan.bytes_per_token;
  plan.projector_parameters = projector_parameters(recipe.projector, source, target);
  const double parameters = d(plan.projector_parameters);

  if (!recipe.data.online) plan.stages.push_back(generate_stage(in, plan.dataset_bytes));
  for (const std::string& name : recipe.train.stages) {
    if (name == "ridge") plan.stages.push_back(ridge_stage(in));
    if (name == "regression") plan.stages.push_back(regression_stage(in, parameters));
    if (name == "distillation") {
      const DistillationOptions& o = recipe.train.distillation;
      plan.stages.push_back(distillation_stage(in, parameters, o.batch, o.optimizer, in.length(),
                                               o.checkpoint_activations, name,
                                               "train.distillation.batch.size"));
    }
    if (name == "c2c") {
      const C2cTrainOptions& o = recipe.train.c2c;
      plan.stages.push_back(distillation_stage(
          in, parameters, o.batch, o.optimizer, std::min(in.length(), d(o.max_length)),
          o.checkpoint_activations, name, "train.c2c.batch.size"));
    }
  }
  plan.stages.push_back(evaluate_stage(in, parameters));
  total_up(plan, machine);
  return plan;
}

PreparedItems prepared_items(const Recipe& recipe, const ModelNumbers& source,
                             const ModelNumbers& target, const CorpusNumbers& corpus) {
  constexpr double kGoldAnswer = 8;  // tokens, about, of a built-in item's
  const DistillationOptions& o = recipe.train.distillation;
  // Of items drawn without end only those are kept that choose the best state.
  const double asked = d(o.held_out + (o.endless() ? 0 : o.items)),
               continued = o.endless() ? 0 : d(std::min(o.continuations, corpus.samples));
  const double length = std::max(1.0, corpus.tokens_per_sample), most = d(o.max_answer);
  const double answers =
      asked * std::min(kGoldAnswer, most) + continued * std::min(length / 2, most);
  const double previous = d(recipe.projector.ridge.previous_tokens);  // by their first layer
  const double token =
      source.kv_bytes(4) + target.kv_bytes(4) + 8.0 * previous * d(source.kv_channels());
  const double items = asked + continued;
  return {items, items * length * token + answers * d(target.vocab) * 4};
}

void total_up(Plan& plan, const MachineNumbers& machine) {
  plan.fits_memory = true;
  plan.seconds = plan.disk = 0;
  for (const StagePlan& stage : plan.stages) {
    plan.fits_memory = plan.fits_memory && stage.fits;
    plan.seconds += stage.seconds;
    plan.disk += stage.disk;
  }
  plan.fits_disk = machine.disk_free < 0 || plan.disk <= machine.disk_free;
}

void set_memory(StagePlan& stage, double bytes, const MachineNumbers& machine) {
  stage.memory = bytes;
  stage.fits = bytes <= machine.memory;
  if (stage.batch_key.empty() || stage.memory_per_batch <= 0) return;
  const double without = bytes - d(stage.batch) * stage.memory_per_batch;
  const double most = (machine.memory - without) / stage.memory_per_batch;
  stage.largest_batch = static_cast<int64_t>(std::clamp(most, 0.0, double{1 << 30}));
}

double RidgeWork::solve_seconds(const MachineNumbers& machine) const {
  return product / machine.flops_float64 + cholesky / machine.flops_cholesky +
         moved / machine.bandwidth + fresh / machine.first_touch;
}

RidgeWork ridge_work(const RidgeOptions& ridge, const ModelNumbers& source,
                     const ModelNumbers& target, double rows) {
  const bool joint = ridge.features == "both";
  const double problems = joint ? 1 : 2, f = d(gathered_channels(ridge, source)),
               g = d(target.layers * target.kv_channels()) * (joint ? 2 : 1);
  const double grid = d(static_cast<int64_t>(ridge.lambda.size()));
  const bool choosing = grid > 1, some = ridge.source_layers > 0, judged = choosing || some;
  // A symmetric product is done by half.
  RidgeWork work{.gather = problems * rows * (f * f + 2 * f * g)};
  const auto system = [&](double groups, double n, double o, bool choose) {
    // Of the fitted rows for each lambda to be judged; of all rows for each that some layer chose.
    const double tried = judged ? grid : 0, kept = choose ? std::min(grid, 3.0) : 1;
    work.cholesky += groups * (tried + kept) * n * n * n / 3;
    work.product += groups * (2 * tried + 1) * 2 * n * n * o;  // solutions and held-out errors
  };
  const double n = d(read_channels(ridge, source)),
               layer = d(source.kv_channels()) * (joint ? 2 : 1), layers = d(target.layers);
  system(some ? 2 * layers : problems, n, some ? d(target.kv_channels()) : g, choosing);
  // The control: one aligned layer, by the same grid.
  system(2 * layers, layer, d(target.kv_channels()), choosing);
  if (some && ridge.selection == "predictive") {  // each candidate layer alone, for keys and values
    const double candidates = f / layer;
    work.cholesky += 2 * candidates * layer * layer * layer / 3;
    work.product += 2 * candidates * 2 * 2 * layer * layer * layers * d(target.kv_channels());
  }
  // Merging, scaling by both deviations and by n, mirroring: about twelve passes, for the map and
  // for the control.
  const double sums = problems * (f * f + f * g) * 8;
  work.moved = 2 * 12 * sums * 2;
  // All rows', and where some were held out the fitted ones' and theirs about the mean; for both.
  work.fresh = 2 * (judged ? 3 : 1) * sums;
  work.kept = 2 * sums;  // of fitted and of held-out rows, for later data
  return work;
}

}  // namespace kvlingua
