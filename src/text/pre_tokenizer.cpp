// Where text is split before BPE (steps.h), as tokenizer.json's `pre_tokenizer` says.
#include "kvlingua/base/utf8.h"
#include "steps.h"

namespace kvlingua::text {
namespace {

constexpr int kMaxSequenceDepth = 8;

// How GPT-2 cuts text into words.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

SplitBehavior read_behavior(const JsonView& json) {
  const std::string& name = json.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  json.unsupported(cat("behavior ", printable(name, 40)));
}

MetaspaceStep read_metaspace(const JsonView& json) {
  json.only({"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const std::string& replacement = json.string("replacement");
  if (replacement.empty() || utf8_length(replacement[0]) != replacement.size()) {
    json.corrupt("replacement must be one character", printable(replacement, 40));
  }
  auto prepend = MetaspaceStep::Prepend::kAlways;
  if (const auto scheme = json.find("prepend_scheme")) {
    const std::string& name = scheme->string();
    if (name == "first") {
      prepend = MetaspaceStep::Prepend::kFirst;
    } else if (name == "never") {
      prepend = MetaspaceStep::Prepend::kNever;
    } else if (name != "always") {
      scheme->unsupported(printable(name, 40), "always, first or never");
    }
  }
  if (!json.boolean("add_prefix_space", true)) {
    if (prepend != MetaspaceStep::Prepend::kNever)
      json.corrupt("add_prefix_space does not fit prepend_scheme");
  }
  return {replacement, prepend, json.boolean("split", true), Pattern::literal(" ", json.where()),
          Pattern::literal(replacement, json.where())};
}

void read_step(const JsonView& json, std::vector<PreTokenizerStep>& steps, int depth) {
  const std::string& type = json.string("type");
  if (type == "Sequence") {
    json.only({"type", "pretokenizers"});
    if (depth >= kMaxSequenceDepth) json.unsupported("sequences nested this deep");
    const JsonView list = json.at("pretokenizers");
    for (size_t i = 0; i < list.array_size(); ++i) read_step(list.element(i), steps, depth + 1);
  } else if (type == "Split") {
    json.only({"type", "pattern", "behavior", "invert"});
    steps.emplace_back(SplitStep{read_pattern(json.at("pattern")),
                                 read_behavior(json.at("behavior")), json.boolean("invert")});
  } else if (type == "Digits") {
    json.only({"type", "individual_digits"});
    steps.emplace_back(DigitsStep{json.boolean("individual_digits")});
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    ByteLevelStep step{json.boolean("add_prefix_space"), std::nullopt};
    if (json.boolean("use_regex", true)) step.pattern = Pattern::regex(kGpt2, json.where());
    steps.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    steps.emplace_back(read_metaspace(json));
  } else {
    json.unsupported(cat("pre-tokenizer ", printable(type, 40)),
                     "Split, Digits, ByteLevel, Metaspace or Sequence");
  }
}

void cut_by(const Pattern& pattern, SplitBehavior behavior, bool invert, AlignedText& text) {
  std::vector<Range> matches;
  text.split([&](std::string_view piece, std::vector<Piece>& out) {
    matches.clear();
    pattern.find_all(piece, matches);
    cut_at(piece, matches, behavior, invert, out);
  });
}

void apply(const SplitStep& step, AlignedText& text) {
  cut_by(step.pattern, step.behavior, step.invert, text);
}

void apply(const DigitsStep& step, AlignedText& text) {
  std::vector<Range> matches;
  text.split([&](std::string_view piece, std::vector<Piece>& out) {
    matches.clear();
    for (size_t at = 0; at < piece.size();) {
      const size_t begin = at;
      if (is_numeric(next_code_point(piece, at))) matches.emplace_back(begin, at);
    }
    cut_at(piece, matches, step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
           false, out);
  });
}

void apply(const ByteLevelStep& step, AlignedText& text) {
  if (step.add_prefix_space) {
    text.rewrite([](AlignedText::Rewriter& out) {
      if (out.old().front() == ' ') {
        out.copy(0, out.old().size());
      } else {
        prepend(out, " ");
      }
    });
  }
  if (step.pattern) cut_by(*step.pattern, SplitBehavior::kIsolated, false, text);
  text.rewrite([](AlignedText::Rewriter& out) {
    const std::string_view old = out.old();
    for (size_t at = 0; at < old.size(); ++at)
      out.put(byte_level_char(static_cast<unsigned char>(old[at])), at);
  });
}

void apply(const MetaspaceStep& step, AlignedText& text) {
  using Prepend = MetaspaceStep::Prepend;
  text.rewrite([&](AlignedText::Rewriter& out) { replace(out, step.space, step.replacement); });
  if (step.prepend != Prepend::kNever) {
    text.rewrite([&](AlignedText::Rewriter& out) {
      if (out.old().starts_with(step.replacement) ||
          (step.prepend == Prepend::kFirst && !out.at_start())) {
        out.copy(0, out.old().size());
      } else {
        prepend(out, step.replacement);
      }
    });
  }
  if (step.split) cut_by(step.marker, SplitBehavior::kMergedWithNext, false, text);
}

}  // namespace

PreTokenizer PreTokenizer::read(const std::optional<JsonView>& json) {
  PreTokenizer pre_tokenizer;
  if (json) read_step(*json, pre_tokenizer.steps_, 0);
  return pre_tokenizer;
}

std::optional<bool> PreTokenizer::prefix_space() const {
  for (const PreTokenizerStep& step : steps_) {
    if (const auto* one = std::get_if<ByteLevelStep>(&step)) return one->add_prefix_space;
  }
  return std::nullopt;
}

void PreTokenizer::set_prefix_space(bool add) {
  for (PreTokenizerStep& step : steps_) {
    if (auto* one = std::get_if<ByteLevelStep>(&step)) one->add_prefix_space = add;
  }
}

void PreTokenizer::apply(AlignedText& text) const {
  for (const PreTokenizerStep& step : steps_) {
    std::visit([&](const auto& one) { text::apply(one, text); }, step);
  }
}

}  // namespace kvlingua::text
