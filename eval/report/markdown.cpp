// report.md: the same as report.html for a terminal or a pull request.
#include <algorithm>

#include "eval/report/report.h"
#include "eval/report/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using namespace report;  // NOLINT: helpers of this folder

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r' || c == '|') c = c == '|' ? '/' : ' ';
  return text;
}

void verdicts(const Json& r, std::string& out) {
  if (!r["judged"].get<bool>()) {
    out += cat("No verdict: the gated condition `", r["gated"].get<std::string>(),
               "` was not evaluated.\n\n");
    return;
  }
  out += cat(r["verdict_line"].get<std::string>(), "\n\n");
  if (r["mode"] != "confirmatory")
    out +=
        "Exploratory: nothing is confirmed. `kvlingua evaluate --confirm` takes one look at fresh "
        "items, by several training seeds.\n\n";
  out += cat("| criterion | verdict | statistic | ", level(r),
             " interval | gate | n (groups) |\n| --- | --- | --- | --- | --- | --- |\n");
  for (const auto& [name, c] : r["criteria"].items())
    out += cat("| ", title(name), " | **", verdict_word(r, c), "** | ", number(c["statistic"]),
               " | [", number(c["low"]), ", ", number(c["high"]), "] | ", number(c["threshold"], 2),
               " | ", c["n"].get<int64_t>(), " (", c["groups"].get<int64_t>(), ") |\n");
  out += "\n";
  for (const auto& [name, c] : r["criteria"].items())
    for (const auto& [control, one] : c["controls"].items())
      out += cat("- control ", title(control), " on ", title(name), ": ", share(one),
                 one["below"].get<bool>() ? "\n" : ", **not below the gate**\n");
  for (const auto& [name, c] : r["criteria"].items())
    for (const auto& note : c["notes"])
      out += cat("- ", title(name), ": ", note.get<std::string>(), "\n");
  out += "\n";
}

void conditions(const Json& r, std::string& out) {
  for (const auto& family : families(r)) {
    const bool counterfactual = family.starts_with("counterfact");
    out += cat("### ", title(family), "\n\n| condition | n | exact, % [", level(r),
               "] | partial | stalled, % |",
               counterfactual ? " injected, % | parametric, % | both | other | memorisation |" : "",
               " NLL | KL | vs full text | p (Holm) |\n");
    out +=
        cat("| --- | --- | --- | --- | --- |",
            counterfactual ? " --- | --- | --- | --- | --- |" : "", " --- | --- | --- | --- |\n");
    for (const auto& [name, unused] : r["conditions"].items()) {
      const Json* c = cell(r, name, family);
      if (c == nullptr) continue;
      const Json& difference = (*c)["vs_full_text"];
      out +=
          cat("| ", name, " | ", (*c)["distinct"].get<int64_t>(), " | ", interval((*c)["success"]),
              " | ", percent((*c)["partial"]), " | ", percent((*c)["stalled"]["rate"]), " | ");
      if (counterfactual)
        out += cat(interval((*c)["injected"]), " | ", interval((*c)["parametric"]), " | ",
                   percent((*c)["both"]["rate"]), " | ", percent((*c)["other"]["rate"]), " | ",
                   number((*c)["memorisation_ratio"], 2), " | ");
      out += cat((*c)["nll"].is_null() ? "-" : number((*c)["nll"]["mean"]), " | ",
                 (*c)["kl"].is_null() ? "-" : number((*c)["kl"]["mean"]), " | ",
                 difference.is_null() ? "-" : percent(difference["difference"]), " | ",
                 difference.is_null() ? "-" : number(difference["p_holm"]), " |\n");
    }
    out += "\n";
  }
}

void ladder(const Json& r, std::string& out) {
  if (!r.contains("ladder") || r["ladder"].is_null()) return;
  out += "## The ladder\n\nEach projector against the one before it, on the same items.\n\n";
  for (const auto& [family, steps] : r["ladder"]["families"].items()) {
    out += cat("### ", title(family), "\n\n| step | n | points [", level(r),
               "] | gained / lost items | p (Holm) | rises |\n"
               "| --- | --- | --- | --- | --- | --- |\n");
    for (const auto& s : steps)
      out +=
          cat("| ", title(s["lower"]), " < ", title(s["upper"]), " | ", s["n"].get<int64_t>(),
              " | ", percent(s["difference"]), " [", percent(s["low"]), ", ", percent(s["high"]),
              "] | ", s["only_upper"].get<int64_t>(), " / ", s["only_lower"].get<int64_t>(), " | ",
              number(s["p_holm"], 4), " | ", s["rises"].get<bool>() ? "yes" : "not shown", " |\n");
    out += "\n";
  }
}

void cases(const Json& r, std::string& out) {
  if (r["cases"].empty()) return;
  out += "## Phase 2a's five cases\n\n";
  for (const auto& [id, one] : r["cases"].items()) {
    out += cat("### ", id, "\n\n| condition | markers found | answer |\n| --- | --- | --- |\n");
    for (const auto& [condition, answer] : one.items()) {
      std::string markers;
      for (const auto& marker : answer["markers"])
        markers += (markers.empty() ? "" : ", ") + marker.get<std::string>();
      out += cat("| ", condition, " | ", markers.empty() ? "-" : markers, " | ",
                 one_line(answer["text"].get<std::string>()), " |\n");
    }
    out += "\n";
  }
}

void fidelity(const Json& r, std::string& out) {
  if (!r.contains("fidelity") || r["fidelity"].is_null()) return;
  out += cat("## Fidelity by layer (", r["fidelity"]["condition"].get<std::string>(),
             ")\n\nNone of this gates: R2 does not predict behaviour.\n\n| layer | key R2 | value "
             "R2 | key cos | value cos | attention cos | hidden drift | rank K | rank V |\n"
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const auto& layer : r["fidelity"]["layers"])
    out += cat("| ", layer["layer"].get<int64_t>(), " | ", number(layer["key_r2"]), " | ",
               number(layer["value_r2"]), " | ", number(layer["key_cosine"]), " | ",
               number(layer["value_cosine"]), " | ", number(layer["attention_output_cosine"]),
               " | ", number(layer["hidden_drift"]), " | ", number(layer["key_effective_rank"], 1),
               " | ", number(layer["value_effective_rank"], 1), " |\n");
  out += "\n";
}

void cost(const Json& r, std::string& out) {
  if (!r.contains("latency") || r["latency"].is_null()) return;
  out +=
      "## Cost\n\n| context tokens | re-read, ms | translate + question, ms | ratio | cache moved "
      "| re-read | translate |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  std::vector<Json> rows{r["latency"]};
  for (const auto& row : r["latency"]["lengths"]) rows.push_back(row);
  for (const auto& row : rows)
    out +=
        cat("| ", row["tokens"].get<int64_t>(), " | ", number(row["prefill_ms"], 1), " | ",
            number(Json(row["translate_ms"].get<double>() + row["question_ms"].get<double>()), 1),
            " | ", number(row["ttft_ratio"], 2), " | ", bytes(row["bytes"].get<double>()), " | ",
            flops(row["prefill_flops"].get<double>()), " | ",
            flops(row["translate_flops"].get<double>()), " |\n");
  if (r["latency"].contains("message_ms"))
    out += cat("\nAs a text message of ", r["latency"]["message_tokens"].get<int64_t>(),
               " tokens (", r["latency"]["message_bytes"].get<int64_t>(),
               " bytes): ", number(r["latency"]["message_ms"], 1), " ms.\n");
  out += "\n";
}

void benchmarks(const Json& r, std::string& out) {
  if (!r.contains("benchmarks") || r["benchmarks"].empty()) return;
  out +=
      "## Benchmarks\n\n| benchmark | gold | method | condition | n | skipped | accuracy, % |\n| "
      "--- | --- | --- | --- | --- | --- | --- |\n";
  for (const auto& b : r["benchmarks"])
    for (const auto& [name, c] : b["conditions"].items())
      out += cat("| ", b["name"].get<std::string>(), " | ", b["gold"].get<std::string>(), " | ",
                 b["method"].get<std::string>(), " | ", name, " | ", b["n"].get<int64_t>(), " | ",
                 b["skipped"].get<int64_t>(), " | ", interval(c["accuracy"]), " |\n");
  out += "\n";
}

void comparison(const Json& r, std::string& out) {
  if (!r.contains("comparison") || r["comparison"].is_null()) return;
  const Json& c = r["comparison"];
  out += cat("## Comparison: ", c["a"].get<std::string>(), " against ", c["b"].get<std::string>(),
             "\n\n| family | n | A - B, points [", level(r),
             "] | p (Holm) |\n| --- | --- | --- | --- |\n");
  for (const auto& [family, d] : c["families"].items())
    out += cat("| ", title(family), " | ", d["n"].get<int64_t>(), " | ", percent(d["difference"]),
               " [", percent(d["low"]), ", ", percent(d["high"]), "] | ", number(d["p_holm"], 4),
               " |\n");
  out += "\n";
}

void attribution(const Json& r, std::string& out) {
  if (!r.contains("attribution") || r["attribution"]["families"].empty()) return;
  out +=
      "## What comes from the content\n\nA likelihood is no transfer metric.\n\n| family | "
      "condition "
      "| exact: share of gap | content gain | likelihood: share of gap | content gain |\n| --- | "
      "--- | "
      "--- | --- | --- | --- |\n";
  for (const auto& [family, one] : r["attribution"]["families"].items())
    for (const auto& [name, exact] : one["exact"]["conditions"].items()) {
      const Json& nll = one["nll"]["conditions"][name];
      out +=
          cat("| ", title(family), " | ", name, " | ", share(exact["share"]), " | ",
              share(exact["gain"]), " | ", share(nll["share"]), " | ", share(nll["gain"]), " |\n");
    }
  out += "\n";
}

void trained(const Json& r, std::string& out) {
  if (!r.contains("trained") || r["trained"].empty()) return;
  out += "## What trained these projectors\n\n";
  for (const auto& [name, one] : r["trained"].items())
    out += cat("- `", name, "`: ", one.value("stage", std::string()), ", ",
               one.value("losses", std::string("losses not known")), "; distilled on ",
               one.contains("families") ? one["families"].dump() : "[]", "; recipe ",
               one.value("recipe_sha256", std::string()).substr(0, 16), "\n");
  if (r.contains("looks") && r["looks"].is_object())
    out += cat("\nLook ", r["looks"]["look"].get<int64_t>(), " of ",
               r["looks"]["at_this_checkpoint"].get<int64_t>(), " at this checkpoint.\n");
  out += "\n";
}

void method(const Json& r, std::string& out) {
  out += "## Method\n\n";
  for (const auto& [name, c] : r["criteria"].items())
    out += cat("- **", title(name), "** ", c["definition"].get<std::string>(), "\n");
  out += "\n";
  for (const auto& [name, c] : r["conditions"].items())
    out += cat("- `", name, "` ", c["definition"].get<std::string>(), "\n");
  out += cat(
      "\nThe unit is the group (one person, fact, object). Rates: Wilson intervals over distinct "
      "observations on counts divided by the design effect. Differences: paired, Tango's score "
      "interval on such counts, sign flips of whole groups, Holm across the conditions of a "
      "family; verdicts and ladder: the wider of that and the BCa bootstrap over whole groups. "
      "Seeds: ",
      r["seeds"].dump(), ".\n");
  if (r.contains("versions")) out += cat("Versions: ", r["versions"].dump(), ".\n");
  if (r.contains("recipe_sha256"))
    out += cat("Recipe sha256: ", r["recipe_sha256"].get<std::string>(), ".\n");
}

}  // namespace

std::string report_markdown(const nlohmann::ordered_json& r) {
  std::string out = "# Evaluation";
  if (r.contains("pair"))
    out += cat(": ", r["pair"]["source"].get<std::string>(), " into ",
               r["pair"]["target"].get<std::string>());
  out += "\n\n";
  if (r["quick_look"].get<bool>())
    out += cat("**A quick look: at most ", r["limit"].get<int64_t>(),
               " items of each family. Not a result.**\n\n");
  verdicts(r, out);
  for (const auto& finding : r["findings"])
    out += cat("- ", finding["withholds"].get<bool>() ? "**verdict withheld** " : "", "`",
               finding["name"].get<std::string>(), "` ", finding["text"].get<std::string>(), "\n");
  comparison(r, out);
  out += "\n## Conditions\n\n";
  conditions(r, out);
  ladder(r, out);
  for (const auto& control : r["controls"])
    out += cat("- `", control["control"].get<std::string>(), "` equals `",
               control["equals"].get<std::string>(), "` token for token on ",
               control["equal"].get<int64_t>(), " of ", control["n"].get<int64_t>(), " items\n");
  out += "\n";
  attribution(r, out);
  trained(r, out);
  cases(r, out);
  fidelity(r, out);
  cost(r, out);
  benchmarks(r, out);
  method(r, out);
  return out;
}

}  // namespace kvlingua
