// report.md: the same as report.html for a terminal or a pull request.
#include <algorithm>

#include "eval/report/faces.h"
#include "eval/report/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using namespace report;  // NOLINT: helpers of this folder

// Names and answers come from files of strangers: in Markdown they are text, neither tags nor links
// nor control characters.
std::string md(std::string_view text) {
  std::string out;
  for (const char c : printable_lines(valid_text(text))) {
    if (c == '<' || c == '>' || c == '&') {
      out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : "&amp;";
    } else if (c == '[' || c == ']') {
      out += {'\\', c};
    } else {
      out += c;
    }
  }
  return out;
}

// A list or table as JSON writes it.
template <class T>
std::string dumped(const T& values) {
  return nlohmann::ordered_json(values).dump();
}

std::string one_line(std::string text) {
  for (char& c : text)
    if (c == '\n' || c == '\r' || c == '|') c = c == '|' ? '/' : ' ';
  return text;
}

void verdicts(const Report& r, std::string& out) {
  if (!r.judged) {
    out += cat("No verdict: the gated condition `", md(r.gated), "` was not evaluated.\n\n");
    return;
  }
  out += cat(md(r.verdict_line), "\n\n");
  if (!r.confirmatory)
    out +=
        "Exploratory: nothing is confirmed. `kvlingua evaluate --confirm` takes one look at fresh "
        "items, by several training seeds.\n\n";
  out += cat(not_claimed(r), "\n\n");
  for (const CriterionResult& c : r.criteria)
    if (c.verdict != Verdict::kNotApplicable)
      out += cat("- ", title(c.name), ": ", meaning(c.name), "\n");
  out += cat("\n| criterion | verdict | statistic | ", level(r),
             " interval | gate | n (groups) |\n| --- | --- | --- | --- | --- | --- |\n");
  for (const CriterionResult& c : r.criteria)
    out += cat("| ", title(c.name), " | **", verdict_word(r, c.verdict), "** | ",
               number(c.statistic), " | [", number(c.low), ", ", number(c.high), "] | ",
               number(c.threshold, 2), " | ", c.n, " (", c.groups, ") |\n");
  out += "\n";
  for (const CriterionResult& c : r.criteria)
    for (const ControlShare& one : c.controls)
      out += cat("- control ", md(title(one.name)), " on ", title(c.name), ": ",
                 share(one.statistic, one.low, one.high),
                 one.below ? "\n" : ", **not below the gate**\n");
  for (const CriterionResult& c : r.criteria)
    for (const auto& note : c.notes) out += cat("- ", title(c.name), ": ", md(note), "\n");
  out += "\n";
}

void conditions(const Report& r, std::string& out) {
  for (const auto& family : r.families()) {
    const bool counterfactual = family.starts_with("counterfact");
    out += cat("### ", md(title(family)), "\n\n| condition | n | exact, % [", level(r),
               "] | partial | stalled, % |",
               counterfactual ? " injected, % | parametric, % | both | other | memorisation |" : "",
               " NLL | KL | vs full text | p (Holm) |\n");
    out +=
        cat("| --- | --- | --- | --- | --- |",
            counterfactual ? " --- | --- | --- | --- | --- |" : "", " --- | --- | --- | --- |\n");
    for (const ConditionNumbers& condition : r.conditions) {
      const FamilyNumbers* of = condition.find(family);
      if (of == nullptr) continue;
      const Cell& c = of->cell;
      const auto& difference = of->vs_full_text;
      out += cat("| ", md(condition.name), " | ", c.distinct, " | ", interval(c.success), " | ",
                 percent(c.partial), " | ", percent(c.stalled.rate), " | ");
      if (counterfactual)
        out += cat(interval(c.injected), " | ", interval(c.parametric), " | ", percent(c.both.rate),
                   " | ", percent(c.other.rate), " | ", number(c.memorisation_ratio, 2), " | ");
      out += cat(number(c.nll.mean), " | ", number(c.kl.mean), " | ",
                 difference ? percent(difference->difference) : "-", " | ",
                 difference ? number(difference->p_holm) : "-", " |\n");
    }
    out += "\n";
  }
}

void ladder(const Report& r, std::string& out) {
  if (!r.ladder) return;
  out += "## The ladder\n\nEach projector against the one before it, on the same items.\n\n";
  for (const LadderFamily& of : r.ladder->families) {
    out += cat("### ", md(title(of.family)), "\n\n| step | n | points [", level(r),
               "] | gained / lost items | p (Holm) | rises |\n"
               "| --- | --- | --- | --- | --- | --- |\n");
    for (const LadderStep& s : of.steps)
      out += cat("| ", title(s.lower), " < ", title(s.upper), " | ", s.n, " | ",
                 percent(s.difference), " [", percent(s.low), ", ", percent(s.high), "] | ",
                 s.only_upper, " / ", s.only_lower, " | ", number(s.p_holm, 4), " | ",
                 s.rises ? "yes" : "not shown", " |\n");
    out += "\n";
  }
}

void cases(const Report& r, std::string& out) {
  if (r.cases.empty()) return;
  out += "## Phase 2a's five cases\n\n";
  for (const Case& one : r.cases) {
    out += cat("### ", md(one.id),
               "\n\n| condition | markers found | answer |\n| --- | --- | --- |\n");
    for (const ShownAnswer& answer : one.answers) {
      const std::string markers = md(joined(answer.markers));
      out += cat("| ", md(answer.condition), " | ", markers.empty() ? "-" : markers, " | ",
                 one_line(md(answer.text)), " |\n");
    }
    out += "\n";
  }
}

void fidelity(const Report& r, std::string& out) {
  if (!r.fidelity) return;
  out += cat("## Fidelity by layer (", md(r.fidelity->condition),
             ")\n\nNone of this gates: R2 does not predict behaviour.\n\n| layer | key R2 | value "
             "R2 | key cos | value cos | attention cos | hidden drift | rank K | rank V |\n"
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const ConditionFidelity& one : r.fidelity->conditions) {
    if (one.name != r.fidelity->condition) continue;
    for (const LayerFidelity& layer : one.layers)
      out += cat("| ", layer.layer, " | ", number(layer.key_r2), " | ", number(layer.value_r2),
                 " | ", number(layer.key_cosine), " | ", number(layer.value_cosine), " | ",
                 number(layer.attention_output_cosine), " | ", number(layer.hidden_drift), " | ",
                 number(layer.key_effective_rank, 1), " | ", number(layer.value_effective_rank, 1),
                 " |\n");
  }
  out += "\n";
}

void cost(const Report& r, std::string& out) {
  if (!r.latency) return;
  out +=
      "## Cost\n\n| context tokens | re-read, ms | translate + question, ms | ratio | cache moved "
      "| re-read | translate |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  std::vector<CostRow> rows{r.latency->median};
  rows.insert(rows.end(), r.latency->lengths.begin(), r.latency->lengths.end());
  for (const CostRow& row : rows)
    out += cat("| ", row.tokens, " | ", number(row.prefill_ms, 1), " | ",
               number(row.translate_ms + row.question_ms, 1), " | ", number(row.ttft_ratio, 2),
               " | ", bytes(static_cast<double>(row.bytes)), " | ", flops(row.prefill_flops), " | ",
               flops(row.translate_flops), " |\n");
  const MessageCost& message = r.latency->message;
  out += cat("\nAs a text message of ", message.tokens, " tokens (", message.bytes,
             " bytes): ", number(message.ms, 1), " ms.\n\n");
}

void quantisation(const Report& r, std::string& out) {
  if (!r.quantisation) return;
  const QuantisationCost& q = *r.quantisation;
  out += cat("## What quantising the target costs\n\nThe target reading the text in ",
             md(q.weights), " against the same with its weights dense.\n\n| n | equal answers, % [",
             level(r), "] | exact answers, points | NLL ", md(q.weights),
             " | NLL dense | difference |\n"
             "| --- | --- | --- | --- | --- | --- |\n| ",
             q.n, " | ", interval(q.equal_rate), " | ", percent(q.exact.mean), " [",
             percent(q.exact.low), ", ", percent(q.exact.high), "] | ", number(q.nll_quantised, 4),
             " | ", number(q.nll_dense, 4), " | ", number(q.nll_difference.mean, 4), " [",
             number(q.nll_difference.low, 4), ", ", number(q.nll_difference.high, 4), "] |\n\n");
}

void benchmarks(const Report& r, std::string& out) {
  if (r.benchmarks.empty()) return;
  out +=
      "## Benchmarks\n\n| benchmark | gold | method | condition | n | skipped | accuracy, % |\n| "
      "--- | --- | --- | --- | --- | --- | --- |\n";
  for (const BenchmarkNumbers& b : r.benchmarks)
    for (const BenchmarkCondition& c : b.conditions)
      out += cat("| ", md(b.name), " | ", md(b.gold), " | ", md(b.method), " | ", md(c.name), " | ",
                 b.n, " | ", b.skipped, " | ", interval(c.accuracy), " |\n");
  out += "\n";
}

void comparison(const Report& r, std::string& out) {
  if (!r.comparison) return;
  const Comparison& c = *r.comparison;
  out += cat("## Comparison: ", md(c.a), " against ", md(c.b), "\n\n| family | n | A - B, points [",
             level(r), "] | p (Holm) |\n| --- | --- | --- | --- |\n");
  for (const auto& [family, d] : c.families)
    out += cat("| ", md(title(family)), " | ", d.n, " | ", percent(d.difference), " [",
               percent(d.low), ", ", percent(d.high), "] | ", number(d.p_holm, 4), " |\n");
  out += "\n";
}

void attribution(const Report& r, std::string& out) {
  if (r.attribution.families.empty()) return;
  out +=
      "## What comes from the content\n\nA likelihood is no transfer metric.\n\n| family | "
      "condition "
      "| exact: share of gap | content gain | likelihood: share of gap | content gain |\n| --- | "
      "--- | "
      "--- | --- | --- | --- |\n";
  for (const AttributedFamily& of : r.attribution.families)
    for (size_t i = 0; i < of.exact.conditions.size(); ++i) {
      const AttributedCondition &exact = of.exact.conditions[i], &nll = of.nll.conditions[i];
      out += cat("| ", md(title(of.family)), " | ", md(exact.name), " | ", share(exact.share),
                 " | ", share(exact.gain), " | ", share(nll.share), " | ", share(nll.gain), " |\n");
    }
  out += "\n";
}

void trained(const Report& r, std::string& out) {
  if (r.trained.empty()) return;
  out += "## What trained these projectors\n\n";
  for (const TrainedBy& one : r.trained) {
    std::vector<std::string> families;
    if (one.settings)
      for (const auto& family : one.settings->families) families.push_back(md(family));
    out += cat("- `", md(one.condition), "`: ", md(one.stage), ", ",
               one.settings ? md(one.settings->losses) : "losses not known", "; distilled on ",
               dumped(families), "; recipe ", one.recipe_sha256.substr(0, 16), "\n");
  }
  if (r.looks)
    out += cat("\nLook ", r.looks->look, " of ", r.looks->at_this_checkpoint.size(),
               " at this checkpoint.\n");
  out += "\n";
}

void method(const Report& r, std::string& out) {
  out += "## Method\n\n";
  for (const CriterionResult& c : r.criteria)
    out += cat("- **", title(c.name), "** ", md(c.definition), "\n");
  out += "\n";
  for (const ConditionNumbers& c : r.conditions)
    out += cat("- `", md(c.name), "` ", md(c.definition), "\n");
  out += cat(
      "\nThe unit is the group (one person, fact, object). Rates: Wilson intervals over distinct "
      "observations on counts divided by the design effect. Differences: paired, Tango's score "
      "interval on such counts, sign flips of whole groups, Holm across the conditions of a "
      "family; verdicts and ladder: the wider of that and the BCa bootstrap over whole groups. "
      "Seeds: ",
      dumped(r.seeds), ".\n");
  if (!r.versions.empty()) {
    nlohmann::ordered_json versions;
    for (const auto& [name, version] : r.versions) versions[name] = md(version);
    out += cat("Versions: ", versions.dump(), ".\n");
  }
  if (!r.recipe_sha256.empty()) out += cat("Recipe sha256: ", r.recipe_sha256, ".\n");
}

}  // namespace

std::string report_markdown(const Report& r) {
  std::string out = "# Evaluation";
  if (r.pair) out += cat(": ", md(r.pair->source), " into ", md(r.pair->target));
  out += "\n\n";
  if (r.quick_look())
    out += cat("**A quick look: at most ", r.limit, " items of each family. Not a result.**\n\n");
  verdicts(r, out);
  for (const Finding& finding : r.findings)
    out += cat("- ", finding.withholds ? "**verdict withheld** " : "", "`", md(finding.name), "` ",
               md(finding.text), "\n");
  comparison(r, out);
  out += "\n## Conditions\n\n";
  conditions(r, out);
  ladder(r, out);
  for (const ControlCheck& check : r.controls)
    out += cat("- `", check.control, "` equals `", check.reference, "` token for token on ",
               check.equal, " of ", check.n, " items\n");
  out += "\n";
  attribution(r, out);
  trained(r, out);
  cases(r, out);
  fidelity(r, out);
  cost(r, out);
  quantisation(r, out);
  benchmarks(r, out);
  method(r, out);
  return out;
}

}  // namespace kvlingua
