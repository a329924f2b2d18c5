#include "datasets/generate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "datasets/generation/batch_plan.h"
#include "datasets/generation/pair_run.h"
#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_writer.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/cache/process_group.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_lock.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/io/system.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      return c10::toString(type);
  }
}

ModelRecord record_of(const ModelFiles& files, const TextReader& reader) {
  return {.name = files.options.name,
          .architecture = to_string(files.config.architecture),
          .config_sha256 = config_sha256(files.directory),
          .tokenizer = files.tokenizer.fingerprint(),
          .dtype = dtype_name(files.load.dtype),
          .shape = files.config.kv_shape(),
          .query_heads = files.config.num_heads,
          .rope = files.config.rope,
          .vocab_size = std::max(files.config.vocab_size, files.tokenizer.vocab_size()),
          .chat = reader.family ? to_string(*reader.family) : std::string(),
          .prefix = reader.frame.before,
          .prefix_tokens = reader.prefix_length()};
}

// Nobody else may write this rank's part of the folder.
FileLock lock_folder(const fs::path& directory, int64_t rank) {
  FileLock lock(directory / cat(".lock.rank-", rank));
  if (!lock.held()) {
    throw Error({.code = ExitCode::kInput,
                 .where = directory.string(),
                 .what = "another process is generating into this folder",
                 .remedy = "wait for it, or choose another --out"});
  }
  return lock;
}

void refuse_other_recipe(const fs::path& directory, const PairSetInfo& there,
                         const PairSetInfo& mine) {
  const auto difference = first_difference(there.identity(), mine.identity());
  if (!difference) return;
  throw Error(
      {.code = ExitCode::kInput,
       .where = directory.string(),
       .what = cat("the folder holds pairs of another recipe: ", difference->field, " differs"),
       .got = difference->first,
       .expected = difference->second,
       .remedy = "choose another data.name or --out, or make it anew with --restart"});
}

void remove_set(const fs::path& directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    if (is_pair_set_file(entry.path().filename().string())) fs::remove_all(entry.path(), ignored);
  }
}

// Shards that the manifest lists and that stand whole; others are made again.
void forget_missing(const fs::path& directory, PairManifest& manifest) {
  std::erase_if(manifest.shards, [&](const auto& item) {
    std::error_code error;
    const auto bytes = fs::file_size(directory / item.second.file, error);
    const bool gone = error || static_cast<int64_t>(bytes) != item.second.bytes;
    if (gone)
      log_warning(cat((directory / item.second.file).string(), ": missing or cut: made again"));
    return gone;
  });
}

class Generation {
 public:
  Generation(const Recipe& recipe, const RunContext& context, int64_t writers)
      : recipe_(recipe),
        context_(context),
        writers_(writers),
        data_(recipe.data),
        seed_(static_cast<uint64_t>(context.seed_or(recipe.data.seed))),
        directory_(context.paths.dataset),
        device_(context.device),
        meter_(device_),
        source_(find_model(recipe.pair.source, device_)),
        target_(find_model(recipe.pair.target, device_)) {
    data_.skip_bad = data_.skip_bad || context.skip_bad;
    for (std::string& file : data_.files) file = resolve_path(file);
    corpus_ = open_corpus(data_);
    builder_.emplace(reader_of(source_), reader_of(target_), data_,
                     alignment_kind_from_name(recipe.pair.alignment), seed_);
    make_info();
  }

  GenerateResult run();

 private:
  TextReader reader_of(const ModelFiles& files) const {
    const Framing framing = renders_turns(data_) ? Framing::kEveryTurn
                            : data_.chat         ? Framing::kOneTurn
                                                 : Framing::kNone;
    return TextReader::of(files.tokenizer, files.options, files.config, framing);
  }
  void make_info();
  void make_plan();
  void print_plan() const;
  void open_folder();
  void refuse_small_disk() const;
  void run_shards(GenerateResult& result);
  std::pair<PairManifest, std::string> manifest_of_this_process() const;
  int64_t tokens_to_make() const;
  CausalLM load(const ModelFiles& files, ModelRecord& record);
  int64_t remaining_bytes() const;
  void publish_if_complete();
  int64_t lanes() const {
    constexpr int64_t kMost = 64;
    const int64_t asked = writers_ > 0       ? std::min(writers_, kMost)
                          : device_.is_cpu() ? 1
                                             : std::min<int64_t>(4, cpu_count());
    return std::clamp<int64_t>(static_cast<int64_t>(shards_.size()), 1, asked);
  }
  int64_t max_samples() const {
    if (context_.limit == 0 || data_.max_samples == 0)
      return std::max(context_.limit, data_.max_samples);
    return std::min(context_.limit, data_.max_samples);
  }

  const Recipe& recipe_;
  const RunContext& context_;
  int64_t writers_;
  DataOptions data_;
  uint64_t seed_;
  fs::path directory_;
  at::Device device_;
  StageMeter meter_;
  ModelFiles source_, target_;
  std::unique_ptr<Corpus> corpus_;
  std::optional<SampleBuilder> builder_;
  PairSetInfo info_;
  BatchPlan plan_;
  FileLock lock_;
  PairManifest done_;            // what all ranks have published
  std::vector<int64_t> shards_;  // this rank's, still to be made
};

void Generation::make_info() {
  info_.source = record_of(source_, builder_->source());
  info_.target = record_of(target_, builder_->target());
  info_.storage = storage_type_from_name(data_.storage_dtype);
  info_.alignment = recipe_.pair.alignment;
  info_.tokens_per_sample = data_.tokens_per_sample;
  info_.queries = data_.queries;
  info_.attention_outputs = data_.attention_outputs;
  info_.corpus = corpus_->describe();
  info_.plan = {{"seed", seed_},
                {"shuffle", data_.shuffle},
                {"split", data_.split},
                {"validation", data_.validation},
                {"min_length", data_.min_length},
                {"max_length", data_.max_length},
                {"max_samples", max_samples()},
                {"max_tokens", data_.max_tokens},
                {"batch_tokens", data_.batch_tokens},
                {"shard_bytes", data_.shard_bytes}};
  if (data_.split_control_tokens) info_.plan["split_control_tokens"] = true;
  info_.recipe_yaml = recipe_.to_yaml();
  info_.recipe_sha256 = recipe_.recipe_sha256();
}

void Generation::make_plan() {
  const auto timer = meter_.time("plan", static_cast<double>(corpus_->size()));
  Progress progress("plan", corpus_->size(), "documents");
  int64_t seen = 0;
  plan_ = plan_batches(*corpus_, *builder_, data_, seed_,
                       {.max_samples = max_samples(),
                        .source_row_bytes = info_.source_row_bytes(),
                        .target_row_bytes = info_.target_row_bytes() + info_.query_row_bytes()},
                       [&](int64_t documents) {
                         if (stop_requested()) throw stopped_error("nothing was begun");
                         progress.advance(documents - std::exchange(seen, documents));
                       });
  if (plan_.control_tokens > 0) {
    log_warning(cat(plan_.documents_with_control, " documents hold control tokens of the target (",
                    plan_.control_tokens, " in all, first ", plan_.control_place,
                    "): they are read as control, as Hugging Face does; "
                    "data.split_control_tokens: true reads them as text"));
  }
}

int64_t Generation::remaining_bytes() const {
  int64_t bytes = 0;
  for (int64_t shard = 0; shard < static_cast<int64_t>(plan_.shards.size()); ++shard) {
    if (done_.shards.count(shard) > 0) continue;
    const PlannedShard& p = plan_.shards[static_cast<size_t>(shard)];
    const int64_t source = p.source_rows * info_.source_row_bytes();
    bytes += source + p.target_rows * (info_.target_row_bytes() + info_.query_row_bytes());
    if (data_.sequential) bytes += source;  // waits in the stage
  }
  return bytes + bytes / 50;  // chunks not quite full, texts and ids
}

void Generation::print_plan() const {
  const auto samples = static_cast<int64_t>(plan_.samples.size());
  const int64_t per_token =
      info_.source_row_bytes() + info_.target_row_bytes() + info_.query_row_bytes();
  log_info(cat("source  ", info_.source.name, ": ", info_.source.shape.describe(), ", ",
               info_.source.dtype));
  log_info(cat("target  ", info_.target.name, ": ", info_.target.shape.describe(), ", ",
               info_.target.dtype));
  log_info(cat("corpus  ", corpus_->describe()["kind"].get<std::string>(), ", ", corpus_->size(),
               " documents: ", samples, " samples, ", plan_.left_out, " left out, ",
               plan_.skipped_documents, " malformed"));
  log_info(
      cat("plan    ", count_text(static_cast<double>(plan_.target_tokens)), " target and ",
          count_text(static_cast<double>(plan_.source_tokens)), " source tokens in ",
          plan_.batches(), " batches and ", plan_.shards.size(), " shards, ",
          static_cast<int>(100.0 * static_cast<double>(plan_.source_tokens + plan_.target_tokens) /
                           static_cast<double>(plan_.padded_tokens)),
          " % of what the models read"));
  log_info(cat("storage ", to_string(info_.storage), ", ", per_token, " bytes a token, ",
               bytes_text(static_cast<double>(remaining_bytes())), " to write, ",
               bytes_text(static_cast<double>(free_disk_bytes(directory_))), " free in ",
               directory_.string()));
  // Two operations a parameter and token; what the machine reaches is measured by the first batches
  // and shown by the progress.
  const double operations = 2.0 * (static_cast<double>(source_.config.parameter_count()) *
                                       static_cast<double>(plan_.source_tokens) +
                                   static_cast<double>(target_.config.parameter_count()) *
                                       static_cast<double>(plan_.target_tokens));
  const double rate = device_.is_cpu() ? 3e10 * cpu_count() : 5e13;
  log_info(cat("time    about ",
               duration_text(operations / rate / static_cast<double>(context_.world.size)),
               " of prefill, at ", count_text(rate), " operations a second"));
}

void Generation::refuse_small_disk() const {
  const auto needed = static_cast<uint64_t>(remaining_bytes());
  const uint64_t available = free_disk_bytes(directory_);
  if (available == 0 || needed <= available) return;
  throw Error({.code = ExitCode::kDiskFull,
               .where = directory_.string(),
               .what = "the pairs do not fit on this disk",
               .got = cat(bytes_text(static_cast<double>(available)), " free"),
               .expected = bytes_text(static_cast<double>(needed)),
               .remedy = "lower data.max_tokens, set data.tokens_per_sample or data.storage_dtype, "
                         "or use another --out"});
}

void Generation::open_folder() {
  make_directories(directory_);
  lock_ = lock_folder(directory_, context_.world.rank);
  if (context_.restart) {
    // All ranks hold their locks before rank 0 removes anything, and begin when it has.
    std::unique_ptr<ProcessGroup> others;
    if (!context_.world.alone())
      others = ProcessGroup::join({.world = context_.world, .folder = directory_});
    if (context_.world.is_main()) remove_set(directory_);
    if (others) others->wait();
  }
  const auto there = load_pair_manifest(directory_);
  if (there) {
    // The weights' hash is known only when a model is loaded; it is compared then.
    info_.source.weights = there->info.source.weights;
    info_.target.weights = there->info.target.weights;
    refuse_other_recipe(directory_, there->info, info_);
    done_ = *there;
    info_.recipe_yaml = done_.info.recipe_yaml;  // shards of one set carry one text
    info_.recipe_sha256 = done_.info.recipe_sha256;
  }
  done_.info = info_;
  done_.planned_samples = static_cast<int64_t>(plan_.samples.size());
  done_.planned_shards = static_cast<int64_t>(plan_.shards.size());
  done_.skipped_documents = plan_.skipped_documents;
  forget_missing(directory_, done_);
  for (int64_t shard = 0; shard < done_.planned_shards; ++shard) {
    if (shard % context_.world.size == context_.world.rank && done_.shards.count(shard) == 0)
      shards_.push_back(shard);
  }
}

CausalLM Generation::load(const ModelFiles& files, ModelRecord& record) {
  const auto timer = meter_.time("load");
  CausalLM model = CausalLM::load(files.directory, files.load);
  if (!record.weights.empty() && record.weights != model.fingerprint()) {
    throw Error({.code = ExitCode::kInput,
                 .where = directory_.string(),
                 .what = cat("the folder holds pairs of other weights of ", files.options.name),
                 .got = record.weights,
                 .expected = model.fingerprint(),
                 .remedy = "choose another data.name or --out, or make it anew with --restart"});
  }
  record.weights = model.fingerprint();
  return model;
}

void take_times(const PairRun& run, const PairWriter& writer, GenerateResult& result) {
  result.prefill_seconds = run.prefill_seconds();
  result.text_wait_seconds = run.text_wait_seconds();
  result.write_wait_seconds = writer.wait_seconds();
  result.text_cpu_seconds = run.text_cpu_seconds();
  const WriterTimes times = writer.times();
  result.rows_cpu_seconds = times.rows;
  result.publish_cpu_seconds = times.publish;
  result.tokens_per_second =
      result.seconds > 0 ? static_cast<double>(run.tokens()) / result.seconds : 0.0;
}

// Of the shards that are already there, those that this process keeps in its own manifest; its
// file.
std::pair<PairManifest, std::string> Generation::manifest_of_this_process() const {
  PairManifest mine = done_;
  if (context_.world.alone()) return {std::move(mine), std::string(kManifestFile)};
  std::erase_if(mine.shards, [&](const auto& item) {
    return item.first % context_.world.size != context_.world.rank;
  });
  return {std::move(mine), rank_manifest_name(context_.world.rank)};
}

int64_t Generation::tokens_to_make() const {
  int64_t tokens = 0;
  for (const int64_t shard : shards_) {
    const PlannedShard& p = plan_.shards[static_cast<size_t>(shard)];
    for (int64_t i = plan_.batch_offsets[static_cast<size_t>(p.first_batch)];
         i < plan_.batch_offsets[static_cast<size_t>(p.last_batch)]; ++i)
      tokens += plan_.samples[static_cast<size_t>(i)].target_tokens;
  }
  return tokens;
}

void Generation::run_shards(GenerateResult& result) {
  std::optional<CausalLM> source, target;
  // Both are opened before the first shard even when only one may stay: shards name both models'
  // weights.
  if (data_.sequential) {
    load(target_, info_.target);
    source.emplace(load(source_, info_.source));
  } else {
    source.emplace(load(source_, info_.source));
    target.emplace(load(target_, info_.target));
  }
  done_.info = info_;
  const auto [mine, file] = manifest_of_this_process();
  save_pair_manifest(directory_, file, mine);
  if (context_.world.alone()) remove_rank_manifests(directory_);

  PairWriter writer({.directory = directory_, .manifest_file = file, .lanes = lanes()}, mine);
  const PairJob job{*corpus_, *builder_, plan_, info_};
  Progress progress("generate", tokens_to_make(), "tokens");
  PairRun run(job, progress);
  const double start = wall_seconds(), cpu_start = process_cpu_seconds();
  auto making = meter_.time("pairs");
  if (data_.sequential) {
    SourceStage stage(directory_, context_.world.rank, info_);
    run.source_to_stage(*source, shards_, stage);
    source.reset();
    target.emplace(load(target_, info_.target));
    run.target_with_stage(*target, shards_, stage, writer);
  } else {
    run.both(*source, *target, shards_, writer);
  }
  writer.finish();
  progress.finish();
  result.seconds = wall_seconds() - start;
  result.cpu_seconds = process_cpu_seconds() - cpu_start;
  making.stop(static_cast<double>(run.tokens()));
  take_times(run, writer, result);
}

// Joins the ranks' manifests once all is there; several ranks may find that at once and write the
// same.
void Generation::publish_if_complete() {
  const auto all = load_pair_manifest(directory_);
  if (!all || !all->complete() || context_.world.alone()) return;
  save_pair_manifest(directory_, std::string(kManifestFile), *all);
  remove_rank_manifests(directory_);
}

GenerateResult Generation::run() {
  const ProfileRange range("generate");
  GenerateResult result;
  result.directory = directory_;
  make_plan();
  if (context_.dry_run) {
    print_plan();
    return result;
  }
  open_folder();
  print_plan();
  refuse_small_disk();
  result.resumed_samples = done_.samples();
  if (result.resumed_samples > 0)
    log_info(cat("resuming: ", result.resumed_samples, " samples are there"));
  if (!shards_.empty()) run_shards(result);
  publish_if_complete();
  const PairManifest all = load_pair_manifest(directory_).value_or(done_);
  result.complete = all.complete();
  result.samples = all.samples();
  result.shards = static_cast<int64_t>(all.shards.size());
  result.bytes = all.bytes();
  result.skipped_documents = plan_.skipped_documents;
  for (const auto& [index, shard] : all.shards) {
    result.tokens += shard.target_tokens;
    result.alignment_covered += shard.alignment_covered * static_cast<double>(shard.samples);
  }
  if (result.samples > 0) result.alignment_covered /= static_cast<double>(result.samples);
  log_info(cat(result.samples, " samples in ", result.shards, " shards, ",
               bytes_text(static_cast<double>(result.bytes)), " in ", directory_.string(),
               "; alignment covers ", static_cast<int>(1000 * result.alignment_covered) / 10.0,
               " % of target tokens"));
  result.meter = meter_.to_json();
  return result;
}

}  // namespace

nlohmann::ordered_json GenerateResult::to_json() const {
  nlohmann::ordered_json json = {{"directory", directory.string()},
                                 {"complete", complete},
                                 {"samples", samples},
                                 {"tokens", tokens},
                                 {"shards", shards},
                                 {"bytes", bytes},
                                 {"seconds", seconds},
                                 {"tokens_per_second", tokens_per_second},
                                 {"prefill_seconds", prefill_seconds},
                                 {"text_wait_seconds", text_wait_seconds},
                                 {"write_wait_seconds", write_wait_seconds},
                                 {"cpu_seconds",
                                  {{"all", cpu_seconds},
                                   {"text", text_cpu_seconds},
                                   {"rows", rows_cpu_seconds},
                                   {"publish", publish_cpu_seconds}}},
                                 {"resumed_samples", resumed_samples},
                                 {"skipped_documents", skipped_documents},
                                 {"alignment_covered", alignment_covered}};
  if (meter.is_object()) json.update(meter);
  return json;
}

GenerateResult generate(const Recipe& recipe, const RunContext& context, int64_t writers) {
  return Generation(recipe, context, writers).run();
}

}  // namespace kvlingua
