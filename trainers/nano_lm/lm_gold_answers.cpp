// Teacher-forced scores of gold answers (lm_validation.h).
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "trainers/nano_lm/lm_questions.h"
#include "trainers/nano_lm/lm_validation.h"

namespace kvlingua {
namespace {

LmScore score(const LmQuestionSet& set, const CausalLM& model, const Tokenizer& tokenizer,
              const ChatFrame& frame, int64_t batch) {
  LmScore result{.name = set.name, .n = static_cast<int64_t>(set.questions.size())};
  for (size_t at = 0; at < set.questions.size(); at += static_cast<size_t>(batch)) {
    const size_t end = std::min(set.questions.size(), at + static_cast<size_t>(batch));
    std::vector<std::vector<int64_t>> rows;
    std::vector<int64_t> positions, gold, owner;
    for (size_t i = at; i < end; ++i) {
      std::vector<int64_t> row = set.questions[i].prompt_ids(tokenizer, frame);
      for (int64_t id : tokenizer.encode(set.questions[i].answer + "<|im_end|>", false).ids) {
        owner.push_back(static_cast<int64_t>(i - at));
        positions.insert(positions.end(), {owner.back(), static_cast<int64_t>(row.size()) - 1});
        gold.push_back(id);
        row.push_back(id);
      }
      rows.push_back(std::move(row));
    }
    PrefillOptions prefill;
    prefill.want_cache = false;
    prefill.logits = LogitsAt::kPositions;
    const auto n = static_cast<int64_t>(gold.size());
    prefill.logit_positions = at::tensor(positions, at::kLong).view({n, 2}).to(model.device());
    const at::Tensor logits = model.prefill(TokenBatch::from_rows(rows), nullptr, prefill).logits;
    const at::Tensor right =
        logits.argmax(-1).to(at::kCPU).eq(at::tensor(gold, at::kLong)).contiguous();
    std::vector<bool> exact(end - at, true);
    for (int64_t i = 0; i < n; ++i) {
      if (!right.const_data_ptr<bool>()[i])
        exact[static_cast<size_t>(owner[static_cast<size_t>(i)])] = false;
    }
    result.exact += std::count(exact.begin(), exact.end(), true);
  }
  return result;
}

}  // namespace

std::vector<LmScore> score_gold_answers(const CausalLM& model, const Tokenizer& tokenizer,
                                        ChatFamily family, const LmValidationOptions& options) {
  c10::NoGradGuard no_grad;
  std::vector<LmScore> scores;
  for (const auto& set : lm_question_sets(options.items, options.seed)) {
    scores.push_back(score(set, model, tokenizer, chat_frame(family), options.batch));
  }
  return scores;
}

}  // namespace kvlingua
