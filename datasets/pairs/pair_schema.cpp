#include "datasets/pairs/pair_schema.h"

#include <cmath>
#include <cstdio>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

using nlohmann::json;

constexpr std::pair<StorageType, std::string_view> kStorageNames[] = {
    {StorageType::kFloat32, "float32"},
    {StorageType::kBFloat16, "bfloat16"},
    {StorageType::kFloat16, "float16"},
    {StorageType::kInt8, "int8"}};

[[noreturn]] void bad_field(const std::string& where, const std::string& field,
                            const std::string& got) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = cat(where, ": ", field),
               .what = "missing or of the wrong type",
               .got = got,
               .remedy = "generate the pair set again"});
}

template <class T>
T get(const json& j, const char* field, const std::string& where) {
  const auto it = j.find(field);
  if (it == j.end()) bad_field(where, field, "nothing");
  try {
    if constexpr (std::is_same_v<T, int64_t>) return whole_number(*it);
    return it->get<T>();
  } catch (const json::exception&) {
    bad_field(where, field, printable(it->dump()));
  }
}

RopeType rope_type_from_name(const std::string& name, const std::string& where) {
  for (RopeType type :
       {RopeType::kDefault, RopeType::kLinear, RopeType::kLlama3, RopeType::kYarn}) {
    if (to_string(type) == name) return type;
  }
  bad_field(where, "rope.type", name);
}

json model_to_json(const ModelRecord& m) {
  return {{"name", m.name},
          {"architecture", m.architecture},
          {"config_sha256", m.config_sha256},
          {"weights", m.weights},
          {"tokenizer", m.tokenizer},
          {"dtype", m.dtype},
          {"layers", m.shape.layers},
          {"kv_heads", m.shape.kv_heads},
          {"head_dim", m.shape.head_dim},
          {"query_heads", m.query_heads},
          {"rope", rope_to_json(m.rope)},
          {"chat", m.chat},
          {"prefix", m.prefix},
          {"prefix_tokens", m.prefix_tokens}};
}

ModelRecord model_from_json(const json& j, const std::string& where) {
  if (!j.is_object()) bad_field(where, "", "no object");
  ModelRecord m;
  m.name = get<std::string>(j, "name", where);
  m.architecture = get<std::string>(j, "architecture", where);
  m.config_sha256 = get<std::string>(j, "config_sha256", where);
  m.weights = get<std::string>(j, "weights", where);
  m.tokenizer = get<std::string>(j, "tokenizer", where);
  m.dtype = get<std::string>(j, "dtype", where);
  m.shape = {get<int64_t>(j, "layers", where), get<int64_t>(j, "kv_heads", where),
             get<int64_t>(j, "head_dim", where)};
  for (int64_t extent : {m.shape.layers, m.shape.kv_heads, m.shape.head_dim}) {
    if (extent < 1 || extent > (1 << 20)) bad_field(where, "cache shape", m.shape.describe());
  }
  if (m.shape.layers * m.shape.kv_heads > (int64_t{1} << 34) / m.shape.head_dim)
    bad_field(where, "cache shape", m.shape.describe());
  m.query_heads = get<int64_t>(j, "query_heads", where);
  if (m.query_heads < 0 || m.query_heads > (1 << 20))
    bad_field(where, "query_heads", cat(m.query_heads));
  m.rope = rope_from_json(get<json>(j, "rope", where), where + ": rope");
  m.chat = get<std::string>(j, "chat", where);
  m.prefix = get<std::string>(j, "prefix", where);
  m.prefix_tokens = get<int64_t>(j, "prefix_tokens", where);
  if (m.prefix_tokens < 0 || m.prefix_tokens > (1 << 24))
    bad_field(where, "prefix_tokens", cat(m.prefix_tokens));
  if (m.rope.head_dim != m.shape.head_dim) bad_field(where, "rope: head_dim", cat(m.rope.head_dim));
  return m;
}

int64_t row_bytes(const KvShape& shape, StorageType storage) {
  const int64_t scales = storage == StorageType::kInt8 ? 2 * shape.layers * shape.kv_heads * 4 : 0;
  return shape.bytes_per_token(storage_size(storage)) + scales;
}

std::string short_text(const json* value) {
  if (value == nullptr) return "nothing";
  return printable(value->is_string() ? value->get<std::string>() : value->dump());
}

void find_difference(const json& a, const json& b, const std::string& path,
                     std::optional<FieldDifference>& found) {
  if (found || a == b) return;
  if (!a.is_object() || !b.is_object()) {
    found = FieldDifference{path, short_text(&a), short_text(&b)};
    return;
  }
  const auto child = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  for (const auto& [key, value] : a.items()) {
    if (found) return;
    const auto other = b.find(key);
    if (other == b.end()) {
      found = FieldDifference{child(key), short_text(&value), "nothing"};
    } else {
      find_difference(value, *other, child(key), found);
    }
  }
  for (const auto& [key, value] : b.items()) {
    if (!found && !a.contains(key))
      found = FieldDifference{child(key), "nothing", short_text(&value)};
  }
}

}  // namespace

std::string to_string(StorageType type) {
  for (const auto& [value, name] : kStorageNames) {
    if (value == type) return std::string(name);
  }
  return "?";
}

StorageType storage_type_from_name(std::string_view name) {
  for (const auto& [value, known] : kStorageNames) {
    if (known == name) return value;
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "data.storage_dtype",
               .what = "unknown storage type",
               .got = printable(name),
               .expected = "float32, bfloat16, float16 or int8"});
}

int64_t storage_size(StorageType type) {
  switch (type) {
    case StorageType::kFloat32:
      return 4;
    case StorageType::kBFloat16:
    case StorageType::kFloat16:
      return 2;
    case StorageType::kInt8:
      return 1;
  }
  return 0;
}

at::ScalarType storage_scalar_type(StorageType type) {
  switch (type) {
    case StorageType::kFloat32:
      return at::ScalarType::Float;
    case StorageType::kBFloat16:
      return at::ScalarType::BFloat16;
    case StorageType::kFloat16:
      return at::ScalarType::Half;
    case StorageType::kInt8:
      return at::ScalarType::Char;
  }
  return at::ScalarType::Undefined;
}

json rope_to_json(const RopeSpec& r) {
  return {{"type", to_string(r.type)},
          {"head_dim", r.head_dim},
          {"theta", r.theta},
          {"factor", r.factor},
          {"low_freq_factor", r.low_freq_factor},
          {"high_freq_factor", r.high_freq_factor},
          {"original_max_position", r.original_max_position},
          {"beta_fast", r.beta_fast},
          {"beta_slow", r.beta_slow},
          {"attention_factor", r.attention_factor},
          {"truncate", r.truncate}};
}

RopeSpec rope_from_json(const json& j, const std::string& where) {
  if (!j.is_object()) bad_field(where, "rope", "no object");
  RopeSpec r;
  r.type = rope_type_from_name(get<std::string>(j, "type", where), where);
  r.head_dim = get<int64_t>(j, "head_dim", where);
  r.theta = get<double>(j, "theta", where);
  r.factor = get<double>(j, "factor", where);
  r.low_freq_factor = get<double>(j, "low_freq_factor", where);
  r.high_freq_factor = get<double>(j, "high_freq_factor", where);
  r.original_max_position = get<int64_t>(j, "original_max_position", where);
  r.beta_fast = get<double>(j, "beta_fast", where);
  r.beta_slow = get<double>(j, "beta_slow", where);
  r.attention_factor = get<double>(j, "attention_factor", where);
  r.truncate = get<bool>(j, "truncate", where);
  if (r.head_dim < 1 || r.original_max_position < 0) bad_field(where, "rope", j.dump());
  for (const double number : {r.theta, r.factor, r.attention_factor}) {
    if (!std::isfinite(number) || number < 0) bad_field(where, "rope", printable(j.dump()));
  }
  if (r.theta == 0) bad_field(where, "rope: theta", "0");
  return r;
}

json PairSetInfo::identity() const {
  return {{"version", kPairSchemaVersion},
          {"source", model_to_json(source)},
          {"target", model_to_json(target)},
          {"storage", to_string(storage)},
          {"alignment", alignment},
          {"tokens_per_sample", tokens_per_sample},
          {"queries", queries},
          {"attention_outputs", attention_outputs},
          {"corpus", corpus},
          {"plan", plan}};
}

json PairSetInfo::to_json() const {
  json j = identity();
  j["recipe"] = recipe_yaml;
  j["recipe_sha256"] = recipe_sha256;
  j["vocab_size"] = {{"source", source.vocab_size}, {"target", target.vocab_size}};
  return j;
}

PairSetInfo PairSetInfo::from_json(const json& j, const std::string& where) {
  if (!j.is_object()) bad_field(where, "info", "no object");
  const auto version = get<int64_t>(j, "version", where);
  if (version != kPairSchemaVersion) {
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = "a pair set of another version",
                 .got = cat(version),
                 .expected = cat(kPairSchemaVersion),
                 .remedy = "generate it again with this program"});
  }
  PairSetInfo info;
  info.source = model_from_json(get<json>(j, "source", where), where + ": source");
  info.target = model_from_json(get<json>(j, "target", where), where + ": target");
  const auto storage = get<std::string>(j, "storage", where);
  bool known = false;
  for (const auto& [value, name] : kStorageNames) {
    if (name == storage) {
      info.storage = value;
      known = true;
    }
  }
  if (!known) bad_field(where, "storage", printable(storage));
  info.alignment = get<std::string>(j, "alignment", where);
  info.tokens_per_sample = get<int64_t>(j, "tokens_per_sample", where);
  if (info.tokens_per_sample < 0)
    bad_field(where, "tokens_per_sample", cat(info.tokens_per_sample));
  info.queries = get<bool>(j, "queries", where);
  info.attention_outputs = get<bool>(j, "attention_outputs", where);
  info.corpus = get<json>(j, "corpus", where);
  info.plan = get<json>(j, "plan", where);
  info.recipe_yaml = get<std::string>(j, "recipe", where);
  info.recipe_sha256 = get<std::string>(j, "recipe_sha256", where);
  if (j.contains("vocab_size")) {  // not in sets made before it was kept
    const json vocabulary = get<json>(j, "vocab_size", where);
    for (const auto& [role, model] :
         {std::pair{"source", &info.source}, {"target", &info.target}}) {
      if (!vocabulary.is_object()) bad_field(where, "vocab_size", "no object");
      model->vocab_size = get<int64_t>(vocabulary, role, where + ": vocab_size");
      if (model->vocab_size < 0) bad_field(where, "vocab_size", cat(model->vocab_size));
    }
  }
  return info;
}

int64_t PairSetInfo::source_row_bytes() const { return row_bytes(source.shape, storage); }
int64_t PairSetInfo::target_row_bytes() const { return row_bytes(target.shape, storage); }
int64_t PairSetInfo::query_row_bytes() const {
  const int64_t one = target.shape.layers * target.query_heads * target.shape.head_dim *
                      (storage == StorageType::kInt8 ? 2 : storage_size(storage));
  return (queries ? one : 0) + (attention_outputs ? one : 0);
}

std::optional<FieldDifference> first_difference(const json& a, const json& b) {
  std::optional<FieldDifference> found;
  find_difference(a, b, "", found);
  return found;
}

std::string shard_file_name(int64_t index) {
  char name[32];
  std::snprintf(name, sizeof name, "shard-%06lld.h5", static_cast<long long>(index));
  return name;
}

}  // namespace kvlingua
