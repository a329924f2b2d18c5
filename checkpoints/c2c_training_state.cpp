// training_state.pt of Cache-to-Cache: the optimizer's moments, brought into the stacked order of
// C2CFuser::parameters().
#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "checkpoints/c2c_files.h"
#include "checkpoints/c2c_import.h"
#include "checkpoints/checkpoint.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using c2c::refuse;

const PtValue& member(const PtValue& value, const char* key, PtValue::Kind kind,
                      const fs::path& file) {
  const PtValue* found = value.find(key);
  if (found == nullptr || found->kind != kind) {
    refuse(file, cat("entry ", key, found == nullptr ? " is missing" : " is of another kind"), {},
           "a training_state.pt of Cache-to-Cache");
  }
  return *found;
}

}  // namespace

C2CTrainingState read_c2c_training_state(const fs::path& file, const C2CFuser& fuser) {
  using Kind = PtValue::Kind;
  const PtPointer root = read_torch_archive(file);
  C2CTrainingState out;
  out.step = member(*root, "step", Kind::kInt, file).integer;
  out.epoch = member(*root, "epoch", Kind::kInt, file).integer;
  const PtValue& optimizer = member(*root, "optimizer_state_dict", Kind::kDict, file);
  const PtValue& groups = member(optimizer, "param_groups", Kind::kList, file);
  if (groups.items.empty()) refuse(file, "the optimizer has no parameter groups");
  out.learning_rate = member(*groups.items[0], "lr", Kind::kFloat, file).real;
  constexpr int64_t kMost = int64_t{1} << 53;
  for (const auto& [name, count] : {std::pair{"step", out.step}, {"epoch", out.epoch}})
    if (count < 0 || count > kMost)
      refuse(file, cat("entry ", name, " is no count"), cat(count), cat("0 to ", kMost));
  if (!std::isfinite(out.learning_rate) || out.learning_rate < 0)
    refuse(file, "the learning rate is none", cat(out.learning_rate), "0 or more");

  std::map<int64_t, const PtValue*> states;
  for (const auto& [key, value] : member(optimizer, "state", Kind::kDict, file).entries) {
    if (key->kind == Kind::kInt) states[key->integer] = value.get();
  }
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> stacked;
  for (const auto& [name, tensor] : fuser.parameters()) {
    stacked[name] = {at::zeros_like(tensor.detach()), at::zeros_like(tensor.detach())};
  }
  const int64_t layers = fuser.config().target.layers;
  int64_t index = 0;
  const auto take = [&](const std::string& name, int64_t layer) {
    const auto state = states.find(index);
    if (state == states.end())
      refuse(file, cat("no optimizer state for parameter ", index), cat(states.size(), " states"));
    const auto [stack, place] = fuser.place_of(name, layer);
    const auto& [first, second] = stacked.at(stack);
    const auto copy = [&](const char* slot, const at::Tensor& into_stack) {
      const at::Tensor into = into_stack.select(0, place);
      const at::Tensor moment =
          c2c::to_tensor(member(*state->second, slot, Kind::kTensor, file).tensor, file, slot);
      if (moment.sizes() != into.sizes()) {
        refuse(file, cat(slot, " of parameter ", index, " (", name, ") has the wrong shape"),
               cat(moment.sizes()), cat(into.sizes()));
      }
      refuse_non_finite({{cat(slot, " of parameter ", index), moment}}, file.string(),
                        ExitCode::kCorrupt);
      if (slot == std::string_view("exp_avg_sq") && moment.lt(0).any().item<bool>())
        refuse(file, cat(slot, " of parameter ", index, " holds a mean of squares below 0"));
      into.copy_(moment);
    };
    copy("exp_avg", first);
    copy("exp_avg_sq", second);
    ++index;
  };
  // The optimizer numbers its parameters group by group, layer by layer in each.
  const auto group_of = [](const std::string& name) {
    const auto holds = [&](const char* part) { return name.find(part) != std::string::npos; };
    return holds("gate") ? 0 : holds("key_weight") || holds("value_weight") ? 1 : 2;
  };
  for (const int group : {0, 1, 2}) {
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (const auto& [name, tensor] : fuser.layer_state(layer)) {
        if (name != "gate_temperature" && group_of(name) == group) take(name, layer);
      }
    }
  }
  if (index != static_cast<int64_t>(states.size()))
    refuse(file, "the optimizer has states left over", cat(states.size()), cat(index));
  for (const auto& [name, tensor] : fuser.parameters()) out.moments.push_back(stacked.at(name));
  return out;
}

}  // namespace kvlingua
