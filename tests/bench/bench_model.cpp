// One side of scripts/bench.sh prefill|decode: keeps a model loaded and times what it is told on
// stdin, a line each.
//
//   bench_model make CONFIG_DIR OUT_DIR           random weights of CONFIG_DIR/config.json, in
//                                                 bfloat16
//   bench_model serve MODEL_DIR [DEVICE] [TYPE]   then: "prefill ROWS TOKENS none|last|all",
//                                                 "decode ROWS TOKENS NEW", "peak"
// Each command is answered with seconds (peak: megabytes) on one line. Token ids are (row * 7919 +
// index * 104729) % vocab.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string_view>

#include "bench_clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/model/decode_session.h"

namespace kvlingua {
namespace {

using bench::now;

TokenBatch tokens(int64_t rows, int64_t count, int64_t vocab) {
  std::vector<std::vector<int64_t>> ids(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < count; ++i)
      ids[static_cast<size_t>(r)].push_back((r * 7919 + i * 104729) % vocab);
  }
  return TokenBatch::from_rows(ids);
}

// After what was asked of a GPU is done.
double since(double start, const at::Tensor& result) {
  if (result.is_cuda()) result.flatten()[0].item();
  return now() - start;
}

double prefill(const CausalLM& model, std::istream& in) {
  int64_t rows = 0, count = 0;
  std::string logits;
  in >> rows >> count >> logits;
  const TokenBatch batch = tokens(rows, count, model.config().vocab_size);
  PrefillOptions options;
  options.logits = logits == "none"   ? LogitsAt::kNone
                   : logits == "last" ? LogitsAt::kLast
                                      : LogitsAt::kAll;
  const double start = now();
  const PrefillResult result = model.prefill(batch, nullptr, options);
  return since(start, result.cache.values());
}

// What was read before the steps that are timed: kept from one round to the next.
struct Read {
  int64_t rows = 0, count = 0;
  KvCache cache;
  at::Tensor logits;
};

double decode(const CausalLM& model, Read& read, std::istream& in) {
  int64_t rows = 0, count = 0, fresh = 0;
  in >> rows >> count >> fresh;
  if (read.rows != rows || read.count != count) {
    DecodeSession reader(model, rows, count);
    const at::Tensor last = reader.append(tokens(rows, count, model.config().vocab_size));
    read = {rows, count, reader.cache().clone(), last};
  }
  DecodeSession session(model, read.cache, fresh);
  at::Tensor logits = read.logits;
  since(0, read.cache.values());  // the session is made
  const double start = now();
  for (int64_t i = 0; i < fresh; ++i) logits = session.step(logits.argmax(1));
  return since(start, logits);
}

double peak_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes / 1000;
  }
  return 0;
}

int serve(const std::string& directory, const std::string& device, const std::string& type) {
  const at::NoGradGuard no_grad;
  const double start = now();
  LoadOptions load{.device = resolve_device(device)};
  load.dtype = resolve_dtype(type, load.device);
  const CausalLM model = CausalLM::load(directory, load);
  std::printf("%.6f\n", now() - start);
  Read read;
  for (std::string line; std::fflush(stdout), std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    std::printf("%.6f\n", command == "prefill"  ? prefill(model, in)
                          : command == "decode" ? decode(model, read, in)
                                                : peak_megabytes());
  }
  return 0;
}

}  // namespace
}  // namespace kvlingua

int main(int argc, char** argv) {
  using namespace kvlingua;
  try {
    if (argc == 4 && std::string(argv[1]) == "make") {
      CausalLM::random(ModelConfig::from_directory(argv[2])).save(argv[3], at::kBFloat16);
      return 0;
    }
    if (argc >= 3 && argc <= 5 && std::string(argv[1]) == "serve")
      return serve(argv[2], argc > 3 ? argv[3] : "cpu", argc > 4 ? argv[4] : "float32");
    std::fprintf(stderr,
                 "usage: bench_model make CONFIG_DIR OUT_DIR | serve MODEL_DIR [DEVICE] [TYPE]\n");
    return 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
