// The checkpoints that an evaluation judges: which condition each makes, and what was said while
// looking for them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "eval/conditions/list.h"
#include "eval/judging/guards.h"
#include "eval/judging/training_record.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

// What checkpoints are looked for with.
struct CheckpointSearch {
  const Recipe& recipe;
  const RunContext& context;
  const CausalLM& source;
  const CausalLM& target;
};

// The projectors of a run, loaded.
struct JudgedCheckpoints {
  std::map<std::string, NamedProjector> named;  // by condition
  std::vector<std::unique_ptr<Projector>> owned;
  std::vector<Finding> findings;
  std::vector<TrainingRecord> trained;         // what made each of them
  std::vector<std::string> replicas;           // conditions: the gated one by other training seeds
  std::map<std::string, std::string> hash_of;  // by condition, of the projector's tensors
  std::string hashes;                          // of all
  int64_t seeds_of_same_weights = 0;  // further ones of a closed form: trained, judged once

  void add(const std::string& condition, std::unique_ptr<Projector> projector,
           const std::string& where);
  // Whether there was one. `stage`: the one wanted; empty: the last. Throws Error: kCorrupt when
  // damaged, kInput when it is of another pair.
  bool load(const std::string& condition, const std::filesystem::path& path,
            const std::string& stage, const CheckpointSearch& search);
  // None: said in findings.
  std::optional<LoadedProjector> find(const std::string& condition,
                                      const std::filesystem::path& path, const std::string& stage,
                                      const CheckpointSearch& search);
  void take(const std::string& condition, LoadedProjector loaded, const CheckpointSearch& search);

  // Hashes of the judged projectors, 16 hex digits each.
  std::vector<std::string> judged_hashes(const std::string& gated) const;
  // One hash of the judged projectors, those of other seeds with them.
  std::string judged_hash(const std::string& gated) const;
  // Null: not known.
  const TrainingRecord* record(const std::string& condition) const;
  // The evaluating recipe's and those that made the checkpoints.
  std::vector<const Recipe*> recipes_that_trained(const Recipe& evaluating) const;
};

// Those that `options` asks for: of the run; the one of --checkpoint; or the two of --compare, as
// conditions A and B. A condition without a checkpoint is left out of the options and said; the
// last stage there is becomes the gated one when it is that. Throws Error:
// kInput when none is there.
JudgedCheckpoints judged_checkpoints(const CheckpointSearch& search, EvalOptions& options);

// A training seed that says nothing of its own, and why; it withholds nothing.
inline constexpr const char* kSeedNotCounted = "seed_not_counted";

// Adds the gated stage of every further training seed there is, in seeds/ of the run. One counts
// only when it is another seed of the same training: by a seed and weights of its own, from the
// same recipe and pairs. A closed form comes out the same by every seed and is judged once.
void load_replicas(const CheckpointSearch& search, const EvalOptions& options,
                   JudgedCheckpoints& checkpoints);

}  // namespace kvlingua
