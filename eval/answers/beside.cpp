#include "eval/answers/beside.h"

#include <map>

#include "eval/answers/answer_store.h"
#include "eval/answers/injection.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

std::string digest_of(const Given& given) {
  Sha256 read;
  for (const std::vector<int64_t>* part : {&given.span, &given.tokens})
    read.update(part->data(), part->size() * sizeof(int64_t));
  return read.hex().substr(0, 32);
}

std::vector<Answer> answers_of(const std::vector<const Item*>& items, const Reader& reader,
                               const Beside& beside, const BesideOptions& options) {
  std::vector<Given> given;
  std::vector<std::vector<int64_t>> gold;
  for (const Item* item : items) {
    given.push_back(beside.reads(*item, reader));
    gold.push_back(item->answer);
  }
  const auto rows = answer(reader, given, options.max_new_tokens, options.batch_size);
  std::vector<Likelihood> rated;
  if (options.likelihoods) rated = likelihoods(reader, given, gold, options.batch_size, false);
  std::vector<Answer> made;
  for (size_t i = 0; i < items.size(); ++i) {
    made.push_back(to_answer(beside.condition, *items[i]->probe, rows[i], reader));
    made.back().read = digest_of(given[i]);
    if (options.likelihoods) made.back().nll_answer = rated[i].nll;
  }
  return made;
}

}  // namespace

bool answer_beside(const std::vector<std::vector<Item>>& blocks, const Beside& beside,
                   const BesideOptions& options, Answers& answers) {
  std::map<std::string, double> unused;
  AnswerStore store(
      {.file = options.file, .fingerprint = options.fingerprint, .resume = options.resume}, answers,
      unused);
  const Reader* reader = nullptr;
  for (const auto& block : blocks) {
    std::vector<const Item*> missing;
    for (const Item& item : block)
      if (!answers.has(beside.condition, item_key(*item.probe))) missing.push_back(&item);
    if (missing.empty()) continue;
    if (reader == nullptr) reader = beside.open();
    if (reader == nullptr) return false;
    for (Answer& one : answers_of(missing, *reader, beside, options)) {
      store.add(one);
      answers.add(std::move(one));
    }
    if (stop_requested()) {
      store.sync();
      throw stopped_error("answers are kept; run again to go on");
    }
  }
  store.sync();
  return true;
}

}  // namespace kvlingua
