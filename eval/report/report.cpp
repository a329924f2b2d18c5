#include "eval/report/report.h"

#include <algorithm>
#include <cmath>

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

template <class List, class Matches>
auto* found_in(const List& list, const Matches& matches) {
  const auto at = std::find_if(list.begin(), list.end(), matches);
  return at == list.end() ? nullptr : &*at;
}

Json known(double value) { return std::isfinite(value) ? Json(value) : Json(); }

template <class T>
Json or_null(const std::optional<T>& value) {
  if constexpr (requires { value->to_json(); })
    return value ? value->to_json() : Json();
  else
    return value ? Json(*value) : Json();
}

template <class T>
Json list_of(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(value.to_json());
  return list;
}

Json object_of(const std::vector<FamilyDifference>& families) {
  Json json = Json::object();
  for (const auto& [family, difference] : families) json[family] = difference.to_json();
  return json;
}

Json json_of(const Finding& finding) {
  return {{"name", finding.name}, {"text", finding.text}, {"withholds", finding.withholds}};
}

Json json_of(const ControlCheck& check) {
  return {{"control", check.control},
          {"equals", check.reference},
          {"n", check.n},
          {"equal", check.equal},
          {"equal_scores", check.equal_scores}};
}

Json json_of(const HeadFidelity& head) {
  return {{"key_r2", head.key_r2},         {"value_r2", head.value_r2},
          {"key_cosine", head.key_cosine}, {"value_cosine", head.value_cosine},
          {"key_error", head.key_error},   {"value_error", head.value_error}};
}

Json json_of(const Case& one) {
  Json json;  // null without answers
  for (const ShownAnswer& answer : one.answers)
    json[answer.condition] = {
        {"text", answer.text}, {"markers", answer.markers}, {"stall", answer.stall}};
  return json;
}

}  // namespace

Json Rate::to_json() const {
  if (std::isnan(rate)) return {{"rate", nullptr}, {"low", 0}, {"high", 1}, {"count", 0}};
  Json json{{"rate", rate}, {"low", low}, {"high", high}, {"count", count}};
  if (design_effect) json["design_effect"] = *design_effect;
  return json;
}

Json MeanInterval::to_json() const {
  if (std::isnan(mean)) return nullptr;
  if (!std::isfinite(low)) return {{"mean", mean}, {"low", nullptr}, {"high", nullptr}};
  return {{"mean", mean}, {"low", low}, {"high", high}};
}

Json Difference::to_json() const {
  return {{"difference", difference},
          {"low", low},
          {"high", high},
          {"n", n},
          {"groups", groups},
          {"design_effect", design_effect},
          {"p", p},
          {"p_holm", p_holm}};
}

Json Cell::to_json() const {
  Json json;
  json["n"] = n;
  json["distinct"] = distinct;
  json["groups"] = groups;
  json["success"] = success.to_json();
  json["partial"] = partial;
  json["stalled"] = stalled.to_json();
  for (const auto& [kind, count] : stalls) json["stalls"][kind] = count;
  json["known"] = known;
  json["injected"] = injected.to_json();
  json["parametric"] = parametric.to_json();
  json["both"] = both.to_json();
  json["other"] = other.to_json();
  json["memorisation_ratio"] = kvlingua::known(memorisation_ratio);
  json["nll"] = nll.to_json();
  json["nll_parametric"] = nll_parametric.to_json();
  json["kl"] = kl.to_json();
  json["tokens_generated"] = tokens_generated;
  return json;
}

Json FamilyNumbers::to_json() const {
  Json json = cell.to_json();
  for (const auto& [form, part] : forms) json["forms"][form] = part.to_json();
  json["vs_baseline"] = or_null(vs_baseline);
  json["vs_full_text"] = or_null(vs_full_text);
  return json;
}

const FamilyNumbers* ConditionNumbers::find(const std::string& family) const {
  return found_in(families, [&](const FamilyNumbers& one) { return one.family == family; });
}

Json ConditionNumbers::to_json() const {
  Json json{{"families", Json::object()}, {"definition", definition}};
  for (const FamilyNumbers& family : families) json["families"][family.family] = family.to_json();
  if (bytes_moved) json["bytes_moved"] = *bytes_moved;
  if (seconds) json["seconds"] = *seconds;
  return json;
}

Json to_json(const CriterionResult& result) {
  Json json{{"verdict", to_string(result.verdict)},
            {"statistic", result.statistic},
            {"low", result.low},
            {"high", result.high},
            {"threshold", result.threshold},
            {"n", result.n},
            {"groups", result.groups},
            {"contents", result.contents},
            {"design_effect", result.design_effect},
            {"families", result.families},
            {"floor", result.floor},
            {"ceiling", result.ceiling},
            {"monte_carlo_errors", {result.low_error, result.high_error}},
            {"within_monte_carlo", result.within_monte_carlo},
            {"controls", Json::object()},
            {"by_seed", result.by_seed},
            {"seeds_half_width", result.seeds_half_width},
            {"notes", result.notes},
            {"definition", result.definition}};
  for (const ControlShare& control : result.controls)
    json["controls"][control.name] = {{"statistic", known(control.statistic)},
                                      {"low", control.low},
                                      {"high", control.high},
                                      {"n", control.n},
                                      {"below", control.below}};
  return json;
}

Json Power::to_json() const {
  return {{"n", n},           {"design_effect", design_effect}, {"gate", gate},
          {"margin", margin}, {"at_margin", at_margin},         {"at_one", at_one},
          {"power", power},   {"needed_n", or_null(needed_n)}};
}

Json Judging::to_json() const {
  return {{"gated", gated},       {"replicas", replicas},     {"fuses", fuses},
          {"controls", controls}, {"confidence", confidence}, {"resamples", resamples},
          {"seed", seed}};
}

Json LadderStep::to_json() const {
  return {{"lower", lower},
          {"upper", upper},
          {"difference", difference},
          {"low", low},
          {"high", high},
          {"n", n},
          {"groups", groups},
          {"only_upper", only_upper},
          {"only_lower", only_lower},
          {"p", p},
          {"rises", rises},
          {"p_holm", p_holm}};
}

const LadderFamily* Ladder::find(const std::string& family) const {
  return found_in(families, [&](const LadderFamily& one) { return one.family == family; });
}

Json Ladder::to_json() const {
  Json json{{"rungs", rungs}, {"families", Json::object()}};
  for (const LadderFamily& one : families) json["families"][one.family] = list_of(one.steps);
  return json;
}

Json ShareInterval::to_json() const {
  return {{"statistic", statistic}, {"low", known(low)}, {"high", known(high)}, {"n", n}};
}

Json Attributed::to_json() const {
  Json json{{"best_control", best_control.empty() ? Json() : Json(best_control)},
            {"conditions", Json::object()}};
  for (const AttributedCondition& one : conditions)
    json["conditions"][one.name] = {{"share", or_null(one.share)}, {"gain", or_null(one.gain)}};
  return json;
}

Json Attribution::to_json() const {
  Json json{{"resamples", resamples}, {"families", Json::object()}};
  for (const AttributedFamily& one : families)
    json["families"][one.family] = {{"exact", one.exact.to_json()}, {"nll", one.nll.to_json()}};
  return json;
}

Json LayerFidelity::to_json() const {
  Json json;
  json["layer"] = layer;
  json.update(json_of(static_cast<const HeadFidelity&>(*this)));
  json["attention_output_cosine"] = attention_output_cosine;
  json["hidden_drift"] = hidden_drift;
  json["key_effective_rank"] = key_effective_rank;
  json["value_effective_rank"] = value_effective_rank;
  json["heads"] = Json::array();
  for (const HeadFidelity& head : heads) json["heads"].push_back(json_of(head));
  return json;
}

Json ConditionFidelity::mean_json() const {
  return {{"key_r2", mean.key_r2},
          {"value_r2", mean.value_r2},
          {"key_cosine", mean.key_cosine},
          {"value_cosine", mean.value_cosine},
          {"attention_output_cosine", mean.attention_output_cosine},
          {"hidden_drift", mean.hidden_drift}};
}

Json Fidelity::to_json() const {
  Json json{{"condition", condition},
            {"items", items},
            {"effective_rank",
             {{"source_keys", source_key_ranks},
              {"source_values", source_value_ranks},
              {"own_keys", own_key_ranks},
              {"own_values", own_value_ranks}}}};
  for (const ConditionFidelity& one : conditions) {
    json["conditions"][one.name] = {{"mean", one.mean_json()}, {"layers", list_of(one.layers)}};
    if (one.name == condition) json["layers"] = list_of(one.layers);
  }
  return json;
}

Json CostRow::to_json() const {
  return {{"tokens", tokens},
          {"prefill_ms", prefill_ms},
          {"translate_ms", translate_ms},
          {"question_ms", question_ms},
          {"source_prefill_ms", source_prefill_ms},
          {"ttft_ratio", ttft_ratio},
          {"bytes", bytes},
          {"prefill_flops", prefill_flops},
          {"translate_flops", translate_flops}};
}

Json Cost::to_json() const {
  Json json = median.to_json();
  json["message_ms"] = message.ms;
  json["message_bytes"] = message.bytes;
  json["message_tokens"] = message.tokens;
  json["lengths"] = list_of(lengths);
  json["condition"] = condition;
  return json;
}

Json Example::to_json() const {
  Json json{{"id", id},
            {"family", family},
            {"form", form},
            {"context", context},
            {"prompt", prompt},
            {"markers", markers},
            {"parametric", parametric}};
  for (const ShownAnswer& answer : answers)
    json["answers"][answer.condition] = {{"text", answer.text},
                                         {"exact", answer.exact},
                                         {"knowledge", answer.knowledge},
                                         {"stall", answer.stall}};
  return json;
}

Json Retention::to_json() const {
  Json json{{"nll", known(nll)}, {"kl", known(kl)}};
  for (const Retained& one : conditions)
    json["conditions"][one.condition] = {{"nll", one.nll}, {"kl", one.kl}};
  return json;
}

Json QuantisationCost::to_json() const {
  return {{"weights", weights},
          {"n", n},
          {"equal_answers", equal_rate.to_json()},
          {"exact_difference", exact.to_json()},
          {"nll_quantised", known(nll_quantised)},
          {"nll_dense", known(nll_dense)},
          {"nll_difference", nll_difference.to_json()}};
}

Json PairNames::to_json() const {
  return {{"source", source},
          {"target", target},
          {"alignment", alignment},
          {"source_fingerprint", source_fingerprint},
          {"target_fingerprint", target_fingerprint},
          {"dtype", dtype},
          {"device", device}};
}

Json TrainedBy::to_json() const {
  Json json{{"checkpoint", checkpoint},
            {"stage", stage},
            {"step", step},
            {"recipe_sha256", recipe_sha256}};
  if (finished) json["finished"] = *finished;
  if (rows_seen) json["rows_seen"] = *rows_seen;
  if (!settings) return json;
  json["recipe"] = settings->recipe;
  json["losses"] = settings->losses;
  json["seed"] = settings->seed;
  json["data"] = settings->data;
  json["families"] = settings->families;
  json["same_training"] = settings->same_training;
  return json;
}

Json LooksTaken::to_json() const {
  return {{"look", look},
          {"checkpoint", checkpoint},
          {"of_the_run", of_the_run},
          {"at_this_checkpoint", at_this_checkpoint.size()},
          {"all", list_of(at_this_checkpoint)}};
}

Json BenchmarkNumbers::to_json() const {
  Json json{{"name", name}, {"file", file},       {"gold", gold},    {"method", method},
            {"n", n},       {"skipped", skipped}, {"chance", chance}};
  for (const BenchmarkCondition& one : conditions)
    json["conditions"][one.name] = {{"accuracy", one.accuracy.to_json()},
                                    {"answered", one.answered}};
  return json;
}

Json Comparison::to_json() const { return {{"a", a}, {"b", b}, {"families", object_of(families)}}; }

Json RunNumbers::to_json() const {
  Json json{{"answers", answers},
            {"resumed", resumed},
            {"generated", generated},
            {"seconds", seconds},
            {"processes", processes},
            {"batch_size", batch_size},
            {"max_new_tokens", max_new_tokens}};
  if (meter.is_object()) json.update(meter);
  return json;
}

std::vector<std::string> Report::families() const {
  std::vector<std::string> names;
  for (const ConditionNumbers& one : conditions)
    for (const FamilyNumbers& of : one.families)
      if (of.family != "cases" && std::find(names.begin(), names.end(), of.family) == names.end())
        names.push_back(of.family);
  return names;
}

const ConditionNumbers* Report::condition(const std::string& name) const {
  return found_in(conditions, [&](const ConditionNumbers& one) { return one.name == name; });
}

const FamilyNumbers* Report::cell(const std::string& name, const std::string& family) const {
  const ConditionNumbers* of = condition(name);
  return of == nullptr ? nullptr : of->find(family);
}

const CriterionResult* Report::criterion(const std::string& name) const {
  return found_in(criteria, [&](const CriterionResult& one) { return one.name == name; });
}

const Retained* Report::retained(const std::string& name) const {
  return found_in(retention.conditions, [&](const Retained& one) { return one.condition == name; });
}

bool Report::found(const std::string& finding) const {
  return found_in(findings, [&](const Finding& one) { return one.name == finding; }) != nullptr;
}

Json Report::to_json() const {
  Json json;
  if (pair) {
    json["pair"] = pair->to_json();
    json["checkpoint"] = or_null(checkpoint);
  }
  json["mode"] = confirmatory ? "confirmatory" : "exploratory";
  json["verdict_line"] = verdict_line;
  json["gated"] = gated;
  json["judged"] = judged;
  json["gate_met"] = gate_met;
  json["quick_look"] = quick_look();
  if (quick_look()) json["limit"] = limit;
  json["criteria"] = Json::object();
  for (const auto& one : criteria) json["criteria"][one.name] = kvlingua::to_json(one);
  json["judging"] = or_null(judging);
  json["findings"] = Json::array();
  for (const auto& one : findings) json["findings"].push_back(json_of(one));
  json["controls"] = Json::array();
  for (const auto& one : controls) json["controls"].push_back(json_of(one));
  json["target_dtype"] = target_dtype;
  json["conditions"] = Json::object();
  for (const auto& one : conditions) json["conditions"][one.name] = one.to_json();
  json["ladder"] = or_null(ladder);
  json["cases"] = Json::object();
  for (const auto& one : cases) json["cases"][one.id] = json_of(one);
  json["examples"] = list_of(examples);
  json["retention"] = retention.to_json();
  if (quantisation) json["quantisation"] = quantisation->to_json();
  json["fidelity"] = or_null(fidelity);
  json["latency"] = or_null(latency);
  json["attribution"] = attribution.to_json();
  json["power"] = Json::object();
  for (const auto& [criterion, one] : power) json["power"][criterion] = one.to_json();
  json["seeds"] = seeds;
  json["run"] = run.to_json();
  json["trained"] = Json::object();
  for (const auto& one : trained) json["trained"][one.condition] = one.to_json();
  json["one_model"] = one_model;
  if (looks) json["looks"] = looks->to_json();
  if (confirmation) json["confirmation"] = confirmation->to_json();
  json["benchmarks"] = list_of(benchmarks);
  json["comparison"] = or_null(comparison);
  json["versions"] = Json::object();
  for (const auto& [name, version] : versions) json["versions"][name] = version;
  json["recipe_sha256"] = recipe_sha256;
  return json;
}

}  // namespace kvlingua
