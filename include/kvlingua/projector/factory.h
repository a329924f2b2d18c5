// The kinds of projectors: an explicit list, read from top to bottom. To add one, see
// CONTRIBUTING.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

// An untrained projector of options.kind: statistics are mean 0 and deviation 1, ridge is the zero
// map. Throws Error: kUsage for an unknown kind, kInput when the shapes do not suit it.
std::unique_ptr<Projector> make_projector(const KvShape& source, const KvShape& target,
                                          const ProjectorOptions& options);

// The projector that wrote `config` (Projector::config()), its tensors still to be loaded. `where`
// names the file. numbers_stored: how many numbers the tensors beside it hold, if known; nothing is
// allocated for a description of more. Throws Error (kCorrupt) naming file and field: an unknown
// kind, missing, malformed or impossible fields, a description larger than its weights.
std::unique_ptr<Projector> projector_from_config(const nlohmann::json& config,
                                                 const std::string& where,
                                                 int64_t numbers_stored = -1);

// What it would train; 0 of a kind that has nothing to train. Throws Error (kUsage) as it does.
ParameterCount count_parameters(const ProjectorOptions& options, const KvShape& source,
                                const KvShape& target);

// Mixes `with`, which stands for the run's seed, into the option `seed` of every kind that trains.
void mix_seeds(ProjectorOptions& options, uint64_t with);

// Numbers that Cache-to-Cache's projector of these options holds at least.
double least_c2c_numbers(int64_t target_layers, const C2cOptions& options);

std::vector<std::string> projector_kinds();

}  // namespace kvlingua
