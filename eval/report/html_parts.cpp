#include "eval/report/html_parts.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "eval/report/text.h"
#include "kvlingua/base/error.h"

namespace kvlingua::report {

namespace {

std::string shortest(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

double clamp01(double value) { return std::isfinite(value) ? std::clamp(value, 0.0, 1.0) : 0.0; }

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Byte ranges of whole-word occurrences, case ignored.
struct Range {
  size_t begin, end;
  bool known;
};
void find_all(std::string_view text, const std::vector<std::string>& words, bool known,
              std::vector<Range>& ranges) {
  for (const auto& word : words) {
    if (word.empty()) continue;
    for (size_t at = 0; at + word.size() <= text.size(); ++at) {
      const bool same =
          std::equal(word.begin(), word.end(), text.begin() + static_cast<int64_t>(at),
                     [](char a, char b) { return lower(a) == lower(b); });
      const size_t end = at + word.size();
      if (!same || (at > 0 && is_word(text[at - 1]) && is_word(word.front())) ||
          (end < text.size() && is_word(text[end]) && is_word(word.back())))
        continue;
      ranges.push_back({at, end, known});
    }
  }
}

}  // namespace

std::string escape(std::string_view raw) {
  std::string out;
  for (char c : printable_lines(valid_text(raw))) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')
          out += "\xEF\xBF\xBD";
        else
          out += c;
    }
  }
  return out;
}

std::string highlighted(std::string_view raw, const std::vector<std::string>& markers,
                        const std::vector<std::string>& known) {
  const std::string valid = valid_text(raw);
  const std::string_view text = valid;
  std::vector<Range> ranges;
  find_all(text, markers, false, ranges);
  find_all(text, known, true, ranges);
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::string out;
  size_t at = 0;
  for (const Range& range : ranges) {
    if (range.begin < at) continue;
    out += escape(text.substr(at, range.begin - at));
    out += cat(range.known ? "<mark class=\"known\">" : "<mark>",
               escape(text.substr(range.begin, range.end - range.begin)), "</mark>");
    at = range.end;
  }
  return out + escape(text.substr(at));
}

std::string bar_svg(double value, double low, double high, const char* colour, double reference) {
  const double v = 100 * clamp01(value), l = 100 * clamp01(low), h = 100 * clamp01(high);
  std::string svg =
      cat("<svg viewBox=\"0 0 100 18\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect "
          "x=\"0\" y=\"3\" width=\"100\" height=\"12\" rx=\"1\" fill=\"var(--track)\"/>",
          "<rect x=\"0\" y=\"3\" width=\"", shortest(v), "\" height=\"12\" fill=\"", colour,
          "\" fill-opacity=\".55\"/>", "<line x1=\"", shortest(l), "\" x2=\"", shortest(h),
          "\" y1=\"9\" y2=\"9\" stroke=\"var(--ink)\" stroke-width=\"2\" "
          "vector-effect=\"non-scaling-stroke\"/>");
  for (double x : {l, h})
    svg += cat("<line x1=\"", shortest(x), "\" x2=\"", shortest(x),
               "\" y1=\"5\" y2=\"13\" stroke=\"var(--ink)\" stroke-width=\"2\" "
               "vector-effect=\"non-scaling-stroke\"/>");
  if (reference >= 0)
    svg += cat("<line x1=\"", shortest(100 * clamp01(reference)), "\" x2=\"",
               shortest(100 * clamp01(reference)),
               "\" y1=\"0\" y2=\"18\" stroke=\"var(--soft)\" stroke-width=\"1\" "
               "stroke-dasharray=\"3 2\" vector-effect=\"non-scaling-stroke\"/>");
  return svg + "</svg>";
}

std::string stacked_svg(const std::vector<Part>& parts) {
  std::string svg = "<svg viewBox=\"0 0 100 18\" preserveAspectRatio=\"none\" role=\"img\">";
  double x = 0;
  for (const Part& part : parts) {
    const double width = 100 * clamp01(part.share);
    if (width <= 0) continue;
    svg += cat("<rect x=\"", shortest(x), "\" y=\"3\" width=\"", shortest(width),
               "\" height=\"12\" fill=\"", part.colour, "\"><title>", escape(part.label), " ",
               shortest(width), " %</title></rect>");
    x += width;
  }
  return svg + "</svg>";
}

std::string gate_svg(double low, double value, double high, double threshold, double from,
                     double to, const std::string& unit) {
  const auto x = [&](double v) { return 10 + 280 * clamp01((v - from) / (to - from)); };
  const auto label = [&](double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", v);
    return std::string(text) + unit;
  };
  return cat(
      "<svg class=\"plot\" viewBox=\"0 0 300 56\" role=\"img\" aria-label=\"interval ", label(low),
      " to ", label(high), ", threshold ", label(threshold), "\">",
      "<line x1=\"10\" x2=\"290\" y1=\"30\" y2=\"30\" stroke=\"var(--line)\" stroke-width=\"2\"/>",
      "<line x1=\"", shortest(x(threshold)), "\" x2=\"", shortest(x(threshold)),
      "\" y1=\"17\" y2=\"41\" stroke=\"var(--bad)\" stroke-width=\"1.5\" stroke-dasharray=\"4 "
      "3\"/>",
      "<text x=\"", shortest(std::clamp(x(threshold), 50.0, 250.0)),
      "\" y=\"12\" font-size=\"14\" text-anchor=\"middle\" fill=\"var(--soft)\">threshold ",
      label(threshold), "</text>", "<line x1=\"", shortest(x(low)), "\" x2=\"", shortest(x(high)),
      "\" y1=\"30\" y2=\"30\" stroke=\"var(--accent)\" stroke-width=\"5\" "
      "stroke-linecap=\"round\"/>",
      "<circle cx=\"", shortest(x(value)),
      "\" cy=\"30\" r=\"5\" fill=\"var(--card)\" stroke=\"var(--accent)\" stroke-width=\"2.5\"/>",
      "<text x=\"10\" y=\"54\" font-size=\"14\" fill=\"var(--soft)\">", label(from),
      "</text><text x=\"290\" y=\"54\" font-size=\"14\" text-anchor=\"end\" fill=\"var(--soft)\">",
      label(to), "</text></svg>");
}

std::string heat_svg(const std::vector<double>& shares, const std::vector<double>& values,
                     const std::string& what) {
  const auto n = static_cast<double>(std::max<size_t>(1, shares.size()));
  std::string svg = cat("<svg viewBox=\"0 0 ", n * 10,
                        " 18\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"",
                        escape(what), " by layer\">");
  for (size_t i = 0; i < shares.size(); ++i) {
    const double x = static_cast<double>(i) * 10;
    svg += cat("<g><title>layer ", i, ": ", escape(what), " ", shortest(values[i]),
               "</title><rect x=\"", x,
               "\" y=\"0\" width=\"9.6\" height=\"18\" fill=\"var(--track)\"/><rect x=\"", x,
               "\" y=\"0\" width=\"9.6\" height=\"18\" fill=\"var(--accent)\" fill-opacity=\"",
               shortest(clamp01(shares[i])), "\"/></g>");
  }
  return svg + "</svg>";
}

std::string row(const std::vector<std::string>& cells, const char* tag, const char* attributes) {
  std::string out = cat("<tr", *attributes != '\0' ? " " : "", attributes, ">");
  for (const auto& cell : cells) out += cat("<", tag, ">", cell, "</", tag, ">");
  return out + "</tr>\n";
}

}  // namespace kvlingua::report
