#include "eval/personas/text_classifier.h"

#include <ATen/ATen.h>

#include <cmath>
#include <set>

#include "eval/answers/scoring.h"

namespace kvlingua {

namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : normalise(text) + " ") {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || byte >= 0x80 || c == '\'') {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

double product(const std::unordered_map<int64_t, double>& a,
               const std::unordered_map<int64_t, double>& b) {
  double sum = 0;
  for (const auto& [word, value] : a.size() < b.size() ? a : b) {
    const auto& other = a.size() < b.size() ? b : a;
    if (const auto at = other.find(word); at != other.end()) sum += value * at->second;
  }
  return sum;
}

}  // namespace

TextClassifier::TextClassifier(const std::vector<std::string>& texts,
                               const std::vector<int64_t>& labels, int64_t kinds, double penalty) {
  std::vector<double> has;
  for (const std::string& text : texts) {
    const auto words = words_of(text);
    for (const std::string& word : std::set<std::string>(words.begin(), words.end())) {
      const auto [at, fresh] = words_.emplace(word, static_cast<int64_t>(words_.size()));
      if (fresh) has.push_back(0);
      has[static_cast<size_t>(at->second)] += 1;
    }
  }
  const double n = static_cast<double>(texts.size());
  for (const double count : has) rarity_.push_back(std::log((1 + n) / (1 + count)) + 1);
  for (const std::string& text : texts) texts_.push_back(features_of(text));

  const auto rows = static_cast<int64_t>(texts.size());
  const at::Tensor kernel = at::empty({rows, rows}, at::kDouble);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k <= i; ++k)
      kernel.data_ptr<double>()[i * rows + k] = kernel.data_ptr<double>()[k * rows + i] =
          product(texts_[static_cast<size_t>(i)], texts_[static_cast<size_t>(k)]);
  const at::Tensor wanted = at::zeros({rows, kinds}, at::kDouble);
  for (int64_t i = 0; i < rows; ++i)
    wanted.data_ptr<double>()[i * kinds + labels[static_cast<size_t>(i)]] = 1;
  mean_ = wanted.mean(0);
  const at::Tensor regular = kernel + penalty * at::eye(rows, kernel.options());
  weights_ = at::cholesky_solve(wanted - mean_, at::linalg_cholesky(regular)).contiguous();
}

TextClassifier::Features TextClassifier::features_of(const std::string& text) const {
  Features features;
  for (const std::string& word : words_of(text))
    if (const auto at = words_.find(word); at != words_.end()) features[at->second] += 1;
  double squares = 0;
  for (auto& [word, value] : features) {
    value = std::sqrt(value) * rarity_[static_cast<size_t>(word)];
    squares += value * value;
  }
  for (auto& [word, value] : features) value /= std::sqrt(squares);
  return features;
}

int64_t TextClassifier::classify(const std::string& text) const {
  const Features features = features_of(text);
  if (features.empty()) return -1;
  const at::Tensor row = at::empty({static_cast<int64_t>(texts_.size())}, at::kDouble);
  for (size_t i = 0; i < texts_.size(); ++i)
    row.data_ptr<double>()[i] = product(features, texts_[i]);
  return (row.matmul(weights_) + mean_).argmax().item<int64_t>();
}

}  // namespace kvlingua
