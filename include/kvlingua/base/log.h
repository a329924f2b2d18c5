// Log lines on stderr. stdout belongs to results.
//
// The implementation (spdlog) stays out of this header: torch ships a newer fmt that would shadow
// the system's. Control characters in a message (names come from files) are written escaped.
#pragma once

#include <string_view>

namespace kvlingua {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void set_log_level(LogLevel level);

void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

}  // namespace kvlingua
