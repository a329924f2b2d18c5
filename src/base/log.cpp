#include "kvlingua/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"

namespace kvlingua {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    const char* no_color = std::getenv("NO_COLOR");
    const bool color = isatty(STDERR_FILENO) && (no_color == nullptr || *no_color == '\0');
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
        color ? spdlog::color_mode::always : spdlog::color_mode::never);
    auto made = std::make_shared<spdlog::logger>("kvlingua", std::move(sink));
    made->set_pattern("%^%L%$ %H:%M:%S %v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      logger().set_level(spdlog::level::debug);
      break;
    case LogLevel::kInfo:
      logger().set_level(spdlog::level::info);
      break;
    case LogLevel::kWarning:
      logger().set_level(spdlog::level::warn);
      break;
    case LogLevel::kError:
      logger().set_level(spdlog::level::err);
      break;
    case LogLevel::kOff:
      logger().set_level(spdlog::level::off);
      break;
  }
}

void log_debug(std::string_view message) {
  if (!logger().should_log(spdlog::level::debug)) return;
  clear_progress_line();
  logger().debug("{}", printable(message, message.size() * 6));
}
void log_info(std::string_view message) {
  if (!logger().should_log(spdlog::level::info)) return;
  clear_progress_line();
  logger().info("{}", printable(message, message.size() * 6));
}
void log_warning(std::string_view message) {
  if (!logger().should_log(spdlog::level::warn)) return;
  clear_progress_line();
  logger().warn("{}", printable(message, message.size() * 6));
}
void log_error(std::string_view message) {
  if (!logger().should_log(spdlog::level::err)) return;
  clear_progress_line();
  logger().error("{}", printable(message, message.size() * 6));
}

}  // namespace kvlingua
