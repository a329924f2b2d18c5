#include "eval/answers/injection.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace kvlingua {

namespace {

using Tokens = std::vector<std::vector<int64_t>>;

std::vector<std::vector<int64_t>> spans_of(const std::vector<Given>& rows) {
  std::vector<std::vector<int64_t>> spans;
  for (const Given& row : rows) spans.push_back(row.span);
  return spans;
}

bool all_read_spans(const std::vector<Given>& rows) {
  return std::all_of(rows.begin(), rows.end(), [&](const Given& row) {
    return !row.span.empty() && row.before == rows.front().before;
  });
}

// Spans that only some rows read: the same caches as Block's, read together behind the prefix.
// Empty ones for the others.
std::vector<KvCache> read_some_spans(const Reader& target, const std::vector<Given>& rows) {
  std::vector<KvCache> caches(rows.size());
  std::vector<std::vector<int64_t>> spans;
  std::vector<size_t> whose;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].span.empty()) continue;
    spans.push_back(rows[r].span);
    whose.push_back(r);
  }
  if (spans.empty()) return caches;
  auto read = read_spans(target, spans, static_cast<int64_t>(spans.size()));
  for (size_t k = 0; k < whose.size(); ++k) caches[whose[k]] = std::move(read[k]);
  return caches;
}

// A session in which everything before the rows' own tokens stands.
DecodeSession session_of(const Reader& target, const std::vector<Given>& rows, int64_t room) {
  int64_t longest = 0, longest_span = 0;
  for (const Given& row : rows) {
    longest = std::max(longest, static_cast<int64_t>(row.tokens.size()));
    longest_span = std::max(longest_span, static_cast<int64_t>(row.span.size()));
  }
  room += longest;
  const auto n = static_cast<int64_t>(rows.size());
  if (all_read_spans(rows)) {
    const KvCache* before = rows.front().before;
    DecodeSession session =
        before == nullptr
            ? DecodeSession(*target.model, n, room + longest_span)
            : DecodeSession(*target.model, repeat_rows(*before, n), room + longest_span);
    session.append(TokenBatch::from_rows(spans_of(rows)), LogitsAt::kNone);
    return session;
  }
  const std::vector<KvCache> read = read_some_spans(target, rows);
  std::vector<std::vector<const KvCache*>> pasts;
  std::vector<int64_t> next;
  for (size_t r = 0; r < rows.size(); ++r) {
    pasts.push_back({rows[r].before, &rows[r].past, &read[r]});
    next.push_back(rows[r].position);
  }
  return DecodeSession(*target.model, pasts, std::move(next), room);
}

// Where the answers' tokens are predicted: a row's first by what it read last, the others by
// reading the ones before them.
struct AnswerRows {
  Tokens read;  // never empty rows: one with nothing to read stands in with anything
  std::vector<int64_t> places;  // (row, token) of each hidden row wanted behind the last ones
  // Of each answer token, row after row, in [last rows; rows at places].
  std::vector<int64_t> order;
};

AnswerRows answer_rows(const Tokens& answers) {
  AnswerRows out;
  const auto rows = static_cast<int64_t>(answers.size());
  for (int64_t r = 0; r < rows; ++r) {
    const auto& ids = answers[static_cast<size_t>(r)];
    for (size_t t = 0; t < ids.size(); ++t) {
      out.order.push_back(t == 0 ? r : rows + static_cast<int64_t>(out.places.size() / 2));
      if (t == 0) continue;
      out.places.push_back(r);
      out.places.push_back(static_cast<int64_t>(t) - 1);
    }
    // The last token is predicted, never read.
    out.read.emplace_back(ids.begin(), ids.empty() ? ids.end() : ids.end() - 1);
    if (out.read.back().empty()) out.read.back().push_back(0);
  }
  return out;
}

// Rows of the vocabulary that are there at once: 128 MiB of float32.
int64_t head_rows(const CausalLM& model) {
  return std::max<int64_t>(1, (int64_t{1} << 25) / std::max<int64_t>(1, model.config().vocab_size));
}

// Where an answer's tokens stand among those of its group.
struct AnswerPlace {
  size_t answer = 0;
  int64_t begin = 0, length = 0;
};
struct AnswerGroup {
  std::vector<AnswerPlace> answers;  // those that are not empty
  int64_t tokens = 0;
};

// Whole answers, as many together as `room` rows of the vocabulary hold; one at least.
std::vector<AnswerGroup> groups_of(const Tokens& answers, int64_t room) {
  std::vector<AnswerGroup> groups;
  for (size_t r = 0; r < answers.size(); ++r) {
    const auto length = static_cast<int64_t>(answers[r].size());
    if (length == 0) continue;
    if (groups.empty() || groups.back().tokens + length > room) groups.emplace_back();
    groups.back().answers.push_back({r, groups.back().tokens, length});
    groups.back().tokens += length;
  }
  return groups;
}

// KL from the references to a group's distributions, a number a token; NaN where there is none.
at::Tensor divergences(const AnswerGroup& group, const at::Tensor& log_probs, const at::Tensor& nll,
                       const References& references) {
  const at::Tensor kl = at::full_like(nll, std::nan(""));
  std::vector<at::Tensor> compared, with, where;
  for (const AnswerPlace& place : group.answers) {
    if (place.answer >= references.size() || !references[place.answer].defined()) continue;
    with.push_back(references[place.answer].to(log_probs.device()));
    compared.push_back(log_probs.narrow(0, place.begin, place.length));
    where.push_back(kl.narrow(0, place.begin, place.length));
  }
  if (with.empty()) return kl;
  const at::Tensor p = at::cat(with);
  const at::Tensor found = (p.exp() * (p - at::cat(compared))).sum(1);
  int64_t from = 0;
  for (at::Tensor& part : where) {
    part.copy_(found.narrow(0, from, part.size(0)));
    from += part.size(0);
  }
  return kl;
}

// Means over each answer of [all tokens, 2].
void put_means(const at::Tensor& numbers, const Tokens& answers, std::vector<Likelihood>& result) {
  int64_t begin = 0;
  for (size_t r = 0; r < answers.size(); ++r) {
    const auto length = static_cast<int64_t>(answers[r].size());
    if (length == 0) continue;
    const at::Tensor mean = numbers.narrow(0, begin, length).mean(0);
    result[r].nll = mean[0].item<double>();
    result[r].kl = mean[1].item<double>();
    begin += length;
  }
}

}  // namespace

ReadRows::ReadRows(const Reader& target, const std::vector<Given>& rows, int64_t room)
    : target_(&target), session_(session_of(target, rows, room)) {
  const at::NoGradGuard no_grad;
  Tokens tokens;
  std::vector<int64_t> positions;
  for (const Given& row : rows) {
    tokens.push_back(row.tokens);
    positions.push_back(row.position);
  }
  last_BC_ = session_.append_hidden(rows_at(tokens, positions));
}

at::Tensor ReadRows::predicting_rows(const Tokens& answers) const {
  const AnswerRows where = answer_rows(answers);
  at::Tensor rows = last_BC_;
  if (!where.places.empty()) {
    PrefillOptions options;
    options.logits = LogitsAt::kPositions;
    options.logit_positions = at::tensor(where.places, at::kLong).view({-1, 2});
    options.head_input_only = true;
    options.want_cache = false;
    const KvCache past = session_.cache();
    rows =
        at::cat({rows, target_->model
                           ->prefill(rows_at(where.read, session_.next_positions()), &past, options)
                           .head_input});
  }
  return rows.index_select(0, at::tensor(where.order, at::kLong).to(rows.device()));
}

std::vector<Likelihood> ReadRows::likelihoods(const Tokens& answers, bool want_distributions,
                                              const References& references) const {
  const at::NoGradGuard no_grad;
  std::vector<Likelihood> result(answers.size());
  std::vector<int64_t> wanted;
  for (const auto& ids : answers) wanted.insert(wanted.end(), ids.begin(), ids.end());
  for (Likelihood& one : result) one.nll = std::nan("");
  if (wanted.empty()) return result;
  const at::Tensor rows = predicting_rows(answers);
  const at::Tensor ids = at::tensor(wanted, at::kLong).to(rows.device()).unsqueeze(1);

  std::vector<at::Tensor> numbers;  // [tokens, 2] of NLL and KL
  int64_t token = 0;
  for (const AnswerGroup& group : groups_of(answers, head_rows(*target_->model))) {
    const at::Tensor log_probs =
        at::log_softmax(target_->model->head(rows.narrow(0, token, group.tokens)), 1);
    const at::Tensor nll = log_probs.gather(1, ids.narrow(0, token, group.tokens)).squeeze(1).neg();
    if (want_distributions)
      for (const AnswerPlace& place : group.answers)
        result[place.answer].log_probs_TV = log_probs.narrow(0, place.begin, place.length);
    numbers.push_back(at::stack({nll, divergences(group, log_probs, nll, references)}, 1));
    token += group.tokens;
  }
  put_means(at::cat(numbers).to(at::kCPU, at::kDouble), answers, result);
  return result;
}

std::vector<GeneratedRow> ReadRows::answer(int64_t max_new_tokens) {
  return generate_from(*target_->model, session_, target_->model->head(last_BC_),
                       {.max_new_tokens = max_new_tokens, .stop_ids = target_->stop_ids});
}

std::vector<GeneratedRow> answer(const Reader& target, const std::vector<Given>& rows,
                                 int64_t max_new_tokens, int64_t batch_size) {
  std::vector<GeneratedRow> answers;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    ReadRows read(
        target,
        {rows.begin() + static_cast<int64_t>(begin), rows.begin() + static_cast<int64_t>(end)},
        max_new_tokens);
    for (auto& row : read.answer(max_new_tokens)) answers.push_back(std::move(row));
  });
  return answers;
}

Answer to_answer(const std::string& condition, const Probe& probe, const GeneratedRow& row,
                 const Reader& reader) {
  Answer answer;
  answer.condition = condition;
  answer.item = item_key(probe);
  answer.family = probe.family;
  answer.form = probe.form();
  answer.group = probe.group;
  answer.scored = markers_digest(probe);
  answer.ids = row.ids;
  answer.text = reader.decode(row.ids);
  answer.stopped = row.stopped;
  for (float value : row.logprobs) answer.logprob += value;
  answer.score = score(probe, answer.text, static_cast<int64_t>(row.ids.size()), row.stopped);
  return answer;
}

std::vector<Likelihood> likelihoods(const Reader& target, const std::vector<Given>& rows,
                                    const Tokens& answers, int64_t batch_size,
                                    bool want_distributions) {
  std::vector<Likelihood> result;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    const auto first = static_cast<int64_t>(begin), last = static_cast<int64_t>(end);
    const ReadRows read(target, {rows.begin() + first, rows.begin() + last});
    for (auto& one :
         read.likelihoods({answers.begin() + first, answers.begin() + last}, want_distributions))
      result.push_back(std::move(one));
  });
  return result;
}

}  // namespace kvlingua
