#include "kvlingua/projector/ridge_choice.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace kvlingua {
namespace {

// One problem on the way: its moments with what was chosen taken out.
struct Left {
  RidgeMoments fit, judge;
  double shift;  // of the diagonal
};

at::Tensor rows(const at::Tensor& m, const at::Tensor& index) { return m.index_select(0, index); }

// (C_bb + shift I)^-1 of the block's rows of `right`.
at::Tensor solved(const Left& left, const at::Tensor& block, const at::Tensor& right) {
  at::Tensor own = rows(left.fit.c, block).index_select(1, block);
  own.diagonal().add_(left.shift);
  return at::cholesky_solve(right, std::get<0>(at::linalg_cholesky_ex(own)));
}

// What the map w of this block alone adds to the squared error of all targets.
double added_error(const RidgeMoments& m, const at::Tensor& block, const at::Tensor& w) {
  const at::Tensor own = rows(m.c, block).index_select(1, block);
  return (w * (at::mm(own, w) - 2 * rows(m.p, block))).sum().item<double>();
}

// Takes out of all features what `over` [block, F] predicts of them from the block, and of the
// targets what `w` does.
void take_out(RidgeMoments& m, const at::Tensor& block, const at::Tensor& over,
              const at::Tensor& w) {
  const at::Tensor across = rows(m.c, block), own = across.index_select(1, block),
                   with = rows(m.p, block);
  const at::Tensor rest = across - at::mm(own, over);  // the block with what is left of the others
  m.y = m.y + (w * (at::mm(own, w) - 2 * with)).sum(0);
  m.p.sub_(at::mm(over.t(), with)).sub_(at::mm(rest.t(), w));
  m.c.sub_(at::mm(over.t(), across)).sub_(at::mm(rest.t(), over));
}

}  // namespace

BlockChoice choose_blocks(const std::vector<RidgeMoments>& fit,
                          const std::vector<RidgeMoments>& judge, int64_t width, int64_t parts,
                          int64_t budget, double lambda) {
  const c10::NoGradGuard no_grad;
  std::vector<Left> problems;
  double total = 0, error = 0;
  for (size_t i = 0; i < fit.size(); ++i) {
    const auto copied = [](const RidgeMoments& m) {
      return RidgeMoments{m.c.clone(), m.p.clone(), m.y};
    };
    problems.push_back(
        {copied(fit[i]), copied(judge[i]), lambda * fit[i].c.diagonal().mean().item<double>()});
    total += judge[i].y.sum().item<double>();
  }
  error = total;
  const int64_t run = fit.front().c.size(0) / parts, blocks = run / width;
  const auto channels = [&](int64_t block) {
    const at::Tensor first =
        at::arange(width, fit.front().c.options().dtype(at::kLong)) + block * width;
    std::vector<at::Tensor> index;
    for (int64_t part = 0; part < parts; ++part) index.push_back(first + part * run);
    return at::cat(index);
  };
  std::vector<int64_t> open(static_cast<size_t>(blocks));
  for (int64_t b = 0; b < blocks; ++b) open[static_cast<size_t>(b)] = b;

  BlockChoice choice;
  while (!open.empty() && static_cast<int64_t>(choice.blocks.size()) < budget) {
    double least = 0;
    size_t best = open.size();
    for (size_t i = 0; i < open.size(); ++i) {
      const at::Tensor block = channels(open[i]);
      double added = 0;
      for (const Left& left : problems)
        added += added_error(left.judge, block, solved(left, block, rows(left.fit.p, block)));
      if (best == open.size() || added < least) least = added, best = i;
    }
    const at::Tensor block = channels(open[best]);
    for (Left& left : problems) {
      const at::Tensor over = solved(left, block, rows(left.fit.c, block)),
                       w = solved(left, block, rows(left.fit.p, block));
      take_out(left.fit, block, over, w);
      take_out(left.judge, block, over, w);
    }
    error += least;
    choice.blocks.push_back(open[best]);
    choice.r2.push_back(1 - error / total);
    open.erase(open.begin() + static_cast<int64_t>(best));
  }
  return choice;
}

}  // namespace kvlingua
