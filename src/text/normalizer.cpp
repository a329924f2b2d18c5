// What happens to text first (steps.h), as tokenizer.json's `normalizer` says.
#include <algorithm>

#include "steps.h"

namespace kvlingua::text {
namespace {

constexpr int kMaxSequenceDepth = 8;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void read_step(const JsonView& json, std::vector<NormalizerStep>& steps, int depth) {
  const std::string& type = json.string("type");
  if (type == "Sequence") {
    json.only({"type", "normalizers"});
    if (depth >= kMaxSequenceDepth) json.unsupported("sequences nested this deep");
    const JsonView list = json.at("normalizers");
    for (size_t i = 0; i < list.array_size(); ++i) read_step(list.element(i), steps, depth + 1);
  } else if (type == "NFC") {
    json.only({"type"});
    steps.emplace_back(NfcStep{});
  } else if (type == "Prepend") {
    json.only({"type", "prepend"});
    if (!json.string("prepend").empty()) steps.emplace_back(PrependStep{json.string("prepend")});
  } else if (type == "Replace") {
    json.only({"type", "pattern", "content"});
    steps.emplace_back(ReplaceStep{read_pattern(json.at("pattern")), json.string("content")});
  } else {
    json.unsupported(cat("normalizer ", printable(type, 40)), "NFC, Prepend, Replace or Sequence");
  }
}

void apply_step(const NormalizerStep& step, AlignedText::Rewriter& out) {
  if (std::holds_alternative<NfcStep>(step)) {
    if (is_ascii(out.old())) {
      out.copy(0, out.old().size());
    } else {
      apply_changes(out, nfc_changes(out.old()));
    }
  } else if (const auto* front = std::get_if<PrependStep>(&step)) {
    prepend(out, front->text);
  } else {
    const auto& change = std::get<ReplaceStep>(step);
    replace(out, change.pattern, change.content);
  }
}

}  // namespace

Pattern read_pattern(const JsonView& json) {
  json.only({"String", "Regex"});
  if (const auto text = json.find("String")) return Pattern::literal(text->string(), text->where());
  const JsonView regex = json.at("Regex");
  return Pattern::regex(regex.string(), regex.where());
}

Normalizer Normalizer::read(const std::optional<JsonView>& json) {
  Normalizer normalizer;
  if (json) read_step(*json, normalizer.steps_, 0);
  return normalizer;
}

void Normalizer::apply(AlignedText& text) const {
  for (const NormalizerStep& step : steps_) {
    if (std::holds_alternative<NfcStep>(step) && text.is_ascii()) continue;
    text.rewrite([&](AlignedText::Rewriter& out) { apply_step(step, out); });
  }
}

std::string Normalizer::apply(std::string_view text) const {
  AlignedText aligned(text);
  apply(aligned);
  return aligned.pieces().empty() ? std::string()
                                  : std::string(aligned.view(aligned.pieces().front()));
}

}  // namespace kvlingua::text
