#include "trainers/nano_lm/lm_validation.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "kvlingua/base/error.h"
#include "kvlingua/model/generation.h"
#include "trainers/nano_lm/lm_questions.h"

namespace kvlingua {
namespace {

LmScore score(const LmQuestionSet& set, const CausalLM& model, const Tokenizer& tokenizer,
              const ChatFrame& frame, int64_t batch) {
  LmScore result{.name = set.name};
  GenerationOptions generation;
  generation.max_new_tokens = 24;
  generation.stop_ids = model.config().eos_ids;
  for (size_t at = 0; at < set.questions.size(); at += static_cast<size_t>(batch)) {
    const size_t end = std::min(set.questions.size(), at + static_cast<size_t>(batch));
    std::vector<std::vector<int64_t>> rows;
    for (size_t i = at; i < end; ++i) rows.push_back(set.questions[i].prompt_ids(tokenizer, frame));
    const auto answers =
        generate(model, TokenBatch::from_rows(rows, /*pad_left=*/true), nullptr, generation);
    for (size_t i = at; i < end; ++i) {
      const std::string answer = tokenizer.decode(answers[i - at].ids, true);
      const auto& markers = set.questions[i].markers;
      result.exact += std::all_of(markers.begin(), markers.end(), [&](const std::string& marker) {
        return answer.find(marker) != std::string::npos;
      });
      result.stalled += std::none_of(answer.begin(), answer.end(),
                                     [](unsigned char c) { return std::isalnum(c) != 0; });
      ++result.n;
    }
  }
  return result;
}

}  // namespace

std::vector<LmScore> validate_language_model(const CausalLM& model, const Tokenizer& tokenizer,
                                             ChatFamily family,
                                             const LmValidationOptions& options) {
  std::vector<LmScore> scores;
  for (const auto& set : lm_question_sets(options.items, options.seed)) {
    scores.push_back(score(set, model, tokenizer, chat_frame(family), options.batch));
  }
  return scores;
}

std::vector<LmScore> validate_language_model_at(const std::filesystem::path& directory,
                                                at::Device device,
                                                const LmValidationOptions& options) {
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const CausalLM model = CausalLM::load(directory, {.device = device});
  return validate_language_model(model, tokenizer, recognise_chat_family(tokenizer), options);
}

std::string describe(const std::vector<LmScore>& scores) {
  std::string text;
  for (const LmScore& score : scores) {
    char line[160];
    std::snprintf(line, sizeof line, "%s%-34s %6.1f %%  of %lld, stalled %lld",
                  text.empty() ? "" : "\n", score.name.c_str(), 100 * score.rate(),
                  static_cast<long long>(score.n), static_cast<long long>(score.stalled));
    text += line;
  }
  return text;
}

std::vector<std::string> shortfalls(const std::vector<LmScore>& scores, double share) {
  std::vector<std::string> found;
  for (const LmScore& score : scores) {
    const bool gated = score.name.starts_with("identity") ||
                       score.name.starts_with("counterfact") || score.name.starts_with("facts/");
    if (gated && score.rate() < share) found.push_back(cat(score.name, " ", score.rate()));
    if (score.stalled > 0) found.push_back(cat(score.name, " stalled ", score.stalled));
  }
  return found;
}

}  // namespace kvlingua
