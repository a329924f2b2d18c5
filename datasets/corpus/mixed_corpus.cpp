#include "datasets/corpus/mixed_corpus.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

DataOptions options_of(const DataOptions& all, const MixedCorpusOptions& one) {
  DataOptions options = all;
  options.mix.clear();
  options.kind = one.kind;
  options.files = one.files;
  options.text_field = one.text_field;
  options.synthetic = one.synthetic;
  return options;
}

class MixedCorpus : public Corpus {
 public:
  explicit MixedCorpus(const DataOptions& options) {
    double most = std::numeric_limits<double>::infinity();  // documents per unit of weight
    std::vector<std::unique_ptr<Corpus>> corpora;
    for (const MixedCorpusOptions& one : options.mix) {
      corpora.push_back(open_corpus(options_of(options, one)));
      most = std::min(most, static_cast<double>(corpora.back()->size()) / one.weight);
    }
    for (size_t i = 0; i < corpora.size(); ++i) {
      const int64_t size = corpora[i]->size();
      const auto taken = std::clamp<int64_t>(
          static_cast<int64_t>(std::llround(most * options.mix[i].weight)), 1, size);
      parts_.push_back({std::move(corpora[i]), size_, taken,
                        Shuffle(size, mix(static_cast<uint64_t>(options.seed), i)),
                        options.mix[i].weight});
      size_ += taken;
    }
  }

  int64_t size() const override { return size_; }
  std::string place(int64_t i) const override {
    const Part& part = part_of(i);
    return part.corpus->place(part.order(i - part.first));
  }
  Document read(int64_t i) const override {
    const Part& part = part_of(i);
    Document document = part.corpus->read(part.order(i - part.first));
    document.settled = part.corpus->split_by_construction();
    return document;
  }
  nlohmann::json describe() const override {
    nlohmann::json parts = nlohmann::json::array();
    for (const Part& part : parts_) {
      nlohmann::json one = part.corpus->describe();
      one["weight"] = part.weight;
      one["taken"] = part.taken;
      parts.push_back(one);
    }
    Sha256 hash;
    hash.update(parts.dump());
    return {{"kind", "mix"}, {"sha256", hash.hex()}, {"documents", size_}, {"parts", parts}};
  }

 private:
  struct Part {
    std::unique_ptr<Corpus> corpus;
    int64_t first, taken;
    Shuffle order;
    double weight;
  };
  const Part& part_of(int64_t i) const {
    const auto next = std::upper_bound(parts_.begin(), parts_.end(), i,
                                       [](int64_t n, const Part& p) { return n < p.first; });
    return *std::prev(next);
  }

  std::vector<Part> parts_;
  int64_t size_ = 0;
};

}  // namespace

std::unique_ptr<Corpus> open_mixed_corpus(const DataOptions& options) {
  return std::make_unique<MixedCorpus>(options);
}

}  // namespace kvlingua
