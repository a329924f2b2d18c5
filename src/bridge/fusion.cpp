#include "kvlingua/bridge/fusion.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

struct Run {
  size_t begin, end;
  int64_t selector;
};

std::vector<Run> cut(const FusionSample& sample) {
  std::vector<Run> runs;
  for (size_t i = 0; i < sample.selector.size(); ++i) {
    if (runs.empty() || runs.back().selector != sample.selector[i])
      runs.push_back({i, i, sample.selector[i]});
    runs.back().end = i + 1;
  }
  return runs;
}

[[noreturn]] void refuse(const std::string& what, const std::string& got,
                         const std::string& expected) {
  throw Error({.code = ExitCode::kInput,
               .where = "fusion batch",
               .what = what,
               .got = got,
               .expected = expected});
}

void check_sample(const FusionSample& s) {
  const size_t n = s.target_ids.size();
  bool fits = s.selector.size() == n && s.labels.size() == n;
  for (const auto& ids : s.source_ids) fits = fits && ids.size() == n;
  fits = fits && (s.target_real.empty() || s.target_real.size() == n);
  for (const auto& real : s.source_real) fits = fits && real.size() == n;
  fits = fits && (s.source_real.empty() || s.source_real.size() == s.source_ids.size());
  if (!fits)
    refuse("a sample's lists differ in length",
           cat(s.selector.size(), " selectors, ", s.labels.size(), " labels"), cat(n, " tokens"));
}

// Every sample cut into its sections.
std::vector<std::vector<Run>> runs_of(const std::vector<FusionSample>& samples) {
  if (samples.empty()) refuse("no samples", "0", "at least one");
  std::vector<std::vector<Run>> runs;
  for (const FusionSample& s : samples) {
    check_sample(s);
    if (s.source_ids.size() != samples[0].source_ids.size())
      refuse("samples with different numbers of sources", cat(s.source_ids.size()),
             cat(samples[0].source_ids.size()));
    runs.push_back(cut(s));
  }
  return runs;
}

struct SectionSize {
  int64_t width = 0, selector = 0;
};

// Of section k: the longest of all samples that have one, at most `most`, and their one selector.
SectionSize size_of(const std::vector<std::vector<Run>>& runs, size_t k, int64_t most) {
  SectionSize size;
  bool first = true;
  for (const auto& r : runs) {
    if (k >= r.size()) continue;
    if (!first && r[k].selector != size.selector) {
      refuse(cat("samples select differently in section ", k), cat(r[k].selector),
             cat(size.selector, ", as the first sample"));
    }
    size.selector = r[k].selector;
    first = false;
    size.width = std::max(size.width, static_cast<int64_t>(r[k].end - r[k].begin));
  }
  size.width = std::min(size.width, most);
  return size;
}

// Padding alone.
FusionSection empty_section(const std::vector<FusionSample>& samples, const SectionSize& size,
                            int64_t pad_id) {
  const std::vector<int64_t> shape{static_cast<int64_t>(samples.size()), size.width};
  FusionSection section{.selector = size.selector};
  section.target.ids_BT = at::full(shape, pad_id, at::kLong);
  section.target.mask_BT = at::zeros(shape, at::kBool);
  section.target.positions_BT = at::zeros(shape, at::kLong);
  for (size_t j = 0; j < samples[0].source_ids.size(); ++j) {
    section.source_ids.push_back(at::full(shape, pad_id, at::kLong));
    section.source_masks.push_back(at::zeros(shape, at::kBool));
  }
  return section;
}

// One sample's part of a section into its row. Returns how many real tokens the target has there.
int64_t fill_row(const FusionSample& s, const Run& run, int64_t row, FusionSection& section,
                 const at::Tensor& labels) {
  const int64_t width = labels.size(1);
  const auto begin = static_cast<int64_t>(run.begin);
  const int64_t n = std::min(static_cast<int64_t>(run.end) - begin, width);
  const auto put = [&](const at::Tensor& into, const std::vector<int64_t>& from) {
    std::copy_n(from.begin() + begin, n, into.data_ptr<int64_t>() + row * width);
  };
  const auto mark = [&](const at::Tensor& into, const std::vector<bool>* real) {
    bool* out = into.data_ptr<bool>() + row * width;
    for (int64_t i = 0; i < n; ++i)
      out[i] = real == nullptr || (*real)[static_cast<size_t>(begin + i)];
    return std::count(out, out + n, true);
  };
  put(section.target.ids_BT, s.target_ids);
  put(labels, s.labels);
  for (size_t j = 0; j < s.source_ids.size(); ++j) {
    put(section.source_ids[j], s.source_ids[j]);
    mark(section.source_masks[j], s.source_real.empty() ? nullptr : &s.source_real[j]);
  }
  int64_t* positions = section.target.positions_BT.data_ptr<int64_t>() + row * width;
  std::iota(positions, positions + n, begin);
  return mark(section.target.mask_BT, s.target_real.empty() ? nullptr : &s.target_real);
}

// What the last section teaches.
void gather_answers(const at::Tensor& labels, FusionBatch& batch) {
  const at::Tensor next = labels.narrow(1, std::min<int64_t>(1, labels.size(1)),
                                        std::max<int64_t>(labels.size(1) - 1, 0));
  batch.logit_positions = next.ne(kIgnoredLabel).nonzero();
  batch.answers = next.masked_select(next.ne(kIgnoredLabel));
  if (batch.answers.numel() == 0)
    refuse("nothing is left to learn", "no labels in the last section",
           "an answer; raise max_length");
}

}  // namespace

FusionSample chat_fusion_sample(const std::vector<int64_t>& ids, int64_t prompt_tokens) {
  const auto n = static_cast<int64_t>(ids.size());
  if (prompt_tokens < 2 || prompt_tokens >= n) {
    refuse("a prompt that leaves nothing to fuse or to learn",
           cat(prompt_tokens, " of ", n, " tokens"), "2 prompt tokens and an answer");
  }
  FusionSample sample;
  sample.target_ids = ids;
  sample.labels = ids;
  std::fill_n(sample.labels.begin(), prompt_tokens, kIgnoredLabel);
  sample.selector.assign(ids.size(), -1);
  std::fill_n(sample.selector.begin(), prompt_tokens - 1, 1);
  return sample;
}

FusionBatch FusionBatch::to(at::Device device) const {
  FusionBatch out = *this;
  for (at::Tensor* t : {&out.logit_positions, &out.answers}) {
    *t = device.is_cuda() && t->is_cpu()
             ? t->pin_memory().to(device, t->scalar_type(), /*non_blocking=*/true)
             : t->to(device);
  }
  return out;
}

FusionBatch collate_fusion(const std::vector<FusionSample>& samples, int64_t pad_id,
                           int64_t max_tokens) {
  const std::vector<std::vector<Run>> runs = runs_of(samples);
  const size_t sections = std::ranges::max(runs, {}, &std::vector<Run>::size).size();
  FusionBatch batch;
  at::Tensor labels;  // of the newest section
  int64_t left = max_tokens > 0 ? max_tokens : INT64_MAX;
  for (size_t k = 0; k < sections && left > 0; ++k) {
    const SectionSize size = size_of(runs, k, left);
    left -= size.width;
    FusionSection section = empty_section(samples, size, pad_id);
    labels = at::full_like(section.target.ids_BT, kIgnoredLabel);
    for (size_t row = 0; row < samples.size(); ++row)
      if (k < runs[row].size())
        batch.tokens +=
            fill_row(samples[row], runs[row][k], static_cast<int64_t>(row), section, labels);
    batch.sections.push_back(std::move(section));
  }
  if (batch.sections.size() < 2)
    refuse("only one section is left", cat(batch.sections.size()),
           "a fused prompt and an answer; raise max_length");
  gather_answers(labels, batch);
  return batch;
}

KvCache read_source(const CausalLM& source, const FusionBatch& batch, size_t source_index,
                    bool with_answer) {
  c10::NoGradGuard no_grad;
  std::vector<at::Tensor> ids, masks, positions;
  for (size_t k = 0; k < sections_read(batch, with_answer); ++k) {
    const FusionSection& s = batch.sections[k];
    ids.push_back(s.source_ids.empty() ? s.target.ids_BT : s.source_ids.at(source_index));
    masks.push_back(s.source_masks.empty() ? s.target.mask_BT : s.source_masks.at(source_index));
    positions.push_back(s.target.positions_BT);
  }
  return source.prefill({at::cat(ids, 1), at::cat(masks, 1), at::cat(positions, 1)}).cache;
}

KvCache fused_prefill(const CausalLM& target, const std::vector<FusionSource>& sources,
                      const std::vector<KvCache>& source_caches, const FusionBatch& batch,
                      FusionOrder order, const C2CFuser::Mode& mode, KvCache* clean) {
  KvCache past;
  int64_t begin = 0;
  for (size_t k = 0; k + 1 < batch.sections.size(); ++k) {
    const FusionSection& section = batch.sections[k];
    const int64_t n = section.target.ids_BT.size(1);
    const KvCache own = target.prefill(section.target, past.empty() ? nullptr : &past).cache;
    KvCache slice = own;
    at::Tensor key_sum, value_sum;
    for (size_t j = 0; j < sources.size(); ++j) {
      if (section.selector <= 0 || !(section.selector >> j & 1)) continue;
      const KvCache source = source_caches.at(j).slice(begin, begin + n);
      const KvCache& base = order == FusionOrder::kSequential ? slice : own;
      const KvCache fused = sources[j].fuser->fuse(source, base, mode);
      if (order == FusionOrder::kSequential) {
        slice = fused.to(target.device(), target.dtype());
        continue;
      }
      const at::Tensor key_delta = fused.keys() - own.keys(),
                       value_delta = fused.values() - own.values();
      key_sum = key_sum.defined() ? key_sum + key_delta : key_delta;
      value_sum = value_sum.defined() ? value_sum + value_delta : value_delta;
    }
    if (key_sum.defined()) {
      slice = KvCache((own.keys() + key_sum).to(target.dtype()),
                      (own.values() + value_sum).to(target.dtype()), own.positions(), own.rope(),
                      own.mask());
    }
    if (clean != nullptr) *clean = KvCache::concat(past, own).detach();
    past = KvCache::concat(past, slice);
    begin += n;
  }
  return past;
}

KvCache fused_answer(const CausalLM& target, const FusionSource& source,
                     const KvCache& source_cache, const KvCache& clean, const FusionBatch& batch,
                     const C2CFuser::Mode& mode) {
  KvCache own;
  {
    const c10::NoGradGuard no_grad;
    own = target.prefill(batch.sections.back().target, &clean).cache;
  }
  const int64_t n = own.tokens(), all = source_cache.tokens();
  return source.fuser->fuse(source_cache.slice(all - n, all), own, mode)
      .to(target.device(), target.dtype());
}

FusionLoss fusion_loss(const CausalLM& target, const KvCache& fused_past, const FusionBatch& batch,
                       bool checkpoint_activations, const KvCache* answer) {
  const TokenBatch& last = batch.sections.back().target;
  const int64_t n =
      last.ids_BT.size(1) - 1;  // the very last token predicts nothing: it need not be read
  PrefillOptions options;
  options.checkpoint_activations = checkpoint_activations;
  options.want_cache = false;
  options.logits = LogitsAt::kPositions;
  options.logit_positions = batch.logit_positions;
  const KvCache given = answer != nullptr ? answer->slice(0, n) : KvCache();
  if (answer != nullptr) options.given = &given;
  options.head_input_only = true;
  const PrefillResult result =
      target.prefill({last.ids_BT.narrow(1, 0, n), last.mask_BT.narrow(1, 0, n),
                      last.positions_BT.narrow(1, 0, n)},
                     &fused_past, options);
  return {target.head_losses(result.head_input, {.answers_N = batch.answers}).cross_entropy,
          batch.answers.numel()};
}

}  // namespace kvlingua
