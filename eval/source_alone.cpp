#include "eval/source_alone.h"

#include <map>

#include "eval/answer_store.h"
#include "eval/conditions/condition.h"
#include "eval/injection.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

std::string source_alone_definition() {
  return "The source model reads context and question and answers itself: how much there is to "
         "carry.";
}

namespace {

Given reads(const Probe& probe, const Reader& source) {
  Given given;
  given.tokens = source.before;
  const auto append = [&](const std::string& text) {
    const auto tokens = source.encode(text);
    given.tokens.insert(given.tokens.end(), tokens.begin(), tokens.end());
  };
  append(probe.context);
  append(probe.completion ? source.frame.after + probe.prompt
                          : "\n" + probe.prompt + source.frame.after);
  return given;
}

Answer to_answer(const Probe& probe, const Given& given, const GeneratedRow& row,
                 const Reader& source) {
  Answer answer;
  answer.condition = "source_alone";
  answer.item = item_key(probe);
  answer.family = probe.family;
  answer.form = probe.form();
  answer.group = probe.group;
  answer.read = sha256_hex(std::string_view(reinterpret_cast<const char*>(given.tokens.data()),
                                            given.tokens.size() * sizeof(int64_t)))
                    .substr(0, 32);
  answer.scored = markers_digest(probe);
  answer.ids = row.ids;
  answer.text = source.decode(row.ids);
  answer.stopped = row.stopped;
  for (float value : row.logprobs) answer.logprob += value;
  answer.score = score(probe, answer.text, static_cast<int64_t>(row.ids.size()), row.stopped);
  return answer;
}

}  // namespace

void answer_by_source(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                      const SourceAloneOptions& options, Answers& answers) {
  std::map<std::string, double> unused;
  AnswerStore store(
      {.file = options.file, .fingerprint = options.fingerprint, .resume = options.resume}, answers,
      unused);
  for (const auto& block : blocks) {
    std::vector<const Probe*> missing;
    std::vector<Given> given;
    for (const Item& item : block) {
      if (answers.has("source_alone", item_key(*item.probe))) continue;
      missing.push_back(item.probe);
      given.push_back(reads(*item.probe, source));
    }
    const auto rows = answer(source, given, options.max_new_tokens, options.batch_size);
    for (size_t i = 0; i < missing.size(); ++i) {
      Answer one = to_answer(*missing[i], given[i], rows[i], source);
      store.add(one);
      answers.add(std::move(one));
    }
    if (stop_requested()) {
      store.sync();
      throw stopped_error("answers are kept; run again to go on");
    }
  }
  store.sync();
}

}  // namespace kvlingua
