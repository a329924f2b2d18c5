#include "eval/judging/looks.h"

#include <algorithm>
#include <ctime>
#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

using Json = nlohmann::ordered_json;

Json Look::to_json() const {
  return {
      {"time", time},     {"mode", mode},   {"checkpoint", checkpoint}, {"projectors", projectors},
      {"gated", gated},   {"seeds", seeds}, {"items", items},           {"looks", looks},
      {"frozen", frozen}, {"gates", gates}, {"verdicts", verdicts},     {"met", met}};
}

Look Look::from_json(const Json& json) {
  Look look;
  look.time = json.value("time", "");
  look.mode = json.value("mode", "");
  look.checkpoint = json.value("checkpoint", "");
  look.projectors = json.value("projectors", std::vector<std::string>{});
  look.gated = json.value("gated", "");
  look.seeds = json.value("seeds", std::vector<int64_t>{});
  look.items = json.value("items", int64_t{0});
  look.looks = json.value("looks", int64_t{0});
  look.frozen = json.value("frozen", "");
  look.gates = json.value("gates", Json::object());
  look.verdicts = json.value("verdicts", Json::object());
  look.met = json.value("met", false);
  return look;
}

Looks::Looks(std::filesystem::path file) : file_(std::move(file)) { also_read(file_); }

void Looks::also_read(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return;
  std::istringstream lines(read_text_file(file));
  for (std::string line; std::getline(lines, line);) {
    // One that cannot be read was a look all the same.
    try {
      const Json json = parse_ordered_json(line, file.string());
      looks_.push_back(json.is_object() ? Look::from_json(json) : Look{});
    } catch (const std::exception&) {
      looks_.emplace_back();
    }
  }
}

bool Looks::knows_seed(int64_t seed) const {
  return std::any_of(looks_.begin(), looks_.end(), [&](const Look& look) {
    return std::find(look.seeds.begin(), look.seeds.end(), seed) != look.seeds.end();
  });
}

std::vector<Look> Looks::at(const std::string& checkpoint, const std::string& mode) const {
  std::vector<Look> found;
  for (const Look& look : looks_)
    if (look.checkpoint == checkpoint && (mode.empty() || look.mode == mode)) found.push_back(look);
  return found;
}

std::vector<Look> Looks::confirmed(const std::string& checkpoint,
                                   const std::vector<std::string>& projectors) const {
  std::vector<Look> found;
  for (const Look& look : looks_) {
    const bool shared =
        std::any_of(look.projectors.begin(), look.projectors.end(), [&](const std::string& hash) {
          return std::find(projectors.begin(), projectors.end(), hash) != projectors.end();
        });
    if (look.mode == "confirm" && (shared || look.checkpoint == checkpoint)) found.push_back(look);
  }
  return found;
}

int64_t Looks::add(Look look) {
  const auto earlier = at(look.checkpoint);
  for (size_t i = 0; i < earlier.size(); ++i)
    if (earlier[i].mode == look.mode && earlier[i].seeds == look.seeds &&
        earlier[i].items == look.items && earlier[i].frozen == look.frozen)
      return static_cast<int64_t>(i) + 1;
  try {
    make_directories(file_.parent_path());
    append_line_durable(file_, look.to_json().dump());
  } catch (const Error& error) {
    // A verdict that leaves no trace could be looked for again and again.
    if (look.mode == "confirm") throw;
    log_warning(cat("this look could not be written down: ", error.what()));
  }
  looks_.push_back(std::move(look));
  return static_cast<int64_t>(earlier.size()) + 1;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace kvlingua
