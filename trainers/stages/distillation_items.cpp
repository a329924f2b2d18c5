#include "trainers/stages/distillation_items.h"

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {

DistillationReader make_distillation_reader(const Tokenizer& tokenizer, const ModelOptions& model,
                                            bool chat, const std::vector<int64_t>& eos_ids,
                                            int64_t max_positions) {
  const SpanReader span = make_span_reader(tokenizer, model, chat, max_positions);
  DistillationReader reader{
      .tokenizer = &tokenizer, .before = span.prefix_ids, .max_positions = max_positions};
  if (const auto family = chat_family_from_name(span.chat)) {
    ChatOptions options;
    options.enable_thinking = model.thinking;
    reader.after = chat_frame(*family, model.system, options).after;
  }
  if (!eos_ids.empty()) {
    reader.end_of_turn = eos_ids.front();
  } else if (const auto eos = tokenizer.eos_id()) {
    reader.end_of_turn = *eos;
  }
  return reader;
}

DistillationItem make_distillation_item(const DistillationText& text,
                                        const DistillationReader& source,
                                        const DistillationReader& target, AlignmentKind alignment,
                                        int64_t max_answer) {
  const Encoding source_span = source.tokenizer->encode(text.context, false);
  const Encoding target_span = target.tokenizer->encode(text.context, false);
  DistillationItem out;
  out.source_span = source_span.ids;
  out.span = target_span.ids;
  out.source_index = align(source_span, target_span, alignment).source_index;
  out.rest = target.tokenizer->encode(text.rest, false).ids;
  out.answer = target.tokenizer->encode(text.answer, false).ids;
  if (text.ends_turn && target.end_of_turn >= 0) out.answer.push_back(target.end_of_turn);
  if (static_cast<int64_t>(out.answer.size()) > max_answer)
    out.answer.resize(static_cast<size_t>(max_answer));
  return out;
}

std::vector<DistillationItem> make_distillation_items(const DistillationOptions& options,
                                                      const std::string& style, uint64_t seed,
                                                      const DistillationReader& source,
                                                      const DistillationReader& target,
                                                      AlignmentKind alignment) {
  std::vector<FamilyItem> texts;
  const int64_t parts = static_cast<int64_t>(options.families.size()) * 2;
  for (const std::string& family : options.families) {
    for (const bool completion : {false, true}) {
      FamilyRequest request{
          .family = family,
          .completion = completion,
          .split = Split::kTrain,
          .n = std::max<int64_t>(1, options.items / parts),
          .seed = mix(seed, hash_name("distillation")) >> 1,
          .style = style == "english" ? FamilyStyle::kEnglish : FamilyStyle::kNano};
      const std::vector<FamilyItem> more = make_family(request);
      texts.insert(texts.end(), more.begin(), more.end());
    }
  }
  // Mixed, so that any run of items holds all families (validation takes the last ones).
  Random random(mix(seed, hash_name("distillation items")));
  random.shuffle(texts);
  std::vector<DistillationItem> items;
  for (const FamilyItem& text : texts) {
    const std::string rest =
        text.completion ? target.after + text.prompt : "\n" + text.prompt + target.after;
    DistillationItem item =
        make_distillation_item({text.context, rest, text.answer, /*ends_turn=*/true}, source,
                               target, alignment, options.max_answer);
    if (can_be_read(item, source, target)) items.push_back(std::move(item));
  }
  if (items.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "train.distillation",
                 .what = "no item fits the models",
                 .got = cat(texts.size(), " items, all too long")});
  }
  return items;
}

bool can_be_read(const DistillationItem& item, const DistillationReader& source,
                 const DistillationReader& target) {
  const auto total = [](auto... sizes) { return static_cast<int64_t>((sizes + ...)); };
  return total(target.before.size(), item.span.size(), item.rest.size(), item.answer.size()) <=
             target.max_positions &&
         total(source.before.size(), item.source_span.size()) <= source.max_positions &&
         !item.span.empty() && !item.source_span.empty() && !item.rest.empty() &&
         !item.answer.empty();
}

void deal_sources_on(std::vector<DistillationItem>& items) {
  if (items.empty()) return;
  std::vector<int64_t> first = items.front().source_span;
  for (size_t i = 0; i < items.size(); ++i) {
    DistillationItem& item = items[i];
    item.source_span = i + 1 < items.size() ? items[i + 1].source_span : first;
    const auto last = static_cast<int64_t>(item.source_span.size()) - 1;
    for (int64_t& token : item.source_index) token = std::min(token, last);
  }
}

}  // namespace kvlingua
