#include "trainers/nano_lm/lm_trainer.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "datasets/corpus/synthetic_corpus.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/model/causal_lm.h"
#include "trainers/nano_lm/lm_batches.h"
#include "trainers/nano_lm/lm_optimizer.h"
#include "trainers/nano_lm/lm_state.h"
#include "trainers/nano_lm/lm_tokenizer.h"

namespace kvlingua {
namespace {

ModelConfig model_config(const LmOptions& options, const Tokenizer& tokenizer) {
  const LmModelOptions& model = options.model;
  ModelConfig config;
  config.architecture = model.architecture == "qwen3" ? Architecture::kQwen3 : Architecture::kQwen2;
  config.vocab_size = tokenizer.vocab_size();
  config.hidden_size = model.hidden_size;
  config.intermediate_size = model.intermediate_size;
  config.num_layers = model.layers;
  config.num_heads = model.heads;
  config.num_kv_heads = model.kv_heads;
  config.head_dim = model.head_dim;
  config.max_position_embeddings = model.max_positions;
  config.tie_word_embeddings = true;
  config.qkv_bias = config.architecture == Architecture::kQwen2;
  config.qk_norm = config.architecture == Architecture::kQwen3;
  config.rope.head_dim = model.head_dim;
  config.rope.theta = model.rope_theta;
  for (const char* end : {"<|im_end|>", "<|endoftext|>"}) {
    if (const auto id = tokenizer.token_to_id(end)) config.eos_ids.push_back(*id);
  }
  return config;
}

// Norms one, biases zero, embeddings and matrices normal.
void initialise(NamedTensors& parameters, const LmTrainOptions& options) {
  c10::NoGradGuard no_grad;
  at::Generator generator =
      at::detail::createCPUGenerator(mix(static_cast<uint64_t>(options.seed), 1));
  for (auto& [name, tensor] : parameters) {
    if (tensor.dim() < 2) {
      tensor.fill_(name.ends_with(".bias") ? 0.0 : 1.0);
      continue;
    }
    const bool embedding = name.find("embed") != std::string::npos || name.starts_with("lm_head");
    const double deviation =
        embedding ? options.embedding_std
                  : options.init_gain / std::sqrt(static_cast<double>(tensor.size(1)));
    tensor.copy_(at::randn(tensor.sizes(), generator, at::TensorOptions(at::kFloat)) * deviation);
  }
}

// What one line of the loss curve averages over.
struct Sums {
  double loss = 0, answer_loss = 0;
  int64_t steps = 0;
};

class Run {
 public:
  Run(const LmOptions& options, const LmRun& run)
      : options_(options),
        run_(run),
        tokenizer_(make_tokenizer()),
        family_(recognise_chat_family(tokenizer_)),
        model_(CausalLM::random(model_config(options, tokenizer_), {.device = run.device},
                                static_cast<uint64_t>(options.train.seed))),
        parameters_(model_.parameters()),
        optimizer_(prepared(), {.muon_momentum = options.train.muon_momentum,
                                .beta1 = options.train.beta1,
                                .beta2 = options.train.beta2,
                                .weight_decay = options.train.weight_decay}),
        batches_(SyntheticCorpus(static_cast<uint64_t>(options.train.seed)), tokenizer_, family_,
                 options.train.batch, options.train.micro_batch) {}

  LmResult fit() {
    LmResult result;
    result.steps = resume();
    while (result.steps < options_.train.steps) {
      step(result.steps++);
      if (result.steps % options_.train.log_every == 0 || result.steps == options_.train.steps) {
        result.last_loss = log(result.steps);
      }
      if (due(options_.train.validate_every, result.steps)) validate(result.steps);
      result.stopped = run_.should_stop && run_.should_stop();
      if (result.stopped || due(options_.train.checkpoint_every, result.steps)) save(result.steps);
      if (result.stopped) return result;
    }
    save(result.steps);
    publish();
    return result;
  }

 private:
  Tokenizer make_tokenizer() const {
    make_directories(run_.out);
    write_nano_tokenizer(options_.tokenizer, run_.out);
    return Tokenizer::from_directory(run_.out);
  }

  const NamedTensors& prepared() {
    initialise(parameters_, options_.train);
    for (auto& [name, tensor] : parameters_) tensor.set_requires_grad(true);
    return parameters_;
  }

  int64_t resume() {
    started_ = std::chrono::steady_clock::now();
    make_directories(run_.work);
    const std::string recipe = options_to_yaml(visit_of(options_));
    const int64_t done =
        run_.resume ? load_lm_state(run_.work, recipe, parameters_, optimizer_).value_or(0) : 0;
    cut_curve(done);
    return done;
  }

  void step(int64_t index) {
    double loss = 0;
    at::Tensor answer_loss = at::zeros({}, at::kDouble), answers = at::zeros({}, at::kDouble);
    for (const LmMicroBatch& micro : batches_.step(index, run_.device)) {
      PrefillOptions prefill;
      prefill.logits = LogitsAt::kPositions;
      prefill.logit_positions = micro.positions_N2;
      prefill.want_cache = false;
      const at::Tensor logits = model_.prefill(micro.batch, nullptr, prefill).logits;
      const at::Tensor losses =
          at::cross_entropy_loss(logits, micro.targets_N, {}, at::Reduction::None);
      const at::Tensor weighted = losses.mul(micro.weights_N).sum();
      weighted.backward();
      loss += weighted.item<double>();
      answer_loss += losses.detach().mul(micro.answers_N).sum().to(at::kCPU, at::kDouble);
      answers += micro.answers_N.sum().to(at::kCPU, at::kDouble);
      tokens_ += micro.tokens;
    }
    if (!std::isfinite(loss)) {
      throw Error({.where = cat("step ", index + 1),
                   .what = "the loss is not finite",
                   .got = cat(loss),
                   .remedy = "lower train.muon_lr or train.adam_lr"});
    }
    const double rate = lm_learning_rate(options_.train, index);
    optimizer_.step(rate * options_.train.muon_lr, rate * options_.train.adam_lr);
    sums_.loss += loss;
    sums_.answer_loss += (answer_loss / answers.clamp_min(1)).item<double>();
    ++sums_.steps;
  }

  double log(int64_t step) {
    const auto n = static_cast<double>(sums_.steps);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
    const LmStepLine line{.step = step,
                          .loss = sums_.loss / n,
                          .answer_loss = sums_.answer_loss / n,
                          .lr = lm_learning_rate(options_.train, step - 1),
                          .tokens = tokens_,
                          .seconds = elapsed.count()};
    sums_ = {};
    append({{"step", line.step},
            {"loss", line.loss},
            {"answer_loss", line.answer_loss},
            {"lr", line.lr},
            {"tokens", line.tokens},
            {"seconds", line.seconds}});
    if (run_.on_step) run_.on_step(line);
    return line.loss;
  }

  void validate(int64_t step) {
    c10::NoGradGuard no_grad;
    const auto scores =
        score_gold_answers(model_, tokenizer_, family_, {.items = options_.train.validate_items});
    nlohmann::ordered_json rates;
    for (const auto& score : scores) rates[score.name] = score.rate();
    append({{"step", step}, {"exact", rates}});
    if (run_.on_validation) run_.on_validation(step, scores);
  }

  void append(const nlohmann::ordered_json& line) const {
    JsonLinesWriter(curve_file()).write(line);
  }

  std::filesystem::path curve_file() const { return run_.work / "loss.jsonl"; }

  // What a killed run logged after its last save will be logged again.
  void cut_curve(int64_t step) const {
    if (!std::filesystem::exists(curve_file())) return;
    std::string kept;
    for (const auto& line : read_json_lines(curve_file())) {
      if (line.value("step", int64_t{0}) <= step) kept += line.dump() + "\n";
    }
    write_file_atomic(curve_file(), kept);
  }

  static bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

  void save(int64_t step) const {
    save_lm_state(run_.work, options_to_yaml(visit_of(options_)), step, parameters_, optimizer_);
  }

  void publish() const {
    const at::ScalarType dtype = options_.dtype == "bfloat16"  ? at::kBFloat16
                                 : options_.dtype == "float16" ? at::kHalf
                                                               : at::kFloat;
    model_.save(run_.out, dtype);
  }

  mutable LmOptions options_;  // visit() is not const
  LmRun run_;
  Tokenizer tokenizer_;
  ChatFamily family_;
  CausalLM model_;
  NamedTensors parameters_;
  LmOptimizer optimizer_;
  LmBatches batches_;
  Sums sums_;
  int64_t tokens_ = 0;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace

std::string describe(const LmStepLine& line, int64_t steps) {
  char text[160];
  std::snprintf(
      text, sizeof text, "step %lld/%lld | loss %.4f | answers %.4f | lr %.2f | %.1fk tok/s",
      static_cast<long long>(line.step), static_cast<long long>(steps), line.loss, line.answer_loss,
      line.lr, static_cast<double>(line.tokens) / std::max(line.seconds, 1e-9) / 1000);
  return text;
}

double lm_learning_rate(const LmTrainOptions& options, int64_t step) {
  if (step < options.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  const double flat_end = options.flat * static_cast<double>(options.steps);
  const double at = static_cast<double>(step);
  if (at <= flat_end) return 1;
  const double done = (at - flat_end) / (static_cast<double>(options.steps) - flat_end);
  return 1 - done * (1 - options.final_lr_ratio);
}

LmResult train_language_model(const LmOptions& options, const LmRun& run) {
  return Run(options, run).fit();
}

}  // namespace kvlingua
