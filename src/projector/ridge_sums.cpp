#include "kvlingua/projector/ridge_sums.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/accumulate.h"

namespace kvlingua {
namespace {

constexpr int64_t kPanel = 2048;  // columns of a product that is added at once
constexpr int64_t kGramPanel = 1024;
constexpr size_t kWaiting = 32;  // corrections added at once

// What is side by side in one problem: keys or values alone, or both. Each [N, channels] float32.
std::vector<at::Tensor> parts_of(const CacheRows& rows, int64_t problem, bool joint,
                                 at::Device device) {
  std::vector<at::Tensor> parts;
  for (int64_t part = 0; part < 2; ++part) {
    if (!joint && part != problem) continue;
    const at::Tensor& x = part == 0 ? rows.keys_NLHD : rows.values_NLHD;
    parts.push_back(x.reshape({x.size(0), -1}).to(device, at::kFloat));
  }
  return parts;
}

}  // namespace

std::vector<int64_t> evenly_spaced(int64_t count, int64_t layers) {
  const int64_t n = count > 0 ? std::min(count, layers) : layers;
  std::vector<int64_t> chosen;
  for (int64_t i = 1; i <= n; ++i) chosen.push_back(i * layers / n - 1);
  return chosen;
}

RidgeSums::RidgeSums(const KvShape& source, const KvShape& target, bool joint, at::Device device,
                     std::vector<int64_t> candidates)
    : source_(source), target_(target), joint_(joint), candidates_(std::move(candidates)) {
  if (candidates_.empty()) candidates_ = evenly_spaced(0, source.layers);
  candidate_index_ = at::tensor(candidates_, at::kLong);
  const int64_t problems = joint ? 1 : 2, per = joint ? 2 : 1;
  const int64_t f = per * static_cast<int64_t>(candidates_.size()) * source.width();
  const int64_t g = per * target.layers * target.width();
  const auto options = at::device(device).dtype(at::kDouble);
  gram_ = at::zeros({problems, f, f}, options);
  cross_ = at::zeros({problems, f, g}, options);
  mean_x_ = at::zeros({problems, f}, options);
  mean_y_ = at::zeros({problems, g}, options);
  square_y_ = at::zeros({problems, g}, options);
}

int64_t RidgeSums::bytes(const KvShape& source, const KvShape& target, bool joint,
                         int64_t candidates) {
  const int64_t problems = joint ? 1 : 2, per = joint ? 2 : 1;
  const int64_t layers = candidates > 0 ? std::min(candidates, source.layers) : source.layers;
  const int64_t f = per * layers * source.width(), g = per * target.layers * target.width();
  return 8 * problems * (f * f + f * g + f + 2 * g);
}

void RidgeSums::add(const CacheRows& source, const CacheRows& target) {
  const int64_t n = source.rows();
  if (source.shape() != source_ || target.shape() != target_ || target.rows() != n) {
    throw Error({.code = ExitCode::kInput,
                 .where = "ridge",
                 .what = "rows do not fit the sums",
                 .got = cat(source.shape().describe(), " to ", target.shape().describe(), ", ", n,
                            " and ", target.rows(), " rows"),
                 .expected = cat(source_.describe(), " to ", target_.describe())});
  }
  if (n == 0) return;
  const c10::NoGradGuard no_grad;
  const bool every = static_cast<int64_t>(candidates_.size()) == source_.layers;
  const at::Tensor index = candidate_index_.to(source.keys_NLHD.device());
  const CacheRows read = every ? source
                               : CacheRows{source.keys_NLHD.index_select(1, index),
                                           source.values_NLHD.index_select(1, index)};
  const at::Tensor block_x = at::empty_like(mean_x_), block_y = at::empty_like(mean_y_);
  for (int64_t p = 0; p < problems(); ++p) {
    const at::Tensor x = centred(parts_of(read, p, joint_, device()), block_x[p]);
    add_gram(x, gram_[p]);
    int64_t column = 0;
    for (const at::Tensor& y : parts_of(target, p, joint_, device())) {
      add_cross(x, y, p, column, block_y[p]);
      column += y.size(1);
    }
  }
  mirrored_ = false;

  // The block's own mean differs from the mean so far; what that adds is a product of two vectors.
  const double total = static_cast<double>(count_ + n), weight = count_ * (n / total);
  const at::Tensor dx = block_x - mean_x_, dy = block_y - mean_y_;
  if (count_ > 0) {
    waiting_x_.push_back(dx * std::sqrt(weight));
    waiting_y_.push_back(dy * std::sqrt(weight));
    if (waiting_x_.size() == kWaiting) correct();
    square_y_.add_(dy.square() * weight);
  }
  mean_x_.add_(dx * (n / total));
  mean_y_.add_(dy * (n / total));
  count_ += n;
}

at::Tensor RidgeSums::room(at::Tensor& scratch, int64_t rows, int64_t columns) const {
  if (!scratch.defined() || scratch.numel() < rows * columns)
    scratch = at::empty({rows * columns}, at::device(device()).dtype(at::kFloat));
  return scratch.narrow(0, 0, rows * columns).view({rows, columns});
}

// The features of one problem about the block's own means, which go to `means`.
at::Tensor RidgeSums::centred(const std::vector<at::Tensor>& parts, const at::Tensor& means) {
  const at::Tensor x = room(x_, parts[0].size(0), features());
  int64_t column = 0;
  for (const at::Tensor& part : parts) {
    const at::Tensor mean = column_means(part);
    means.narrow(0, column, part.size(1)).copy_(mean);
    centre_columns(part, mean, x.narrow(1, column, part.size(1)), {});
    column += part.size(1);
  }
  return x;
}

// In panels: the float32 products of a panel are still near when they are added in float64. Of the
// symmetric matrix only what stands on and above the panels of the diagonal.
void RidgeSums::add_gram(const at::Tensor& x, const at::Tensor& gram) {
  for (int64_t begin = 0; begin < x.size(1); begin += kGramPanel) {
    const int64_t width = std::min(kGramPanel, x.size(1) - begin), end = begin + width;
    at::Tensor product = room(product_, end, width);
    at::mm_out(product, x.narrow(1, 0, end).t(), x.narrow(1, begin, width));
    add_to_double(gram.narrow(0, 0, end).narrow(1, begin, width), product);
  }
}

void RidgeSums::add_cross(const at::Tensor& x, const at::Tensor& y, int64_t problem, int64_t column,
                          const at::Tensor& means) {
  for (int64_t begin = 0; begin < y.size(1); begin += kPanel) {
    const int64_t width = std::min(kPanel, y.size(1) - begin), at = column + begin;
    const at::Tensor panel = y.narrow(1, begin, width), mean = column_means(panel);
    means.narrow(0, at, width).copy_(mean);
    const at::Tensor centred = room(y_, y.size(0), width);
    centre_columns(panel, mean, centred, square_y_[problem].narrow(0, at, width));
    at::Tensor product = room(product_, features(), width);
    at::mm_out(product, x.t(), centred);
    add_to_double(cross_[problem].narrow(1, at, width), product);
  }
}

void RidgeSums::correct() const {
  if (waiting_x_.empty()) return;
  const c10::NoGradGuard no_grad;
  const at::Tensor x = at::stack(waiting_x_, 2),
                   y = at::stack(waiting_y_, 1);  // [P, F, n], [P, n, G]
  at::Tensor(gram_).baddbmm_(x, x.transpose(1, 2));
  at::Tensor(cross_).baddbmm_(x, y);
  waiting_x_.clear();
  waiting_y_.clear();
}

void RidgeSums::settle() const {
  correct();
  if (mirrored_) return;
  const c10::NoGradGuard no_grad;
  for (int64_t begin = kGramPanel; begin < features(); begin += kGramPanel) {
    const int64_t width = std::min(kGramPanel, features() - begin);
    gram_.narrow(1, begin, width)
        .narrow(2, 0, begin)
        .copy_(gram_.narrow(1, 0, begin).narrow(2, begin, width).transpose(1, 2));
  }
  mirrored_ = true;
}

void RidgeSums::merge(const RidgeSums& other) {
  if (other.source_ != source_ || other.target_ != target_ || other.joint_ != joint_ ||
      other.candidates_ != candidates_) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = "ridge",
         .what = "sums of two problems cannot be merged",
         .got = cat(other.source_.describe(), " to ", other.target_.describe(),
                    other.joint_ ? ", joint" : ""),
         .expected = cat(source_.describe(), " to ", target_.describe(), joint_ ? ", joint" : "")});
  }
  if (other.count_ == 0) return;
  const c10::NoGradGuard no_grad;
  settle();
  const double total = static_cast<double>(count_ + other.count_),
               weight = count_ * (other.count_ / total);
  const at::Tensor dx = other.mean_x_.to(device()) - mean_x_,
                   dy = other.mean_y_.to(device()) - mean_y_;
  gram_.add_(other.gram().to(device()));
  cross_.add_(other.cross().to(device()));
  square_y_.add_(other.square_y_.to(device()));
  if (count_ > 0) {
    gram_.baddbmm_(dx.unsqueeze(2) * weight, dx.unsqueeze(1));
    cross_.baddbmm_(dx.unsqueeze(2) * weight, dy.unsqueeze(1));
    square_y_.add_(dy.square() * weight);
  }
  mean_x_.add_(dx * (other.count_ / total));
  mean_y_.add_(dy * (other.count_ / total));
  count_ += other.count_;
}

RidgeSums RidgeSums::clone() const {
  settle();
  RidgeSums copy(*this);
  for (at::Tensor* t : {&copy.gram_, &copy.cross_, &copy.mean_x_, &copy.mean_y_, &copy.square_y_})
    *t = t->clone();
  return copy;
}

RidgeSums RidgeSums::about(const at::Tensor& mean_x, const at::Tensor& mean_y) const {
  settle();
  RidgeSums shifted(*this);
  const at::Tensor dx = mean_x_ - mean_x, dy = mean_y_ - mean_y;
  const double n = static_cast<double>(count_);
  shifted.gram_ = at::baddbmm(gram_, dx.unsqueeze(2) * n, dx.unsqueeze(1));
  shifted.cross_ = at::baddbmm(cross_, dx.unsqueeze(2) * n, dy.unsqueeze(1));
  shifted.square_y_ = square_y_ + dy.square() * n;
  shifted.mean_x_ = mean_x.clone();
  shifted.mean_y_ = mean_y.clone();
  return shifted;
}

RidgeSums RidgeSums::first_layers(int64_t layers) const {
  settle();
  std::vector<int64_t> kept;
  for (const int64_t layer : candidates_) {
    if (layer < layers) kept.push_back(layer);
  }
  const int64_t all = static_cast<int64_t>(candidates_.size()) * source_.width(),
                some = static_cast<int64_t>(kept.size()) * source_.width();
  at::Tensor index = at::arange(some, gram_.options().dtype(at::kLong));
  if (joint_) index = at::cat({index, index + all});
  RidgeSums part({layers, source_.kv_heads, source_.head_dim}, target_, joint_, device(), kept);
  part.gram_ = gram_.index_select(1, index).index_select(2, index);
  part.cross_ = cross_.index_select(1, index);
  part.mean_x_ = mean_x_.index_select(1, index);
  part.mean_y_ = mean_y_.clone();
  part.square_y_ = square_y_.clone();
  part.count_ = count_;
  return part;
}

NamedTensors RidgeSums::tensors() const {
  settle();
  return {{"count", at::tensor({count_}, at::kLong)},
          {"candidates", candidate_index_},
          {"gram", gram_},
          {"cross", cross_},
          {"mean_x", mean_x_},
          {"mean_y", mean_y_},
          {"square_y", square_y_}};
}

void RidgeSums::load(const std::map<std::string, at::Tensor>& tensors, const std::string& where) {
  for (auto& [name, mine] : this->tensors()) {
    const auto found = tensors.find(name);
    if (found == tensors.end() || found->second.sizes() != mine.sizes() ||
        (name == "candidates" && !found->second.equal(mine))) {
      std::ostringstream got, expected;
      if (found != tensors.end()) got << found->second.sizes();
      expected << mine.sizes();
      throw Error(
          {.code = ExitCode::kInput,
           .where = cat(where, ": tensor ", name),
           .what = "does not fit these sums",
           .got = found == tensors.end() ? "none" : got.str(),
           .expected = expected.str(),
           .remedy = "the sums belong to another pair or feature choice; gather them again"});
    }
    if (name != "count" && name != "candidates") mine.copy_(found->second);
  }
  count_ = tensors.at("count").item<int64_t>();
}

void RidgeSums::sum_over(const std::function<void(at::Tensor&)>& sum) {
  settle();
  const c10::NoGradGuard no_grad;
  const double mine = static_cast<double>(count_);
  at::Tensor count = at::full({1}, mine, mean_x_.options()), mean_x = mean_x_ * mine,
             mean_y = mean_y_ * mine;
  for (at::Tensor* t : {&count, &mean_x, &mean_y}) sum(*t);
  const double total = count.item<double>();
  if (total == 0) return;
  mean_x.div_(total);
  mean_y.div_(total);
  const at::Tensor dx = mean_x_ - mean_x, dy = mean_y_ - mean_y;
  gram_.baddbmm_(dx.unsqueeze(2) * mine, dx.unsqueeze(1));
  cross_.baddbmm_(dx.unsqueeze(2) * mine, dy.unsqueeze(1));
  square_y_.add_(dy.square() * mine);
  for (at::Tensor* t : {&gram_, &cross_, &square_y_}) sum(*t);
  mean_x_ = mean_x;
  mean_y_ = mean_y;
  count_ = std::llround(total);
}

}  // namespace kvlingua
