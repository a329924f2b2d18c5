// Whose words are these? A ridge classifier over words, made of texts whose writer is known.
//
// A text is its words (scoring.h's normal form), each as sqrt(count) times the inverse document
// frequency log((1 + n) / (1 + texts that have it)) + 1, at length 1. Scores are a kernel ridge
// regression on one column a label, centred; closed form, no seed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace kvlingua {

class TextClassifier {
 public:
  // One label in 0 .. kinds - 1 a text; one text at least.
  TextClassifier(const std::vector<std::string>& texts, const std::vector<int64_t>& labels,
                 int64_t kinds, double penalty = 1);
  // -1: the text has no word that was there before.
  int64_t classify(const std::string& text) const;

 private:
  using Features = std::unordered_map<int64_t, double>;
  Features features_of(const std::string& text) const;

  std::unordered_map<std::string, int64_t> words_;
  std::vector<double> rarity_;
  std::vector<Features> texts_;
  at::Tensor weights_;  // [texts, kinds]
  at::Tensor mean_;     // [kinds]
};

}  // namespace kvlingua
