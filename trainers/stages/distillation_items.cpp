#include "trainers/stages/distillation_items.h"

#include <algorithm>
#include <utility>

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

FreshItems::FreshItems(const DistillationOptions& options, FamilyStyle style, uint64_t seed,
                       ValuePart part, const DistillationReader& source,
                       const DistillationReader& target, AlignmentKind alignment, Other other,
                       double share)
    : families_(options.families, style, mix(seed, hash_name(kDistillationStage)), part),
      seed_(mix(seed, hash_name("distillation items"))),
      source_(source),
      target_(target),
      alignment_(alignment),
      max_answer_(options.max_answer),
      other_(std::move(other)),
      share_(share) {}

DistillationItem FreshItems::item(uint64_t number) const {
  if (other_ && Random(mix(seed_, number)).chance(share_)) return other_(number);
  constexpr uint64_t kAttempts = 1000;
  for (uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    // A number that is far from all others, of the same family.
    const uint64_t n = attempt == 0 ? number : number + (attempt << 40) * 60;
    const FamilyItem text = families_.item(n);
    const std::string rest =
        text.completion ? target_.after + text.prompt : "\n" + text.prompt + target_.after;
    DistillationItem item =
        make_distillation_item({text.context, rest, text.answer, /*ends_turn=*/true}, source_,
                               target_, alignment_, max_answer_);
    if (can_be_read(item, source_, target_)) return item;
  }
  throw Error({.code = ExitCode::kInput,
               .where = "train.distillation",
               .what = "no item fits the models",
               .got = cat(kAttempts, " items, all too long")});
}

std::vector<DistillationItem> make_distillation_items(const DistillationOptions& options,
                                                      const FreshItems& fresh) {
  std::vector<DistillationItem> items;
  for (int64_t i = 0; i < options.items; ++i) items.push_back(fresh.item(static_cast<uint64_t>(i)));
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
