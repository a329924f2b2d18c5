// Cost: what the target waits for before its first token when the context comes translated, read
// again, or as a message.
//
// Times are medians of three runs after one to warm up, on the device the models are on, the
// source's cache being there already (its reading is said apart). Bytes are what crosses from
// source to target. FLOPs are counted from shapes: two a weight and token, and attention.
#pragma once

#include <optional>
#include <vector>

#include "eval/evaluation.h"
#include "eval/items/item.h"
#include "eval/report/report.h"

namespace kvlingua {

// At the items' median length, and at a few fixed ones. None without a projector for the gated
// condition, or without items.
std::optional<Cost> measure_cost(const EvaluationInput& input,
                                 const std::vector<std::vector<Item>>& blocks);

// Floating-point operations of reading `tokens` tokens behind `past` others.
double prefill_flops(const ModelConfig& config, int64_t tokens, int64_t past);

}  // namespace kvlingua
