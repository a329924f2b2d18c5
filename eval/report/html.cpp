// report.html from report.json: verdicts, conditions, controls, cases and examples, fidelity, cost,
// method, in that order.
#include <algorithm>
#include <cmath>

#include "eval/report/html_parts.h"
#include "eval/report/html_style.h"
#include "eval/report/report.h"
#include "eval/report/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using namespace report;  // NOLINT: helpers of this folder

std::string text_of(const Json& json) { return json.get<std::string>(); }
double value_of(const Json& json, double otherwise = 0) {
  return json.is_number() ? json.get<double>() : otherwise;
}

std::vector<std::string> words(const Json& list) {
  std::vector<std::string> result;
  for (const auto& word : list) result.push_back(text_of(word));
  return result;
}

const char* mark_of(const std::string& verdict) {
  return verdict == "pass" ? "&#10003; " : verdict == "fail" ? "&#10007; " : "? ";
}

void head(const Json& r, std::string& out) {
  std::string pair = "Evaluation";
  if (r.contains("pair"))
    pair = text_of(r["pair"]["source"]) + " \xE2\x86\x92 " + text_of(r["pair"]["target"]);
  out +=
      cat("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
          "name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
          "<meta name=\"color-scheme\" content=\"light dark\"><title>",
          escape(pair), " &middot; kvlingua evaluation</title><style>", kStyle,
          "</style></head><body><main>\n", "<p class=\"soft\">kvlingua evaluation</p><h1>",
          escape(pair), "</h1>\n");
  if (r.contains("checkpoint") && r["checkpoint"].is_string())
    out += cat("<p class=\"soft\">checkpoint <code>", escape(text_of(r["checkpoint"])),
               "</code></p>\n");
  if (r["quick_look"].get<bool>())
    out += cat("<div class=\"banner\"><strong>A quick look</strong>: at most ",
               r["limit"].get<int64_t>(), " items of each family. Not a result.</div>\n");
}

// What was confirmed, what was explored, what is not claimed: before any number.
void standing(const Json& r, std::string& out) {
  const bool confirmed = r["mode"] == "confirmatory";
  out += cat("<div class=\"banner", confirmed ? " plain" : "", "\"><strong>",
             confirmed ? "Confirmatory look" : "Exploratory run", "</strong>. ",
             escape(text_of(r["verdict_line"])),
             confirmed ? " Items, number, gates and settings were written down before the first "
                         "answer; the seed had not been used before."
                       : " Nothing is confirmed here: items and settings may have been looked at "
                         "before. <code>kvlingua evaluate --confirm</code> takes one look at fresh "
                         "items, by several training seeds.",
             "</div>\n");
  if (r.value("one_model", false))
    out += "<div class=\"banner plain\">Source and target are the same model.</div>\n";
}

void controls_of(const Json& criterion, std::string& out) {
  if (criterion["controls"].empty()) return;
  out += "<p class=\"soft\">Controls, by the same criterion: ";
  bool first = true;
  for (const auto& [name, control] : criterion["controls"].items()) {
    out += cat(first ? "" : "; ", escape(title(name)), " ", number(control["statistic"], 2), " [",
               number(control["low"], 2), ", ", number(control["high"], 2), "]",
               control["below"].get<bool>() ? "" : " <strong>not below</strong>");
    first = false;
  }
  out += "</p>";
}

void card(const Json& r, const std::string& name, const Json& c, std::string& out) {
  const std::string verdict = text_of(c["verdict"]);
  if (verdict == "not_applicable") {
    out += cat("<section class=\"card\"><h3>", escape(title(name)),
               "</h3><span class=\"chip inconclusive\">not applicable</span><ul class=\"soft\">");
    for (const auto& note : c["notes"]) out += cat("<li>", escape(text_of(note)), "</li>");
    out += "</ul></section>\n";
    return;
  }
  const bool points = name == "stalling" || name == "fused_gain";
  const double scale = points ? 100 : 1, low = scale * value_of(c["low"]),
               high = scale * value_of(c["high"], 1), threshold = scale * value_of(c["threshold"]);
  const double from = points ? std::min(-10.0, std::floor(low)) : 0,
               to = points ? std::max(15.0, std::ceil(high)) : std::max(1.2, std::min(2.0, high));
  out += cat("<section class=\"card\"><h3>", escape(title(name)), "</h3><span class=\"chip ",
             verdict, "\">", mark_of(verdict), verdict_word(r, c), "</span> <span class=\"value\">",
             points ? number(Json(scale * value_of(c["statistic"])), 1) + " points"
                    : percent(c["statistic"]) + " %",
             "</span>",
             gate_svg(low, scale * value_of(c["statistic"]), high, threshold, from, to,
                      points ? " pt" : ""),
             "<p class=\"soft\">",
             name == "stalling"     ? "stalled, above full text"
             : name == "fused_gain" ? "exact answers, above full text"
                                    : "of the gap from baseline to full text",
             "; ", level(r), " interval ",
             points ? number(Json(low), 1) + " to " + number(Json(high), 1)
                    : number(c["low"]) + " to " + number(c["high"]),
             "; n = ", c["n"].get<int64_t>(), " in ", c["groups"].get<int64_t>(), " groups</p>");
  controls_of(c, out);
  if (c["by_seed"].size() > 1) {
    out += "<p class=\"soft\">By training seed:";
    for (const auto& one : c["by_seed"]) out += " " + number(one);
    out += "</p>";
  }
  if (!c["notes"].empty()) {
    out += "<ul class=\"soft\">";
    for (const auto& note : c["notes"]) out += cat("<li>", escape(text_of(note)), "</li>");
    out += "</ul>";
  }
  out += "</section>\n";
}

void verdicts(const Json& r, std::string& out) {
  if (!r["judged"].get<bool>()) {
    out += cat("<div class=\"banner\">No verdict: the gated condition <code>",
               escape(text_of(r["gated"])), "</code> was not evaluated.</div>\n");
  } else {
    standing(r, out);
    out += cat("<p>Judged: <code>", escape(text_of(r["gated"])), "</code>. The gate is <strong>",
               r["gate_met"].get<bool>() ? "met" : "not met",
               "</strong>.</p>\n<div class=\"cards\">\n");
    for (const auto& [name, c] : r["criteria"].items()) card(r, name, c, out);
    out += "</div>\n";
  }
  for (const auto& finding : r["findings"])
    out += cat("<div class=\"banner", finding["withholds"].get<bool>() ? " bad" : "", "\"><code>",
               escape(text_of(finding["name"])), "</code> ", escape(text_of(finding["text"])),
               "</div>\n");
}

void comparison(const Json& r, std::string& out) {
  if (!r.contains("comparison") || r["comparison"].is_null()) return;
  const Json& c = r["comparison"];
  out += cat("<h2>", escape(text_of(c["a"])), " against ", escape(text_of(c["b"])),
             "</h2><div class=\"scroll\"><table>",
             row({"family", "n", "A &minus; B, points", level(r), "p (Holm)"}, "th"));
  for (const auto& [family, d] : c["families"].items())
    out += row({escape(title(family)), cat(d["n"].get<int64_t>()), percent(d["difference"]),
                percent(d["low"]) + " to " + percent(d["high"]), number(d["p_holm"], 4)});
  out += "</table></div>\n";
}

void family_plot(const Json& r, const std::string& family, std::string& out) {
  const Json* full = cell(r, "full_text", family);
  const double reference = full == nullptr ? -1 : value_of((*full)["success"]["rate"], -1);
  out += cat("<p class=\"soft\">Answered exactly, % with ", level(r),
             " interval; the dashed line is full text.</p><div class=\"rows\">\n");
  for (const auto& [name, unused] : r["conditions"].items()) {
    const Json* c = cell(r, name, family);
    if (c == nullptr) continue;
    const Json& s = (*c)["success"];
    const bool gated = name == text_of(r["gated"]);
    out += cat("<div class=\"name", gated ? " gated" : "", "\">", escape(title(name)), "</div>",
               bar_svg(value_of(s["rate"]), value_of(s["low"]), value_of(s["high"], 1),
                       "var(--accent)", reference),
               "<div class=\"num\">", percent(s["rate"]), "</div>\n");
  }
  out += "</div>\n";
  if (!family.starts_with("counterfact")) return;
  out +=
      "<h3>What is said where the context contradicts what is known</h3><div class=\"legend\">"
      "<span><i style=\"background:var(--injected)\"></i>injected</span><span><i "
      "style=\"background:var(--both)\"></i>both</span>"
      "<span><i style=\"background:var(--other)\"></i>other</span><span><i "
      "style=\"background:var(--parametric)\"></i>parametric</span></div><div class=\"rows\">\n";
  for (const auto& [name, unused] : r["conditions"].items()) {
    const Json* c = cell(r, name, family);
    if (c == nullptr) continue;
    std::vector<Part> parts;
    for (const auto& [kind, colour] : {std::pair{"injected", "var(--injected)"},
                                       {"both", "var(--both)"},
                                       {"other", "var(--other)"},
                                       {"parametric", "var(--parametric)"}})
      parts.push_back({value_of((*c)[kind]["rate"]), colour, kind});
    out += cat("<div class=\"name", name == text_of(r["gated"]) ? " gated" : "", "\">",
               escape(title(name)), "</div>", stacked_svg(parts), "<div class=\"num\">",
               percent((*c)["injected"]["rate"]), "</div>\n");
  }
  out += "</div>\n";
}

void family_table(const Json& r, const std::string& family, std::string& out) {
  const bool counterfactual = family.starts_with("counterfact");
  std::vector<std::string> heads{"condition", "n",          "groups",    "exact, %",
                                 level(r),    "partial, %", "stalled, %"};
  if (counterfactual)
    heads.insert(heads.end(),
                 {"injected, %", "parametric, %", "both, %", "other, %", "memorisation"});
  heads.insert(heads.end(),
               {"NLL", "KL", "&minus; full text", "p (Holm)", "&minus; baseline", "p (Holm)"});
  out += cat("<div class=\"scroll\"><table>", row(heads, "th"));
  for (const auto& [name, unused] : r["conditions"].items()) {
    const Json* c = cell(r, name, family);
    if (c == nullptr) continue;
    const Json& s = (*c)["success"];
    std::vector<std::string> cells{escape(name),
                                   cat((*c)["distinct"].get<int64_t>()),
                                   cat((*c)["groups"].get<int64_t>()),
                                   percent(s["rate"]),
                                   percent(s["low"]) + "&ndash;" + percent(s["high"]),
                                   percent((*c)["partial"]),
                                   percent((*c)["stalled"]["rate"])};
    if (counterfactual)
      for (const auto& value :
           {percent((*c)["injected"]["rate"]), percent((*c)["parametric"]["rate"]),
            percent((*c)["both"]["rate"]), percent((*c)["other"]["rate"]),
            number((*c)["memorisation_ratio"], 2)})
        cells.push_back(value);
    cells.push_back((*c)["nll"].is_null() ? "-" : number((*c)["nll"]["mean"], 2));
    cells.push_back((*c)["kl"].is_null() ? "-" : number((*c)["kl"]["mean"], 3));
    for (const char* against : {"vs_full_text", "vs_baseline"}) {
      const Json& d = (*c)[against];
      cells.push_back(d.is_null() ? "-" : percent(d["difference"]));
      cells.push_back(d.is_null() ? "-" : number(d["p_holm"], 3));
    }
    out += row(cells, "td", name == text_of(r["gated"]) ? "class=\"gated\"" : "");
  }
  out += "</table></div>\n";
}

void ladder(const Json& r, std::string& out) {
  if (!r.contains("ladder") || r["ladder"].is_null()) return;
  out +=
      cat("<h2>The ladder</h2><p class=\"soft\">Each projector against the one before it, on the "
          "same "
          "items: points of exact answers gained, with a paired ",
          level(r),
          " interval; groups are the unit of interval and test.</p><div class=\"scroll\"><table>") +
      row({"family", "step", "n", "points", level(r), "gained", "lost", "p (Holm)", "rises"}, "th");
  for (const auto& [family, steps] : r["ladder"]["families"].items())
    for (const auto& s : steps)
      out +=
          row({escape(title(family)),
               escape(title(text_of(s["lower"]))) + " &lt; " + escape(title(text_of(s["upper"]))),
               cat(s["n"].get<int64_t>()), percent(s["difference"]),
               percent(s["low"]) + " to " + percent(s["high"]), cat(s["only_upper"].get<int64_t>()),
               cat(s["only_lower"].get<int64_t>()), number(s["p_holm"], 4),
               s["rises"].get<bool>() ? "yes" : "not shown"});
  out += "</table></div>\n";
}

void conditions(const Json& r, std::string& out) {
  for (const auto& family : families(r)) {
    out += cat("<h2>", escape(title(family)), "</h2>\n");
    family_plot(r, family, out);
    family_table(r, family, out);
  }
  ladder(r, out);
  if (r["controls"].empty()) return;
  out += "<h2>Controls</h2><div class=\"scroll\"><table>" +
         row({"control", "must equal", "equal, token for token", "of"}, "th");
  for (const auto& control : r["controls"])
    out += row({escape(text_of(control["control"])), escape(text_of(control["equals"])),
                cat(control["equal"].get<int64_t>()), cat(control["n"].get<int64_t>())});
  out += "</table></div>\n";
}

void examples(const Json& r, std::string& out) {
  bool cases = true, first_example = true;
  out += "<h2>Phase 2a&rsquo;s five cases</h2>\n";
  if (r["cases"].empty()) out += "<p class=\"soft\">Not asked for.</p>\n";
  std::vector<const Json*> order;
  for (const bool want : {true, false})
    for (const auto& one : r["examples"])
      if ((text_of(one["family"]) == "cases") == want) order.push_back(&one);
  for (const Json* pointer : order) {
    const Json& one = *pointer;
    const bool is_case = text_of(one["family"]) == "cases";
    if (cases && !is_case) {
      cases = false;
      out +=
          "<h2>Examples</h2>\n<p class=\"soft\">The first items of each family under every "
          "condition; what is looked for is marked, what is known by heart underlined.</p>\n";
    }
    const auto markers = words(one["markers"]), known = words(one["parametric"]);
    // Cases are all open; of the other examples the first, or the page would have no end.
    out += cat("<details class=\"ex\"", is_case || first_example ? " open" : "", "><summary>",
               escape(is_case ? text_of(one["id"])
                              : title(text_of(one["family"])) + ", " + text_of(one["form"])),
               "</summary><dl><dt>source reads</dt><dd>",
               highlighted(text_of(one["context"]), markers, known), "</dd><dt>",
               text_of(one["form"]) == "completion" ? "target goes on from" : "target is asked",
               "</dt><dd>", escape(text_of(one["prompt"])), "</dd>");
    if (one.contains("answers"))
      for (const auto& [name, answer] : one["answers"].items()) {
        const std::string said = text_of(answer["text"]), stall = text_of(answer["stall"]);
        out += cat(
            "<dt", name == text_of(r["gated"]) ? " class=\"gated\"" : "", ">", escape(title(name)),
            "</dt><dd>",
            said.empty() ? "<span class=\"soft\">(nothing)</span>"
                         : highlighted(said, markers, known),
            stall == "none" ? "" : cat(" <span class=\"soft\">(", escape(title(stall)), ")</span>"),
            "</dd>");
      }
    out += "</dl></details>\n";
    first_example = first_example && is_case;
  }
}

void heat_row(const Json& layers, const char* key, const char* label, double top,
              std::string& out) {
  std::vector<double> shares, values;
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const auto& layer : layers) {
    const double value = value_of(layer[key]);
    values.push_back(value);
    shares.push_back(value / top);
    low = std::min(low, value);
    high = std::max(high, value);
  }
  out += cat("<div>", label, "</div>", heat_svg(shares, values, label), "<div class=\"num\">",
             number(Json(low), 2), " to ", number(Json(high), 2), "</div>\n");
}

double largest(const Json& layers, const char* key) {
  double top = 1e-9;
  for (const auto& layer : layers) top = std::max(top, value_of(layer[key]));
  return top;
}

void fidelity(const Json& r, std::string& out) {
  if (!r.contains("fidelity") || r["fidelity"].is_null()) return;
  const Json& f = r["fidelity"];
  out +=
      cat("<h2>Fidelity by layer</h2><p class=\"soft\">Layer 0 stands left; the stronger the "
          "colour the higher, from "
          "0 to 1 (ranks and drift: to their largest). ",
          f["items"].get<int64_t>(),
          " items. Shown, never judged: R&sup2; does not predict behaviour.</p>\n");
  for (const auto& [name, one] : f["conditions"].items()) {
    const Json& layers = one["layers"];
    out += cat("<h3>", escape(title(name)), "</h3><div class=\"heat\">\n");
    heat_row(layers, "key_r2", "key R&sup2;", 1, out);
    heat_row(layers, "value_r2", "value R&sup2;", 1, out);
    heat_row(layers, "key_cosine", "key cosine", 1, out);
    heat_row(layers, "value_cosine", "value cosine", 1, out);
    heat_row(layers, "attention_output_cosine", "attention cosine", 1, out);
    heat_row(layers, "hidden_drift", "hidden drift", largest(layers, "hidden_drift"), out);
    heat_row(layers, "key_effective_rank", "rank of keys", largest(layers, "key_effective_rank"),
             out);
    heat_row(layers, "value_effective_rank", "rank of values",
             largest(layers, "value_effective_rank"), out);
    out += "</div>\n";
    if (name != text_of(f["condition"])) continue;
    out += "<details><summary>By head</summary><div class=\"heat\">\n";
    const size_t heads = layers.empty() ? 0 : layers[0]["heads"].size();
    for (const char* key : {"key_r2", "value_r2"})
      for (size_t h = 0; h < heads; ++h) {
        Json of_head = Json::array();
        for (const auto& layer : layers) of_head.push_back(layer["heads"][h]);
        heat_row(of_head, key, cat(key[0] == 'k' ? "key" : "value", " R&sup2;, head ", h).c_str(),
                 1, out);
      }
    out += "</div></details>\n";
  }
}

void retention(const Json& r, std::string& out) {
  if (!r.contains("retention") || !r["retention"].contains("conditions")) return;
  out +=
      "<h2>Retention</h2><p class=\"soft\">How the target, given each condition, rates the gold "
      "answers: mean NLL per token, and KL from the target that read the text (nats, lower is "
      "better).</p><div class=\"rows\">\n";
  double top = 1e-9;
  for (const auto& [name, one] : r["retention"]["conditions"].items())
    top = std::max(top, value_of(one["nll"]));
  for (const auto& [name, one] : r["retention"]["conditions"].items()) {
    const double share = value_of(one["nll"]) / top;
    out += cat("<div class=\"name", name == text_of(r["gated"]) ? " gated" : "", "\">",
               escape(title(name)), "</div>", bar_svg(share, share, share, "var(--accent)"),
               "<div class=\"num\">NLL ", number(one["nll"], 2), " &middot; KL ",
               number(one["kl"], 2), "</div>\n");
  }
  out += "</div>\n";
}

void cost(const Json& r, std::string& out) {
  if (!r.contains("latency") || r["latency"].is_null()) return;
  const Json& l = r["latency"];
  out +=
      "<h2>Cost</h2><p class=\"soft\">To the first token of the answer: translating the "
      "source&rsquo;s cache and reading the question, against reading the whole text "
      "again.</p><div class=\"scroll\"><table>" +
      row({"context tokens", "re-read, ms", "translate, ms", "question, ms", "times faster",
           "cache moved", "re-read", "translate"},
          "th");
  std::vector<const Json*> rows{&l};
  for (const auto& one : l["lengths"]) rows.push_back(&one);
  for (const Json* one : rows)
    out +=
        row({cat((*one)["tokens"].get<int64_t>()), number((*one)["prefill_ms"], 1),
             number((*one)["translate_ms"], 1), number((*one)["question_ms"], 1),
             number((*one)["ttft_ratio"], 2), report::bytes(value_of((*one)["bytes"])),
             flops(value_of((*one)["prefill_flops"])), flops(value_of((*one)["translate_flops"]))});
  out += "</table></div>\n";
  if (l.contains("message_ms"))
    out += cat("<p class=\"soft\">As a text message of ", l["message_tokens"].get<int64_t>(),
               " tokens (", l["message_bytes"].get<int64_t>(),
               " bytes): ", number(l["message_ms"], 1), " ms.</p>\n");
}

void benchmarks(const Json& r, std::string& out) {
  if (!r.contains("benchmarks") || r["benchmarks"].empty()) return;
  out += "<h2>Benchmarks</h2>\n";
  for (const auto& b : r["benchmarks"]) {
    out += cat("<h3>", escape(text_of(b["name"])), "</h3><p class=\"soft\">gold ",
               escape(text_of(b["gold"])), ", by ", escape(text_of(b["method"])), "; ",
               b["n"].get<int64_t>(), " scored, ", b["skipped"].get<int64_t>(),
               " skipped; dashed: chance.</p><div class=\"rows\">\n");
    for (const auto& [name, c] : b["conditions"].items())
      out += cat(
          "<div class=\"name\">", escape(title(name)), "</div>",
          bar_svg(value_of(c["accuracy"]["rate"]), value_of(c["accuracy"]["low"]),
                  value_of(c["accuracy"]["high"], 1), "var(--accent)", value_of(b["chance"], -1)),
          "<div class=\"num\">", percent(c["accuracy"]["rate"]), "</div>\n");
    out += "</div>\n";
  }
}

// What this many items could have shown at all.
void power(const Json& r, std::string& out) {
  if (!r.contains("power") || r["power"].empty()) return;
  out += "<h3>What this many items can show</h3><div class=\"scroll\"><table>" +
         row({"criterion", "items", "gate", "chance to pass: truth a margin above", "truth 1",
              "items that would do"},
             "th");
  for (const auto& [name, one] : r["power"].items())
    out +=
        row({escape(title(name)), cat(one["n"].get<int64_t>()), number(one["gate"], 2),
             cat(number(one["at_margin"], 2), " (+", number(one["margin"], 2), ")"),
             number(one["at_one"], 2),
             one["needed_n"].is_null() ? "more than 20000" : cat(one["needed_n"].get<int64_t>())});
  out += "</table></div>\n";
}

void attribution(const Json& r, std::string& out) {
  if (!r.contains("attribution") || r["attribution"]["families"].empty()) return;
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
  for (const auto& [family, one] : r["attribution"]["families"].items())
    for (const auto& [name, exact] : one["exact"]["conditions"].items()) {
      const Json& nll = one["nll"]["conditions"][name];
      out += row({escape(title(family)), escape(title(name)), share(exact["share"]),
                  share(exact["gain"]), share(nll["share"]), share(nll["gain"])},
                 "td", name == text_of(r["gated"]) ? "class=\"gated\"" : "");
    }
  out += "</table></div>\n";
}

void trained(const Json& r, std::string& out) {
  if (!r.contains("trained") || r["trained"].empty()) return;
  out +=
      "<h2>What trained these projectors</h2><p class=\"soft\">As their checkpoints say. Held out "
      "is "
      "the value (names, places, keys), never the template: families that were distilled are asked "
      "in "
      "the templates they were distilled in.</p><div class=\"scroll\"><table>" +
      row({"condition", "stage", "losses", "distilled families", "seed", "rows", "recipe"}, "th");
  for (const auto& [name, one] : r["trained"].items()) {
    std::string families;
    if (one.contains("families"))
      for (const auto& family : one["families"])
        families += (families.empty() ? "" : ", ") + text_of(family);
    out += row({escape(name), escape(one.value("stage", std::string())),
                escape(one.value("losses", std::string("not known"))),
                families.empty() ? "none" : escape(families),
                one.contains("seed") ? cat(one["seed"].get<int64_t>()) : "-",
                one.contains("rows_seen") ? cat(one["rows_seen"].get<int64_t>()) : "-",
                escape(one.value("recipe_sha256", std::string()).substr(0, 12))});
  }
  out += "</table></div>\n";
}

void looks(const Json& r, std::string& out) {
  if (!r.contains("looks") || !r["looks"].is_object()) return;
  const Json& l = r["looks"];
  out += cat("<h2>Looks</h2><p class=\"soft\">Look ", l["look"].get<int64_t>(), " of ",
             l["at_this_checkpoint"].get<int64_t>(),
             " at this checkpoint. A gate that was tried often is met by luck sooner or later."
             "</p><div class=\"scroll\"><table>",
             row({"when", "mode", "seed", "items", "gates met", "settings"}, "th"));
  for (const auto& one : l["all"])
    out += row({escape(text_of(one["time"])), escape(text_of(one["mode"])), one["seeds"].dump(),
                cat(one["items"].get<int64_t>()), one["met"].get<bool>() ? "yes" : "no",
                escape(text_of(one["frozen"]).substr(0, 12))});
  out += "</table></div>\n";
}

void method(const Json& r, std::string& out) {
  out += "<h2>Method</h2>\n";
  for (const auto& [name, c] : r["criteria"].items())
    out += cat("<p><strong>", escape(title(name)), ".</strong> ", escape(text_of(c["definition"])),
               "</p>\n");
  out +=
      "<details open><summary>Conditions</summary><div class=\"scroll\"><table>"
      "<tr><th>condition</th><th class=\"text\">what the target is given</th></tr>\n";
  for (const auto& [name, c] : r["conditions"].items())
    out += cat("<tr><td>", escape(name), "</td><td class=\"text\">",
               escape(text_of(c["definition"])), "</td></tr>\n");
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
  for (const auto& seed : r["seeds"]) out += cat(" ", seed.get<int64_t>());
  if (r.contains("versions"))
    for (const auto& [name, version] : r["versions"].items())
      out += cat(" &middot; ", escape(name), " ", escape(text_of(version)));
  if (r.contains("recipe_sha256"))
    out += cat(" &middot; recipe sha256 <code>", escape(text_of(r["recipe_sha256"])), "</code>");
  out += "</p>\n";
}

}  // namespace

std::string report_html(const nlohmann::ordered_json& r) {
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
  benchmarks(r, out);
  method(r, out);
  return out + "</main></body></html>\n";
}

}  // namespace kvlingua
