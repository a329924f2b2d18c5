// What a stage of training came to: the numbers of a validation, and the line of results that
// `train --json` prints and a checkpoint's state.json keeps.
//
// Typed, so that what early stopping, the divergence guard and the ridge stage go by is read from
// members; JSON is written here alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace kvlingua {

// How well held-out cache rows are predicted (trainers/engine/validation.h); of all layers or one.
struct RowScores {
  double key_r2 = 0, value_r2 = 0;
  double key_cosine = 0, value_cosine = 0;
  std::optional<double> attention_output_cosine;  // none without the target's queries

  double mean_r2() const { return (key_r2 + value_r2) / 2; }
  bool operator==(const RowScores&) const = default;
};

// Whether the ridge map had rows enough: R2 of keys and values on rows it was fitted to, on
// held-out ones, and on held-out ones with twice as many rows, by extrapolation.
struct RidgeNumbers {
  struct R2 {
    double key = 0, value = 0;
    bool operator==(const R2&) const = default;
  };
  int64_t rows = 0, features = 0;
  double rows_per_feature = 0;
  std::optional<R2> fitted, heldout, doubled;  // none where no rows were held out

  // The learning curve, where one was asked for: held-out R2 by how many rows were fitted.
  struct Point {
    int64_t rows = 0;
    double rows_per_feature = 0;
    R2 heldout;
    bool operator==(const Point&) const = default;
  };
  std::vector<Point> curve;
  // With projector.ridge.budget: the layers that were chosen, in order, and the held-out R2 after
  // each.
  struct Choice {
    int64_t layer = 0, tokens_before = 0;
    double r2 = 0;
    bool operator==(const Choice&) const = default;
  };
  std::vector<Choice> chosen;

  bool operator==(const RidgeNumbers&) const = default;
};

struct ValidationNumbers {
  std::optional<RowScores> scores;  // none where no rows were held out
  std::vector<RowScores> per_layer;
  std::map<std::string, RowScores> baselines;  // by name: mean, token_mean
  int64_t rows = 0;
  std::optional<double> kl, kl_trained;  // nats a token, of items unseen and of items trained on
  std::optional<double> cross_entropy;   // nats a token
  std::optional<RidgeNumbers> ridge;

  // Of keys and values; NaN where none is measured.
  double mean_r2() const { return scores ? scores->mean_r2() : NAN; }
  nlohmann::ordered_json to_json() const;
  // Throws nlohmann's exceptions; their text says which key.
  static ValidationNumbers from_json(const nlohmann::json& j);
  bool operator==(const ValidationNumbers&) const = default;
};

// Of a stage that diverged and was ended at its best state.
struct Stopped {
  int64_t step = 0;
  std::string reason, remedy;

  nlohmann::ordered_json to_json() const;
  static Stopped from_json(const nlohmann::json& j);
  bool operator==(const Stopped&) const = default;
};

struct StageResult {
  std::string stage;
  int64_t steps = 0, tokens = 0;
  double seconds = 0, first_loss = 0, last_loss = 0;
  ValidationNumbers validation;
  std::optional<double> start_score;  // where the best state is kept; best_step then too
  int64_t best_step = 0;
  std::optional<double> lr;  // that a range test has chosen
  std::optional<Stopped> stopped;
  std::string checkpoint;       // the stage's folder
  nlohmann::ordered_json took;  // what the stage took in this run (stage_meter.h), or null

  nlohmann::ordered_json to_json() const;
  static StageResult from_json(const nlohmann::json& j);
};

}  // namespace kvlingua
