// The report of `kvlingua inspect` for people.
#include <cstdio>

#include "kvlingua/base/error.h"
#include "kvlingua/model/inspect.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

template <class... Args>
std::string line(const char* format, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

std::string bytes(double n) {
  const char* const units[] = {"B", "KB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (n >= 1000 && unit < 4) n /= 1000, ++unit;
  return line(unit == 0 ? "%.0f %s" : "%.2f %s", n, units[unit]);
}

std::string prompt_table(const Json& p) {
  std::string out = cat("prompt ", p["prompt"].dump(-1, ' ', false, Json::error_handler_t::replace),
                        "\n  ", p["seq_len"].get<int64_t>(), " tokens, ", bytes(p["total_bytes"]),
                        "\n  layer  key shape          key norm  rank   value norm  rank\n");
  for (const Json& layer : p["layers"]) {
    out += line("  %5ld  %-16s %10.2f %5ld %12.2f %5ld\n", layer["layer"].get<long>(),
                layer["key_shape"].dump().c_str(), layer["key_norm"].get<double>(),
                layer["key_effective_rank"].get<long>(), layer["value_norm"].get<double>(),
                layer["value_effective_rank"].get<long>());
  }
  return out;
}

}  // namespace

std::string inspect_table(const Json& report) {
  const Json& first = report.at("prompts").at(0);
  std::string out =
      cat(first["model"].get<std::string>(), "  ", first["architecture"].get<std::string>(), "\n",
          first["num_layers"].get<int64_t>(), " layers x ", first["num_kv_heads"].get<int64_t>(),
          " KV heads x ", first["head_dim"].get<int64_t>(), " channels, ",
          first["dtype"].get<std::string>(), ": ", first["bytes_per_token"].get<int64_t>(),
          " bytes a token\n");
  for (const Json& row : report["projected"])
    out += line("  %5ld tokens  %s\n", row["tokens"].get<long>(), bytes(row["bytes"]).c_str());
  for (const Json& prompt : report["prompts"]) out += "\n" + prompt_table(prompt);
  if (report.contains("determinism")) {
    const Json& d = report["determinism"];
    out += cat("\ndeterminism: ", d["runs"].get<int64_t>(), " runs of ",
               d["new_tokens"].get<int64_t>(),
               " tokens: ", d["identical"].get<bool>() ? "same text, same bits" : "runs differ",
               "\n  without a cache: ",
               d["uncached_text_identical"].get<bool>() ? "same text" : "another text",
               line(", logits within %.1e\n", d["uncached_max_logit_difference"].get<double>()));
  }
  if (report.contains("bench")) {
    out += "\ncontext   cached tok/s   uncached tok/s   speed-up\n";
    for (const Json& row : report["bench"]) {
      out += line("%7ld %14.1f %16.2f %9.1fx\n", row["context"].get<long>(),
                  row["cached_tokens_per_second"].get<double>(),
                  row["uncached_tokens_per_second"].get<double>(), row["speedup"].get<double>());
    }
  }
  return out;
}

}  // namespace kvlingua
