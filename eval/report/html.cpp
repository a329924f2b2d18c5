// report.html: verdicts, conditions, controls, cases and examples, fidelity, cost, method, in that
// order.
#include <algorithm>
#include <cmath>

#include "eval/report/faces.h"
#include "eval/report/html_parts.h"
#include "eval/report/html_style.h"
#include "eval/report/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using namespace report;  // NOLINT: helpers of this folder

double known(double value, double otherwise = 0) {
  return std::isfinite(value) ? value : otherwise;
}

const char* mark_of(Verdict verdict) {
  return verdict == Verdict::kPass ? "&#10003; " : verdict == Verdict::kFail ? "&#10007; " : "? ";
}

const char* gated_class(const Report& r, const std::string& name) {
  return name == r.gated ? "class=\"gated\"" : "";
}

// The left cell of a row of bars.
std::string name_cell(const Report& r, const std::string& name) {
  return cat("<div class=\"name", name == r.gated ? " gated" : "", "\">", escape(title(name)),
             "</div>");
}

void list_notes(const std::vector<std::string>& notes, std::string& out) {
  for (const auto& note : notes) out += cat("<li>", escape(note), "</li>");
}

void head(const Report& r, std::string& out) {
  std::string pair = "Evaluation";
  if (r.pair) pair = r.pair->source + " \xE2\x86\x92 " + r.pair->target;
  out +=
      cat("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
          "name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>",
          escape(pair), " &middot; kvlingua evaluation</title><style>", kStyle,
          "</style></head><body><main>\n", "<p class=\"soft\">kvlingua evaluation</p><h1>",
          escape(pair), "</h1>\n");
  if (r.checkpoint)
    out += cat("<p class=\"soft\">checkpoint <code>", escape(*r.checkpoint), "</code></p>\n");
  if (r.quick_look())
    out += cat("<div class=\"banner\"><strong>A quick look</strong>: at most ", r.limit,
               " items of each family. Not a result.</div>\n");
}

// What was confirmed, what was explored, what is not claimed: before any number.
void standing(const Report& r, std::string& out) {
  const bool confirmed = r.confirmatory;
  // The line opens with the word that the banner says in bold.
  const size_t colon = r.verdict_line.find(": ");
  const size_t said = colon == std::string::npos ? 0 : colon + 2;
  out += cat("<div class=\"banner", confirmed ? " plain" : "", "\"><strong>",
             confirmed ? "Confirmatory look" : "Exploratory run",
             "</strong>: ", escape(r.verdict_line.substr(said)),
             confirmed ? " Items, number, gates and settings were written down before the first "
                         "answer; the seed had not been used before."
                       : " Nothing is confirmed here: items and settings may have been looked at "
                         "before. <code>kvlingua evaluate --confirm</code> takes one look at fresh "
                         "items, by several training seeds.",
             "</div>\n<p class=\"soft\">", escape(not_claimed(r)), "</p>\n");
  if (r.one_model)
    out += "<div class=\"banner plain\">Source and target are the same model.</div>\n";
}

void controls_of(const CriterionResult& criterion, std::string& out) {
  if (criterion.controls.empty()) return;
  out += "<p class=\"soft\">Controls, by the same criterion: ";
  bool first = true;
  for (const ControlShare& control : criterion.controls) {
    out += cat(first ? "" : "; ", escape(title(control.name)), " ", number(control.statistic, 2),
               " [", number(control.low, 2), ", ", number(control.high, 2), "]",
               control.below ? "" : " <strong>not below</strong>");
    first = false;
  }
  out += "</p>";
}

// Chip, number, plot and interval of one criterion.
void card_numbers(const Report& r, const CriterionResult& c, std::string& out) {
  const bool points = c.name == "stalling" || c.name == "fused_gain";
  const double scale = points ? 100 : 1, low = scale * known(c.low),
               high = scale * known(c.high, 1), threshold = scale * known(c.threshold);
  const double from = points ? std::min(-10.0, std::floor(low)) : 0,
               to = points ? std::max(15.0, std::ceil(high)) : std::max(1.2, std::min(2.0, high));
  out += cat(
      "<section class=\"card\"><h3>", escape(title(c.name)), "</h3><p class=\"soft\">",
      escape(meaning(c.name)), "</p><span class=\"chip ", to_string(c.verdict), "\">",
      mark_of(c.verdict), verdict_word(r, c.verdict), "</span> <span class=\"value\">",
      points ? number(scale * known(c.statistic), 1) + " points" : percent(c.statistic) + " %",
      "</span>",
      gate_svg(low, scale * known(c.statistic), high, threshold, from, to, points ? " pt" : ""),
      "<p class=\"soft\">",
      c.name == "stalling"     ? "stalled, above full text"
      : c.name == "fused_gain" ? "exact answers, above full text"
                               : "of the gap from baseline to full text",
      "; ", level(r), " interval ",
      points ? number(low, 1) + " to " + number(high, 1) : number(c.low) + " to " + number(c.high),
      "; n = ", c.n, " in ", c.groups, " groups</p>");
}

void card(const Report& r, const CriterionResult& c, std::string& out) {
  if (c.verdict == Verdict::kNotApplicable) {
    out += cat("<section class=\"card\"><h3>", escape(title(c.name)),
               "</h3><span class=\"chip inconclusive\">not applicable</span><ul class=\"soft\">");
    list_notes(c.notes, out);
    out += "</ul></section>\n";
    return;
  }
  card_numbers(r, c, out);
  controls_of(c, out);
  if (c.by_seed.size() > 1) {
    out += "<p class=\"soft\">By training seed:";
    for (const double one : c.by_seed) out += " " + number(one);
    out += "</p>";
  }
  if (!c.notes.empty()) {
    out += "<ul class=\"soft\">";
    list_notes(c.notes, out);
    out += "</ul>";
  }
  out += "</section>\n";
}

void verdicts(const Report& r, std::string& out) {
  if (!r.judged) {
    out += cat("<div class=\"banner\">No verdict: the gated condition <code>", escape(r.gated),
               "</code> was not evaluated.</div>\n");
  } else {
    standing(r, out);
    out += cat("<p>Judged: <code>", escape(r.gated), "</code>. The gate is <strong>",
               r.gate_met ? "met" : "not met", "</strong>.</p>\n<div class=\"cards\">\n");
    for (const CriterionResult& c : r.criteria) card(r, c, out);
    out += "</div>\n";
  }
  for (const Finding& finding : r.findings)
    out += cat("<div class=\"banner", finding.withholds ? " bad" : "", "\"><code>",
               escape(finding.name), "</code> ", escape(finding.text), "</div>\n");
}

void comparison(const Report& r, std::string& out) {
  if (!r.comparison) return;
  out += cat("<h2>", escape(r.comparison->a), " against ", escape(r.comparison->b),
             "</h2><div class=\"scroll\"><table>",
             row({"family", "n", "A &minus; B, points", level(r), "p (Holm)"}, "th"));
  for (const auto& [family, d] : r.comparison->families)
    out += row({escape(title(family)), cat(d.n), percent(d.difference),
                percent(d.low) + " to " + percent(d.high), number(d.p_holm, 4)});
  out += "</table></div>\n";
}

void success_plot(const Report& r, const std::string& family, std::string& out) {
  const FamilyNumbers* full = r.cell("full_text", family);
  const double reference = full == nullptr ? -1 : known(full->cell.success.rate, -1);
  out += cat("<p class=\"soft\">Answered exactly, % with ", level(r),
             " interval; the dashed line is full text.</p><div class=\"rows\">\n");
  for (const ConditionNumbers& condition : r.conditions) {
    const FamilyNumbers* of = condition.find(family);
    if (of == nullptr) continue;
    const Rate& s = of->cell.success;
    out += cat(name_cell(r, condition.name),
               bar_svg(known(s.rate), known(s.low), known(s.high, 1), "var(--accent)", reference),
               "<div class=\"num\">", percent(s.rate), "</div>\n");
  }
  out += "</div>\n";
}

void knowledge_plot(const Report& r, const std::string& family, std::string& out) {
  out +=
      "<h3>What is said where the context contradicts what is known</h3><div class=\"legend\">"
      "<span><i style=\"background:var(--injected)\"></i>injected</span><span><i "
      "style=\"background:var(--both)\"></i>both</span>"
      "<span><i style=\"background:var(--other)\"></i>other</span><span><i "
      "style=\"background:var(--parametric)\"></i>parametric</span></div><div class=\"rows\">\n";
  for (const ConditionNumbers& condition : r.conditions) {
    const FamilyNumbers* of = condition.find(family);
    if (of == nullptr) continue;
    const Cell& c = of->cell;
    out += cat(name_cell(r, condition.name),
               stacked_svg({{known(c.injected.rate), "var(--injected)", "injected"},
                            {known(c.both.rate), "var(--both)", "both"},
                            {known(c.other.rate), "var(--other)", "other"},
                            {known(c.parametric.rate), "var(--parametric)", "parametric"}}),
               "<div class=\"num\">", percent(c.injected.rate), "</div>\n");
  }
  out += "</div>\n";
}

void family_table(const Report& r, const std::string& family, std::string& out) {
  const bool counterfactual = family.starts_with("counterfact");
  std::vector<std::string> heads{"condition", "n",          "groups",    "exact, %",
                                 level(r),    "partial, %", "stalled, %"};
  if (counterfactual)
    heads.insert(heads.end(),
                 {"injected, %", "parametric, %", "both, %", "other, %", "memorisation"});
  heads.insert(heads.end(),
               {"NLL", "KL", "&minus; full text", "p (Holm)", "&minus; baseline", "p (Holm)"});
  out += cat("<div class=\"scroll\"><table>", row(heads, "th"));
  for (const ConditionNumbers& condition : r.conditions) {
    const FamilyNumbers* of = condition.find(family);
    if (of == nullptr) continue;
    const Cell& c = of->cell;
    std::vector<std::string> cells{escape(condition.name),
                                   cat(c.distinct),
                                   cat(c.groups),
                                   percent(c.success.rate),
                                   percent(c.success.low) + "&ndash;" + percent(c.success.high),
                                   percent(c.partial),
                                   percent(c.stalled.rate)};
    if (counterfactual)
      cells.insert(cells.end(),
                   {percent(c.injected.rate), percent(c.parametric.rate), percent(c.both.rate),
                    percent(c.other.rate), number(c.memorisation_ratio, 2)});
    cells.push_back(number(c.nll.mean, 2));
    cells.push_back(number(c.kl.mean, 3));
    for (const auto& against : {of->vs_full_text, of->vs_baseline}) {
      cells.push_back(against ? percent(against->difference) : "-");
      cells.push_back(against ? number(against->p_holm, 3) : "-");
    }
    out += row(cells, "td", gated_class(r, condition.name));
  }
  out += "</table></div>\n";
}

void ladder(const Report& r, std::string& out) {
  if (!r.ladder) return;
  out +=
      cat("<h2>The ladder</h2><p class=\"soft\">Each projector against the one before it, on the "
          "same "
          "items: points of exact answers gained, with a paired ",
          level(r),
          " interval; groups are the unit of interval and test.</p><div class=\"scroll\"><table>") +
      row({"family", "step", "n", "points", level(r), "gained", "lost", "p (Holm)", "rises"}, "th");
  for (const LadderFamily& of : r.ladder->families)
    for (const LadderStep& s : of.steps)
      out +=
          row({escape(title(of.family)), escape(title(s.lower)) + " &lt; " + escape(title(s.upper)),
               cat(s.n), percent(s.difference), percent(s.low) + " to " + percent(s.high),
               cat(s.only_upper), cat(s.only_lower), number(s.p_holm, 4),
               s.rises ? "yes" : "not shown"});
  out += "</table></div>\n";
}

void conditions(const Report& r, std::string& out) {
  for (const auto& family : r.families()) {
    out += cat("<h2>", escape(title(family)), "</h2>\n");
    success_plot(r, family, out);
    if (family.starts_with("counterfact")) knowledge_plot(r, family, out);
    family_table(r, family, out);
  }
  ladder(r, out);
  if (r.controls.empty()) return;
  out += "<h2>Controls</h2><div class=\"scroll\"><table>" +
         row({"control", "must equal", "equal, token for token", "of"}, "th");
  for (const ControlCheck& check : r.controls)
    out += row({escape(check.control), escape(check.reference), cat(check.equal), cat(check.n)});
  out += "</table></div>\n";
}

// Cases are all open; of the other examples the first, or the page would have no end.
void example(const Report& r, const Example& one, bool open, std::string& out) {
  out += cat("<details class=\"ex\"", open ? " open" : "", "><summary>",
             escape(one.family == "cases" ? one.id : title(one.family) + ", " + one.form),
             "</summary><dl><dt>source reads</dt><dd>",
             highlighted(one.context, one.markers, one.parametric), "</dd><dt>",
             one.form == "completion" ? "target goes on from" : "target is asked", "</dt><dd>",
             escape(one.prompt), "</dd>");
  for (const ShownAnswer& answer : one.answers)
    out += cat("<dt", answer.condition == r.gated ? " class=\"gated\"" : "", ">",
               escape(title(answer.condition)), "</dt><dd>",
               answer.text.empty() ? "<span class=\"soft\">(nothing)</span>"
                                   : highlighted(answer.text, one.markers, one.parametric),
               answer.stall == "none"
                   ? ""
                   : cat(" <span class=\"soft\">(", escape(title(answer.stall)), ")</span>"),
               "</dd>");
  out += "</dl></details>\n";
}

void examples(const Report& r, std::string& out) {
  out += "<h2>Phase 2a&rsquo;s five cases</h2>\n";
  if (r.cases.empty()) out += "<p class=\"soft\">Not asked for.</p>\n";
  for (const Example& one : r.examples)
    if (one.family == "cases") example(r, one, true, out);
  bool first = true;
  for (const Example& one : r.examples) {
    if (one.family == "cases") continue;
    if (first)
      out +=
          "<h2>Examples</h2>\n<p class=\"soft\">The first items of each family under every "
          "condition; what is looked for is marked, what is known by heart underlined.</p>\n";
    example(r, one, first, out);
    first = false;
  }
}

// One row of a heat map: a number of every layer, from 0 to `top` (0: to the largest).
template <class Value>
void heat_row(const std::vector<LayerFidelity>& layers, const Value& value,
              const std::string& label, double top, std::string& out) {
  std::vector<double> shares, values;
  double low = HUGE_VAL, high = -HUGE_VAL, largest = 1e-9;
  for (const LayerFidelity& layer : layers) {
    values.push_back(known(value(layer)));
    low = std::min(low, values.back());
    high = std::max(high, values.back());
    largest = std::max(largest, values.back());
  }
  for (const double one : values) shares.push_back(one / (top > 0 ? top : largest));
  out += cat("<div>", label, "</div>", heat_svg(shares, values, label), "<div class=\"num\">",
             number(low, 2), " to ", number(high, 2), "</div>\n");
}

void heat_of_heads(const std::vector<LayerFidelity>& layers, std::string& out) {
  out += "<details><summary>By head</summary><div class=\"heat\">\n";
  const size_t heads = layers.empty() ? 0 : layers[0].heads.size();
  for (const auto& [name, of] :
       {std::pair{"key", &HeadFidelity::key_r2}, {"value", &HeadFidelity::value_r2}})
    for (size_t h = 0; h < heads; ++h)
      heat_row(
          layers, [&, of = of](const LayerFidelity& layer) { return layer.heads[h].*of; },
          cat(name, " R&sup2;, head ", h), 1, out);
  out += "</div></details>\n";
}

void fidelity(const Report& r, std::string& out) {
  if (!r.fidelity) return;
  out += cat(
      "<h2>Fidelity by layer</h2><p class=\"soft\">Layer 0 stands left; the stronger the "
      "colour the higher, from "
      "0 to 1 (ranks and drift: to their largest). ",
      r.fidelity->items, " items. Shown, never judged: R&sup2; does not predict behaviour.</p>\n");
  const auto of = [](auto member) {
    return [member](const LayerFidelity& layer) { return layer.*member; };
  };
  for (const ConditionFidelity& one : r.fidelity->conditions) {
    const auto& layers = one.layers;
    out += cat("<h3>", escape(title(one.name)), "</h3><div class=\"heat\">\n");
    heat_row(layers, of(&LayerFidelity::key_r2), "key R&sup2;", 1, out);
    heat_row(layers, of(&LayerFidelity::value_r2), "value R&sup2;", 1, out);
    heat_row(layers, of(&LayerFidelity::key_cosine), "key cosine", 1, out);
    heat_row(layers, of(&LayerFidelity::value_cosine), "value cosine", 1, out);
    heat_row(layers, of(&LayerFidelity::attention_output_cosine), "attention cosine", 1, out);
    heat_row(layers, of(&LayerFidelity::hidden_drift), "hidden drift", 0, out);
    heat_row(layers, of(&LayerFidelity::key_effective_rank), "rank of keys", 0, out);
    heat_row(layers, of(&LayerFidelity::value_effective_rank), "rank of values", 0, out);
    out += "</div>\n";
    if (one.name == r.fidelity->condition) heat_of_heads(layers, out);
  }
}

void retention(const Report& r, std::string& out) {
  if (r.retention.conditions.empty()) return;
  out +=
      "<h2>Retention</h2><p class=\"soft\">How the target, given each condition, rates the gold "
      "answers: mean NLL per token, and KL from the target that read the text (nats, lower is "
      "better).</p><div class=\"rows\">\n";
  double top = 1e-9;
  for (const Retained& one : r.retention.conditions) top = std::max(top, known(one.nll));
  for (const Retained& one : r.retention.conditions) {
    const double share = known(one.nll) / top;
    out += cat(name_cell(r, one.condition), bar_svg(share, share, share, "var(--accent)"),
               "<div class=\"num\">NLL ", number(one.nll, 2), " &middot; KL ", number(one.kl, 2),
               "</div>\n");
  }
  out += "</div>\n";
}

void quantisation(const Report& r, std::string& out) {
  if (!r.quantisation) return;
  const QuantisationCost& q = *r.quantisation;
  out += cat(
      "<h2>What quantising the target costs</h2><p class=\"soft\">The target reading the text "
      "in ",
      escape(q.weights), " against the same with its weights dense; ", q.n,
      " items, NLL in nats a token of the gold answers.</p><div class=\"scroll\"><table>",
      row({"equal answers, %", "exact answers, points", "NLL " + q.weights, "NLL dense",
           "difference"},
          "th"),
      row({interval(q.equal_rate),
           cat(percent(q.exact.mean), " [", percent(q.exact.low), ", ", percent(q.exact.high), "]"),
           number(q.nll_quantised, 4), number(q.nll_dense, 4),
           cat(number(q.nll_difference.mean, 4), " [", number(q.nll_difference.low, 4), ", ",
               number(q.nll_difference.high, 4), "]")}),
      "</table></div>\n");
}

void cost(const Report& r, std::string& out) {
  if (!r.latency) return;
  out +=
      "<h2>Cost</h2><p class=\"soft\">To the first token of the answer: translating the "
      "source&rsquo;s cache and reading the question, against reading the whole text "
      "again.</p><div class=\"scroll\"><table>" +
      row({"context tokens", "re-read, ms", "translate, ms", "question, ms", "times faster",
           "cache moved", "re-read", "translate"},
          "th");
  std::vector<CostRow> rows{r.latency->median};
  rows.insert(rows.end(), r.latency->lengths.begin(), r.latency->lengths.end());
  for (const CostRow& one : rows)
    out += row({cat(one.tokens), number(one.prefill_ms, 1), number(one.translate_ms, 1),
                number(one.question_ms, 1), number(one.ttft_ratio, 2),
                report::bytes(static_cast<double>(one.bytes)), flops(known(one.prefill_flops)),
                flops(known(one.translate_flops))});
  const MessageCost& message = r.latency->message;
  out += cat("</table></div>\n<p class=\"soft\">As a text message of ", message.tokens, " tokens (",
             message.bytes, " bytes): ", number(message.ms, 1), " ms.</p>\n");
}

void benchmarks(const Report& r, std::string& out) {
  if (r.benchmarks.empty()) return;
  out += "<h2>Benchmarks</h2>\n";
  for (const BenchmarkNumbers& b : r.benchmarks) {
    out += cat("<h3>", escape(b.name), "</h3><p class=\"soft\">gold ", escape(b.gold), ", by ",
               escape(b.method), "; ", b.n, " scored, ", b.skipped,
               " skipped; dashed: chance.</p><div class=\"rows\">\n");
    for (const auto& [name, accuracy, answered] : b.conditions)
      out += cat("<div class=\"name\">", escape(title(name)), "</div>",
                 bar_svg(known(accuracy.rate), known(accuracy.low), known(accuracy.high, 1),
                         "var(--accent)", known(b.chance, -1)),
                 "<div class=\"num\">", percent(accuracy.rate), "</div>\n");
    out += "</div>\n";
  }
}

// What this many items could have shown at all.
void power(const Report& r, std::string& out) {
  if (r.power.empty()) return;
  out += "<h3>What this many items can show</h3><div class=\"scroll\"><table>" +
         row({"criterion", "items", "gate", "chance to pass: truth a margin above", "truth 1",
              "items that would do"},
             "th");
  for (const auto& [criterion, one] : r.power)
    out += row({escape(title(criterion)), cat(one.n), number(one.gate, 2),
                cat(number(one.at_margin, 2), " (+", number(one.margin, 2), ")"),
                number(one.at_one, 2), one.needed_n ? cat(*one.needed_n) : "more than 20000"});
  out += "</table></div>\n";
}

void attribution(const Report& r, std::string& out) {
  if (r.attribution.families.empty()) return;
  out +=
      "<h2>What comes from the content</h2><p class=\"soft\">Share of the gap from baseline to "
      "full "
      "text, and from the best wrong-content control to full text (content gain). A likelihood is "
      "no "
      "transfer metric: a cache that only sounds right recovers much of it and answers "
      "nothing.</p><div class=\"scroll\"><table>" +
      row({"family", "condition", "exact: share of gap", "exact: content gain",
           "likelihood: share of gap", "likelihood: content gain"},
          "th");
  for (const AttributedFamily& of : r.attribution.families)
    for (size_t i = 0; i < of.exact.conditions.size(); ++i) {
      const AttributedCondition &exact = of.exact.conditions[i], &nll = of.nll.conditions[i];
      out += row({escape(title(of.family)), escape(title(exact.name)), share(exact.share),
                  share(exact.gain), share(nll.share), share(nll.gain)},
                 "td", gated_class(r, exact.name));
    }
  out += "</table></div>\n";
}

void trained(const Report& r, std::string& out) {
  if (r.trained.empty()) return;
  out +=
      "<h2>What trained these projectors</h2><p class=\"soft\">As their checkpoints say. Held out "
      "is "
      "the value (names, places, keys), never the template: families that were distilled are asked "
      "in "
      "the templates they were distilled in.</p><div class=\"scroll\"><table>" +
      row({"condition", "stage", "losses", "distilled families", "seed", "rows", "recipe"}, "th");
  for (const TrainedBy& one : r.trained) {
    const auto& settings = one.settings;
    const std::string families = settings ? joined(settings->families) : "";
    out += row({escape(one.condition), escape(one.stage),
                settings ? escape(settings->losses) : "not known",
                families.empty() ? "none" : escape(families), settings ? cat(settings->seed) : "-",
                one.rows_seen ? cat(*one.rows_seen) : "-", one.recipe_sha256.substr(0, 12)});
  }
  out += "</table></div>\n";
}

void looks(const Report& r, std::string& out) {
  if (!r.looks) return;
  out += cat("<h2>Looks</h2><p class=\"soft\">Look ", r.looks->look, " of ",
             r.looks->at_this_checkpoint.size(),
             " at this checkpoint. A gate that was tried often is met by luck sooner or later."
             "</p><div class=\"scroll\"><table>",
             row({"when", "mode", "seed", "items", "gates met", "settings"}, "th"));
  for (const Look& one : r.looks->at_this_checkpoint)
    out += row({escape(one.time), escape(one.mode), nlohmann::json(one.seeds).dump(),
                cat(one.items), one.met ? "yes" : "no", escape(one.frozen.substr(0, 12))});
  out += "</table></div>\n";
}

void method(const Report& r, std::string& out) {
  out += "<h2>Method</h2>\n";
  for (const CriterionResult& c : r.criteria)
    out += cat("<p><strong>", escape(title(c.name)), ".</strong> ", escape(c.definition), "</p>\n");
  out +=
      "<details open><summary>Conditions</summary><div class=\"scroll\"><table>"
      "<tr><th>condition</th><th class=\"text\">what the target is given</th></tr>\n";
  for (const ConditionNumbers& c : r.conditions)
    out += cat("<tr><td>", escape(c.name), "</td><td class=\"text\">", escape(c.definition),
               "</td></tr>\n");
  out +=
      "</table></div></details>\n<p>The unit is the group: items about one person, fact or object. "
      "Rates: Wilson intervals over distinct observations (the same input, answer and markers "
      "count "
      "once) on counts divided by the design effect. Differences: paired, Tango&rsquo;s score "
      "interval "
      "on such counts, tested by flipping the signs of whole groups, Holm&rsquo;s correction "
      "across the "
      "conditions of a family. Verdicts: the wider of that interval and the BCa bootstrap over "
      "whole "
      "groups, always. Facts and objects are taken as a sample of their kind. Greedy "
      "decoding.</p>\n";
  power(r, out);
  out += "<p class=\"soft\">Seeds";
  for (const int64_t seed : r.seeds) out += cat(" ", seed);
  for (const auto& [name, version] : r.versions)
    out += cat(" &middot; ", escape(name), " ", escape(version));
  if (!r.recipe_sha256.empty())
    out += cat(" &middot; recipe sha256 <code>", escape(r.recipe_sha256), "</code>");
  out += "</p>\n";
}

}  // namespace

std::string report_html(const Report& r) {
  std::string out;
  head(r, out);
  verdicts(r, out);
  comparison(r, out);
  conditions(r, out);
  attribution(r, out);
  trained(r, out);
  looks(r, out);
  examples(r, out);
  retention(r, out);
  fidelity(r, out);
  cost(r, out);
  quantisation(r, out);
  benchmarks(r, out);
  method(r, out);
  return out + "</main></body></html>\n";
}

}  // namespace kvlingua
