#include "kvlingua/config/options_json.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"
#include "kvlingua/base/guard.h"
#include "kvlingua/config/world.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

bool result_on_stdout = false;  // once, whether it got through or not

class JsonWriter : public OptionVisitor {
 public:
  explicit JsonWriter(Json& root) : stack_{&root} { root = Json::object(); }
  void field(std::string_view name, bool& v, const FieldInfo&) override { put(name, v); }
  void field(std::string_view name, int64_t& v, const FieldInfo&) override { put(name, v); }
  void field(std::string_view name, double& v, const FieldInfo&) override { put(name, v); }
  void field(std::string_view name, std::string& v, const FieldInfo&) override { put(name, v); }
  void field(std::string_view name, std::vector<int64_t>& v, const FieldInfo&) override {
    put(name, v);
  }
  void field(std::string_view name, std::vector<double>& v, const FieldInfo&) override {
    put(name, v);
  }
  void field(std::string_view name, std::vector<std::string>& v, const FieldInfo&) override {
    put(name, v);
  }

 protected:
  bool enter(std::string_view name, std::string_view) override {
    Json& made = (*stack_.back())[std::string(name)];
    made = Json::object();
    stack_.push_back(&made);
    return true;
  }
  void leave() override { stack_.pop_back(); }
  int64_t enter_list(std::string_view name, int64_t size, std::string_view) override {
    Json& made = (*stack_.back())[std::string(name)];
    made = Json::array();
    for (int64_t i = 0; i < size; ++i) made.push_back(Json::object());
    stack_.push_back(&made);
    return size;
  }
  void enter_item(int64_t index) override {
    stack_.push_back(&(*stack_.back())[static_cast<size_t>(index)]);
  }
  void leave_item() override { stack_.pop_back(); }
  void leave_list() override { stack_.pop_back(); }

 private:
  template <class T>
  void put(std::string_view name, const T& value) {
    (*stack_.back())[std::string(name)] = value;
  }
  std::vector<Json*> stack_;
};

Error write_failed(const std::string& where, int reason) {
  const bool full = reason == ENOSPC || reason == EDQUOT;
  return Error({.code = full ? ExitCode::kDiskFull : ExitCode::kFailed,
                .where = where,
                .what = "cannot be written",
                .got = std::strerror(reason)});
}

}  // namespace

Json options_to_json(const Visit& options) {
  Json root;
  JsonWriter writer(root);
  options(writer);
  return root;
}

bool write_stdout(std::string_view text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return true;
  if (errno != EPIPE) throw write_failed("stdout", errno);
  std::clearerr(stdout);  // a reader who has gone (| head) wants no more: no failure of the run
  return false;
}

void write_failure(const Failure& failure) {
  if (result_on_stdout) return;
  try {
    if (!World::from_environment().is_main()) return;
  } catch (const Error&) {  // the environment is what is wrong
  }
  Json error{{"message", failure.line}};
  const ErrorParts& parts = failure.parts;
  for (const auto& [name, text] : {std::pair{"where", &parts.where},
                                   {"what", &parts.what},
                                   {"got", &parts.got},
                                   {"expected", &parts.expected},
                                   {"remedy", &parts.remedy}})
    if (!text->empty()) error[name] = *text;
  write_json("-", {{"error", std::move(error)}, {"exit_code", static_cast<int>(failure.code)}});
}

void write_json(const std::string& named, const Json& document) {
  const std::string text =
      escaped_in_strings(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  if (named == "-") {
    result_on_stdout = true;
    write_stdout(text);
    return;
  }
  std::error_code ignored;
  // A symbolic link stays one: what it leads to is replaced.
  const std::filesystem::path led = std::filesystem::is_symlink(named, ignored)
                                        ? std::filesystem::weakly_canonical(named, ignored)
                                        : std::filesystem::path(named);
  const std::string target = led.empty() ? named : led.string();
  const bool special = std::filesystem::exists(target, ignored) &&
                       !std::filesystem::is_regular_file(target, ignored);
  // A pipe or device is not to be renamed over; a neighbour of the user's own is not to be touched.
  const std::string temporary = special ? target : cat(target, ".tmp-", ::getpid());
  errno = 0;
  std::FILE* file = std::fopen(temporary.c_str(), "wb");
  if (file == nullptr) throw write_failed(target, errno);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int reason = errno;
  if (std::fclose(file) != 0 || !written) {
    const int why = reason != 0 ? reason : errno;
    if (!special) std::remove(temporary.c_str());
    throw write_failed(target, why);
  }
  if (special) return;
  std::error_code failed;
  std::filesystem::rename(temporary, target, failed);
  if (failed) {
    std::remove(temporary.c_str());
    throw write_failed(target, failed.value());
  }
}

}  // namespace kvlingua
