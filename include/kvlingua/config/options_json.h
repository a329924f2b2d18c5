// Options as JSON, for results that other programs read.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct Failure;  // base/guard.h

nlohmann::ordered_json options_to_json(const Visit& options);

// `target`: "-" is stdout, else a file, written to a temporary name and renamed. Indented, one
// document, newline at the end. Throws Error: kDiskFull, else kFailed.
void write_json(const std::string& target, const nlohmann::ordered_json& document);
// Text to stdout. False when its reader has gone (| head), which is no failure of a run. Throws
// Error (kDiskFull, kFailed) when it cannot be written.
bool write_stdout(std::string_view text);

// With --json -: what a failing run leaves on stdout in place of its result, so that there is one
// document in any case: {"error": {"message", "where", "what", "got", "expected", "remedy"},
// "exit_code"}; parts that do not apply are left out. Nothing where this program has written its
// result already, or another process of the run speaks for it.
void write_failure(const Failure& failure);

}  // namespace kvlingua
