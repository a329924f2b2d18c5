#include "eval/sweep/kept_geometry.h"

#include <algorithm>

#include "eval/geometry/cache_geometry.h"
#include "eval/items/block.h"
#include "eval/statistics/comparison.h"
#include "eval/statistics/resampling.h"
#include "eval/statistics/tests.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

std::vector<double> picked(const std::vector<double>& from, const std::vector<size_t>& which) {
  std::vector<double> out;
  for (const size_t i : which) out.push_back(from[i]);
  return out;
}

Json judge_side(const std::vector<double>& native, const std::vector<double>& translated,
                const std::vector<double>& tokens, const KeptOptions& options, uint64_t stream) {
  Random random(mix(options.seed, stream));
  std::vector<double> draws;
  std::vector<size_t> which(native.size());
  for (int64_t i = 0; i < options.draws; ++i) {
    for (size_t& w : which) w = random.below(native.size());
    draws.push_back(stats::partial_spearman(picked(native, which), picked(translated, which),
                                            picked(tokens, which)));
  }
  std::sort(draws.begin(), draws.end());
  const double tail = (1 - options.confidence) / 2, low = stats::quantile(draws, tail),
               high = stats::quantile(draws, 1 - tail);
  const stats::TestResult rho = stats::spearman(native, translated);
  return {{"native_mean", stats::moments(native).mean},
          {"translated_mean", stats::moments(translated).mean},
          {"rho", rho.statistic},
          {"p_value", rho.p},
          {"rho_with_tokens", stats::spearman(native, tokens).statistic},
          {"rho_length_free",
           {{"estimate", stats::partial_spearman(native, translated, tokens)},
            {"low", low},
            {"high", high}}},
          {"threshold", options.threshold},
          {"verdict", low > options.threshold    ? "kept"
                      : high < options.threshold ? "not kept"
                                                 : "undecided"}};
}

}  // namespace

KeptRanks kept_ranks(const Reader& source, const Reader& target, const Projector& projector,
                     AlignmentKind alignment, const std::vector<std::string>& texts,
                     int64_t batch_size) {
  KeptRanks out;
  std::vector<Probe> probes;
  for (size_t i = 0; i < texts.size(); ++i) {
    Probe probe;
    probe.id = cat("text ", i + 1);
    probe.family = "geometry";
    probe.context = texts[i];
    probe.prompt = "?";
    probes.push_back(std::move(probe));
  }
  std::vector<Item> items;
  for (const Probe& probe : probes) {
    try {
      items.push_back(make_item(probe, source, target, alignment, 1));
    } catch (const Error& error) {
      out.failed.push_back(error.what());
    }
  }
  for (std::vector<Item>& some : make_blocks(std::move(items), 0)) {
    Block block(std::move(some), source, target, {.batch_size = batch_size});
    for (size_t i = 0; i < block.size(); ++i) {
      const CacheGeometry native = geometry_of(block.own(i)).at(0),
                          made = geometry_of(block.translated("judged", projector, i)).at(0);
      if (!native.finite() || !made.finite()) {
        out.failed.push_back(block.item(i).probe->id + ": numbers that are not finite");
        continue;
      }
      out.tokens.push_back(static_cast<double>(block.item(i).span.size()));
      out.native_keys.push_back(mean(native.keys.rank));
      out.translated_keys.push_back(mean(made.keys.rank));
      out.native_values.push_back(mean(native.values.rank));
      out.translated_values.push_back(mean(made.values.rank));
    }
  }
  return out;
}

Json judge_kept(const KeptRanks& ranks, const KeptOptions& options) {
  Json out = {{"n", ranks.tokens.size()}, {"failed", ranks.failed}};
  if (ranks.tokens.size() < 4) {
    out["error"] = "fewer than four texts";
    return out;
  }
  out["keys"] = judge_side(ranks.native_keys, ranks.translated_keys, ranks.tokens, options, 1);
  out["values"] =
      judge_side(ranks.native_values, ranks.translated_values, ranks.tokens, options, 2);
  return out;
}

}  // namespace kvlingua
