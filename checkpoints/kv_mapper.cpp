#include "checkpoints/kv_mapper.h"

#include <ATen/ATen.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "kvlingua/base/error.h"
#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kParts[] = {"k", "v"};

// One tensor pair of the artifact: W [inputs * source width, target width], b [target width], and
// the (part, source layer) that each run of rows reads.
struct LayerMap {
  at::Tensor weight, bias;
  std::vector<std::pair<int64_t, int64_t>> inputs;
};

// The groups of a plan whose outputs lie in one part and layer of the target.
struct Groups {
  int64_t first = 0, count = 1;  // groups
  int64_t column = 0;            // where the layer's channels begin in the first of them
};

Groups groups_of(const BlockPlan& plan, int64_t part, int64_t layer) {
  const int64_t begin = (part * plan.target.layers + layer) * plan.target.width();
  const int64_t end = begin + plan.target.width(), width = plan.out_width();
  const int64_t first = begin / width;
  return {first, (end + width - 1) / width - first, begin - first * width};
}

class Folded {
 public:
  Folded(const RidgeProjector& ridge)
      : plan_(ridge.plan()), select_(ridge.plan().select.to(at::kCPU)) {
    const NamedTensors state = ridge.state();
    for (const auto& [name, tensor] : state) {
      tensors_[name] =
          tensor.is_floating_point() ? tensor.detach().to(at::kCPU, at::kDouble) : tensor;
    }
    tensors_["weight"] = ridge.weight().detach().to(at::kCPU, at::kDouble);
  }

  LayerMap layer(int64_t part, int64_t layer) const {
    const KvShape &source = plan_.source, &target = plan_.target;
    const Groups groups = groups_of(plan_, part, layer);
    const int64_t part_blocks = source.layers * source.kv_heads;
    LayerMap out;
    std::set<std::pair<int64_t, int64_t>> inputs;
    const auto each_block = [&](auto body) {
      for (int64_t g = groups.first; g < groups.first + groups.count; ++g) {
        for (int64_t i = 0; i < select_.size(1); ++i)
          body(g, i, select_[g][i].template item<int64_t>());
      }
    };
    each_block([&](int64_t, int64_t, int64_t block) {
      inputs.emplace(block / part_blocks, block % part_blocks / source.kv_heads);
    });
    out.inputs.assign(inputs.begin(), inputs.end());
    std::map<std::pair<int64_t, int64_t>, int64_t> row;
    for (size_t i = 0; i < out.inputs.size(); ++i)
      row[out.inputs[i]] = static_cast<int64_t>(i) * source.width();
    const auto options = at::TensorOptions().dtype(at::kDouble);
    out.weight =
        at::zeros({static_cast<int64_t>(inputs.size()) * source.width(), target.width()}, options);
    // What each group gives of this layer: all of it, or a head.
    const int64_t columns = std::min(plan_.out_width(), target.width());
    const at::Tensor scale = tensors_.at("target_deviation")[part][layer].flatten();
    out.bias = tensors_.at("target_mean")[part][layer].flatten().clone();
    const at::Tensor mean = tensors_.at("source_mean").view({-1, source.head_dim});
    const at::Tensor deviation = tensors_.at("source_deviation").view({-1, source.head_dim});
    for (int64_t g = 0; g < groups.count; ++g) {
      const at::Tensor own = scale.narrow(0, g * columns, columns);
      out.bias.narrow(0, g * columns, columns)
          .add_(tensors_.at("bias")[groups.first + g][0].narrow(0, groups.column, columns) * own);
    }
    each_block([&](int64_t g, int64_t i, int64_t block) {
      const int64_t column = (g - groups.first) * columns;
      const at::Tensor part_of = tensors_.at("weight")[g]
                                     .narrow(0, i * source.head_dim, source.head_dim)
                                     .narrow(1, groups.column, columns);
      const at::Tensor folded =
          part_of / deviation[block].unsqueeze(1) * scale.narrow(0, column, columns).unsqueeze(0);
      const int64_t head = block % source.kv_heads;
      const int64_t begin = row.at({block / part_blocks, block % part_blocks / source.kv_heads}) +
                            head * source.head_dim;
      out.weight.narrow(0, begin, source.head_dim).narrow(1, column, columns).add_(folded);
      out.bias.narrow(0, column, columns).sub_(at::matmul(mean[block], folded));
    });
    return out;
  }

 private:
  const BlockPlan& plan_;
  at::Tensor select_;
  std::map<std::string, at::Tensor> tensors_;
};

Json model_of(const ModelIdentity& model, const KvShape& shape) {
  Json j;
  j["model"] = model.name;
  j["architecture"] = model.architecture;
  j["weights_sha256"] = model.weights;
  j["tokenizer_sha256"] = model.tokenizer;
  j["n_layers"] = shape.layers;
  j["n_kv_heads"] = shape.kv_heads;
  j["head_dim"] = shape.head_dim;
  return j;
}

// The checkpoint's linear map with its weights; refuses what the router cannot apply.
std::unique_ptr<RidgeProjector> ridge_of(const Checkpoint& checkpoint, const std::string& where) {
  std::unique_ptr<Projector> projector =
      projector_from_config(checkpoint.projector_config, where, numbers_in(checkpoint.projector));
  auto* ridge = dynamic_cast<RidgeProjector*>(projector.get());
  if (ridge == nullptr) {
    throw Error({.code = ExitCode::kUsage,
                 .where = where,
                 .what = "the router's mapper is one linear map a layer",
                 .got = cat("kind ", projector->kind()),
                 .expected = "kind ridge",
                 .remedy = "export the run's ridge stage: RUN/ridge"});
  }
  if (ridge->previous_tokens().tokens > 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = where,
                 .what = "the router's mapper reads the aligned token alone",
                 .got = cat("previous_tokens ", ridge->previous_tokens().tokens),
                 .expected = "projector.ridge.previous_tokens 0",
                 .remedy = "train a ridge map without them for the router"});
  }
  ridge->load_state(by_name(checkpoint.projector), where);
  (void)projector.release();
  return std::unique_ptr<RidgeProjector>(ridge);
}

// Writes W and b of every target layer. Returns what each of them reads.
Json write_layers(const RidgeProjector& ridge, const std::filesystem::path& file) {
  const Folded folded(ridge);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  Json layers = Json::array();
  for (int64_t layer = 0; layer < ridge.target_shape().layers; ++layer) {
    Json entry;
    entry["layer"] = layer;
    for (const int64_t part : {0, 1}) {
      const LayerMap map = folded.layer(part, layer);
      const std::string name = cat("target.", layer, ".", kParts[part]);
      tensors.emplace_back(name + ".W", map.weight.to(at::kFloat).contiguous());
      tensors.emplace_back(name + ".b", map.bias.to(at::kFloat).contiguous());
      Json inputs = Json::array();
      for (const auto& [from, source_layer] : map.inputs)
        inputs.push_back({{"part", kParts[from]}, {"layer", source_layer}});
      entry[kParts[part]] = {{"inputs", inputs}};
    }
    layers.push_back(entry);
  }
  write_tensors(file, tensors);
  return layers;
}

// `id`: of the weights.
Json manifest_of(const Checkpoint& checkpoint, const RidgeProjector& ridge, const std::string& id,
                 const Json& layers) {
  const Json options = ridge.config()["options"];
  Json manifest;
  manifest["format"] = "kv_mapper";
  manifest["format_version"] = 1;
  manifest["made_by"] = cat("kvlingua ", KVLINGUA_VERSION);
  manifest["mapper_id"] =
      cat(checkpoint.pair.source.name, "->", checkpoint.pair.target.name, "@", id);
  manifest["kind"] = "ridge";
  manifest["variant"] = "full_head";
  manifest["fitted_layout"] = options["layout"];
  manifest["fitted_features"] = options["features"];
  manifest["dtype"] = "float32";
  manifest["tensor_parallel"] = 1;
  manifest["head_order"] = "model";
  manifest["keys"] = "un-rotated (RoPE removed) on both sides";
  manifest["apply"] =
      "y = x W + b; x: the inputs' channels side by side in this order, head-major; W [in, out]";
  manifest["alignment"] = checkpoint.pair.alignment;
  manifest["source"] = model_of(checkpoint.pair.source, ridge.source_shape());
  manifest["target"] = model_of(checkpoint.pair.target, ridge.target_shape());
  manifest["layers"] = layers;
  return manifest;
}

}  // namespace

void write_kv_mapper(const Checkpoint& checkpoint, const std::string& where,
                     const std::filesystem::path& folder) {
  const std::unique_ptr<RidgeProjector> ridge = ridge_of(checkpoint, where);
  const std::filesystem::path weights = folder / "weights.safetensors";
  const Json layers = write_layers(*ridge, weights);
  const Json manifest = manifest_of(checkpoint, *ridge, sha256_file(weights).substr(0, 16), layers);
  write_file_atomic(folder / "manifest.json", manifest.dump(2) + "\n");

  std::string sums;
  for (const char* name : {"manifest.json", "weights.safetensors"})
    sums += sha256_file(folder / name) + "  " + name + "\n";
  write_file_atomic(folder / "SHA256SUMS", sums);
}

}  // namespace kvlingua
