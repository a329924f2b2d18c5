// Reads the goldens of the text layer (scripts/goldens/text.py) and compares a tokenizer with them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "kvlingua/text/tokenizer.h"

namespace kvlingua::testing {

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline nlohmann::json golden(const std::string& name) {
  return nlohmann::json::parse(slurp(std::filesystem::path(KVLINGUA_TEST_DATA) / "text" / name));
}

inline nlohmann::json flat(const std::vector<std::pair<int64_t, int64_t>>& offsets) {
  nlohmann::json out = nlohmann::json::array();
  for (const auto& [begin, end] : offsets) {
    out.push_back(begin);
    out.push_back(end);
  }
  return out;
}

// Compares ids, offsets and decoding of every row; returns the number of rows.
inline size_t compare_rows(const Tokenizer& tokenizer, const nlohmann::json& rows,
                           const nlohmann::json& strings) {
  size_t wrong = 0;
  for (const auto& row : rows) {
    const std::string text = strings[row["t"].get<size_t>()];
    const Encoding plain = tokenizer.encode(text, false);
    const Encoding full = tokenizer.encode(text, true);
    const auto& full_ids = row.contains("full") ? row["full"] : row["ids"];
    const auto& full_offsets = row.contains("full_off") ? row["full_off"] : row["off"];
    const bool same = nlohmann::json(plain.ids) == row["ids"] &&
                      flat(plain.offsets) == row["off"] && nlohmann::json(full.ids) == full_ids &&
                      flat(full.offsets) == full_offsets &&
                      tokenizer.decode(plain.ids, false) == row.value("dec", text) &&
                      tokenizer.decode(plain.ids, true) == row.value("skip", text);
    if (same) continue;
    if (++wrong > 5) continue;  // the first few say enough
    ADD_FAILURE() << "string " << row["t"] << " " << nlohmann::json(text).dump() << "\n ids     "
                  << nlohmann::json(plain.ids).dump() << "\n wanted  " << row["ids"].dump()
                  << "\n offsets " << flat(plain.offsets).dump() << "\n wanted  "
                  << row["off"].dump() << "\n full    " << nlohmann::json(full.ids).dump()
                  << "\n wanted  " << full_ids.dump() << "\n offsets " << flat(full.offsets).dump()
                  << "\n wanted  " << full_offsets.dump() << "\n decoded "
                  << nlohmann::json(tokenizer.decode(plain.ids)).dump() << "\n skipped "
                  << nlohmann::json(tokenizer.decode(plain.ids, true)).dump();
  }
  EXPECT_EQ(wrong, 0U) << "of " << rows.size();
  return rows.size();
}

}  // namespace kvlingua::testing
