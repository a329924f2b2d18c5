#include "trainers/stages/distillation_items.h"

#include <algorithm>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"

namespace kvlingua {

DistillationItem make_distillation_item(const DistillationText& text, const TextReader& source,
                                        const TextReader& target, AlignmentKind alignment,
                                        int64_t max_answer) {
  const Encoding source_span = source.tokenizer->encode(text.context, false);
  const Encoding target_span = target.tokenizer->encode(text.context, false);
  DistillationItem out;
  out.source_span = source_span.ids;
  out.span = target_span.ids;
  out.source_index = align(source_span, target_span, alignment).source_index;
  out.rest = target.tokenizer->encode(text.rest, false).ids;
  out.answer = target.tokenizer->encode(text.answer, false).ids;
  if (text.ends_turn && !target.stop_ids.empty()) out.answer.push_back(target.stop_ids.front());
  if (static_cast<int64_t>(out.answer.size()) > max_answer)
    out.answer.resize(static_cast<size_t>(max_answer));
  return out;
}

FreshItems::FreshItems(const DistillationOptions& options, FamilyStyle style, uint64_t seed,
                       ValuePart part, const TextReader& source, const TextReader& target,
                       AlignmentKind alignment, Other other, double share)
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
    const std::string rest = text.completion ? target_.frame.after + text.prompt
                                             : "\n" + text.prompt + target_.frame.after;
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

bool can_be_read(const DistillationItem& item, const TextReader& source, const TextReader& target) {
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
