// Projectors over scales: one row a pair of models, its figures taken from the evaluation's own
// report, and each figure against the size of either model.
//
// A cell's figures are those of the judged condition: share of the gap by family with its interval,
// likelihood, fidelity, the projector's size and what it costs, geometry kept (kept_geometry.h). A
// trend is looked for along one axis while the other model stays the same; below five sizes it has
// no verdict (trend.h). A cell that failed is a row with its reason.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "eval/report/report.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/sweep_options.h"

namespace kvlingua {

struct GridPair {
  std::string source, target;
};
// sources x targets without a model and itself, then sweep.pairs ("source -> target"); each once.
// Throws Error (kUsage): sources without targets, a pair that is not of that form.
std::vector<GridPair> grid_pairs(const SweepOptions& options);

// The recipe of a cell: the sweep's with its changes, and this pair's models in place of its own.
// Of the sweep it keeps what its projector is looked at with. Throws Error as Recipe::from_yaml().
Recipe cell_recipe(const Recipe& sweeping, const GridPair& pair);

// The figures of one finished cell; `projector`: {kind, parameters}; `seconds`: that each step
// took, by its name.
nlohmann::ordered_json cell_figures(const Report& report, const nlohmann::ordered_json& projector,
                                    const nlohmann::ordered_json& seconds);

struct GridCell {
  std::string source, target, id;
  double source_billions = 0, target_billions = 0;
  nlohmann::ordered_json figures;  // null when it failed
  std::string error;
};
// {cells: [...], trends: [...], failed: [...]}
nlohmann::ordered_json analyse_grid(const std::vector<GridCell>& cells);

std::string grid_markdown(const nlohmann::ordered_json& results);
std::string grid_html(const nlohmann::ordered_json& results);
std::vector<std::pair<std::string, std::string>> grid_csv(const nlohmann::ordered_json& results);
std::string grid_summary(const nlohmann::ordered_json& results);

}  // namespace kvlingua
