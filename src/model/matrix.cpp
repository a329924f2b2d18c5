#include "matrix.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/dense.h"

namespace kvlingua {

std::string_view to_string(WeightFormat format) {
  switch (format) {
    case WeightFormat::kDense:
      return "dense";
    case WeightFormat::kNf4:
      return "nf4";
    case WeightFormat::kInt8:
      return "int8";
  }
  return "?";
}

WeightOptions weight_options(std::string_view name, bool double_quantization) {
  if (name == "auto" || name.empty()) return {};
  for (const WeightFormat format : {WeightFormat::kDense, WeightFormat::kNf4, WeightFormat::kInt8})
    if (name == to_string(format)) return {format, double_quantization};
  throw Error({.code = ExitCode::kUsage,
               .where = "weights",
               .what = "unknown format",
               .got = printable(name),
               .expected = "auto, dense, nf4 or int8"});
}

int64_t QuantizedPart::bytes() const {
  return (codes.defined() ? static_cast<int64_t>(codes.nbytes()) : 0) + scales.bytes();
}

void QuantizedPart::dequantize(const at::Tensor& out) const {
  switch (format) {
    case WeightFormat::kDense:
      at::Tensor(out).copy_(codes);
      return;
    case WeightFormat::kNf4:
      return nf4_dequantize(codes, scales, out);
    case WeightFormat::kInt8:
      return int8_dequantize(codes, scales.absmax, out);
  }
}

bool QuantizedPart::can_fuse() const {
  return format != WeightFormat::kDense &&
         columns % (format == WeightFormat::kNf4 ? scales.block : 8) == 0;
}

void QuantizedPart::to(at::Device device) {
  codes = codes.to(device);
  scales = scales.to(device);
}

void quantize(const at::Tensor& values, const WeightOptions& options, QuantizedPart& part) {
  if (part.format == WeightFormat::kInt8) {
    part.codes = at::empty({part.rows, part.columns}, at::kChar);
    part.scales.absmax = at::empty({part.rows}, at::kFloat);
    return int8_quantize(values, part.codes, part.scales.absmax);
  }
  const int64_t n = part.rows * part.columns;
  part.codes = at::empty({(n + 1) / 2}, at::kByte);
  part.scales = {};
  part.scales.absmax = at::empty({(n + kNf4Block - 1) / kNf4Block}, at::kFloat);
  nf4_quantize(values.view({-1}), part.codes, part.scales.absmax);
  if (options.double_quantization) part.scales = nf4_quantize_scales(part.scales.absmax);
}

at::Tensor Scratch::room(int64_t rows, int64_t columns, const at::TensorOptions& options) {
  const bool fits = memory_.defined() && memory_.numel() >= rows * columns &&
                    memory_.device() == options.device() &&
                    memory_.scalar_type() == c10::typeMetaToScalarType(options.dtype());
  if (!fits) {
    memory_ = at::Tensor();  // before the larger one is asked for
    memory_ = at::empty({rows * columns}, options);
  }
  return memory_.narrow(0, 0, rows * columns).view({rows, columns});
}

int64_t Matrix::size(int64_t dim) const {
  if (!quantized()) return dense_.size(dim);
  if (dim == 1) return parts_[0]->columns;
  int64_t rows = 0;
  for (const auto& part : parts_) rows += part->rows;
  return rows;
}

Matrix Matrix::narrow(int64_t dim, int64_t begin, int64_t n) const {
  if (!quantized()) return dense_.narrow(dim, begin, n);
  Parts inside;
  int64_t row = 0, covered = 0;
  for (const auto& part : parts_) {
    if (row >= begin && row + part->rows <= begin + n) {
      inside.push_back(part);
      covered += part->rows;
    }
    row += part->rows;
  }
  TORCH_CHECK(dim == 0 && covered == n, "rows of a quantised matrix that are no whole parts");
  return {std::move(inside), scratch_};
}

at::Tensor Matrix::into_scratch(at::ScalarType type) const {
  const at::Tensor all = scratch_->room(size(0), size(1), parts_[0]->codes.options().dtype(type));
  int64_t row = 0;
  for (const auto& part : parts_) {
    part->dequantize(all.narrow(0, row, part->rows));
    row += part->rows;
  }
  return all;
}

at::Tensor Matrix::dequantized(at::ScalarType type) const {
  if (!quantized()) return dense_.to(type);
  const auto held = scratch_->lock();
  return into_scratch(type).clone();
}

at::Tensor Matrix::product(const at::Tensor& x, const at::Tensor& bias) const {
  if (!quantized()) return kvlingua::dense(x, dense_, bias);
  const c10::NoGradGuard no_grad;
  const int64_t columns = x.size(-1), rows = columns == 0 ? 0 : x.numel() / columns;
  bool fuse = rows > 0 && rows <= fused_rows(x.device());
  for (const auto& part : parts_) fuse = fuse && part->can_fuse();
  if (!fuse) {
    const auto held = scratch_->lock();
    return kvlingua::dense(x, into_scratch(x.scalar_type()), bias);
  }
  const at::Tensor flat = x.reshape({rows, columns});
  std::vector<at::Tensor> outputs;
  for (const auto& part : parts_) {
    outputs.push_back(part->format == WeightFormat::kNf4
                          ? nf4_product(flat, part->codes, part->scales, part->rows)
                          : int8_product(flat, part->codes, part->scales.absmax));
  }
  at::Tensor y = outputs.size() == 1 ? outputs[0] : at::cat(outputs, 1);
  if (bias.defined()) y.add_(bias);
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return y.view(shape);
}

at::Tensor Matrix::back(const at::Tensor& dy) const {
  const c10::NoGradGuard no_grad;
  const auto held = scratch_->lock();
  return kvlingua::dense(dy, into_scratch(dy.scalar_type()).t());
}

namespace {

// Lives as long as the graph does.
struct HeldMatrix : torch::CustomClassHolder {
  explicit HeldMatrix(Matrix m) : matrix(std::move(m)) {}
  Matrix matrix;
};

class QuantizedDense : public torch::autograd::Function<QuantizedDense> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<HeldMatrix>& held,
                            const std::optional<at::Tensor>& bias) {
    context->saved_data["matrix"] = at::IValue::make_capsule(held);
    return held->matrix.product(x, bias.value_or(at::Tensor()));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto held =
        c10::static_intrusive_pointer_cast<HeldMatrix>(context->saved_data["matrix"].toCapsule());
    return {held->matrix.back(gradients[0].contiguous()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor dense(const at::Tensor& x, const Matrix& weight, const at::Tensor& bias) {
  if (!weight.quantized()) return dense(x, weight.dense(), bias);
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return weight.product(x, bias);
  return QuantizedDense::apply(x, c10::make_intrusive<HeldMatrix>(weight),
                               bias.defined() ? std::optional(bias) : std::nullopt);
}

}  // namespace kvlingua
