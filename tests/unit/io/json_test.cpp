// The one JSON reader: depth, repeated keys and what stands behind a document; files that are none.
#include "kvlingua/io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json_number.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt);
    return error.what();
  }
  return "accepted";
}

TEST(Json, IsBoundedInDepth) {
  EXPECT_THAT(refusal(std::string(5'000'000, '[')), HasSubstr("nested deeper than 64"));
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_THAT(refusal(objects), HasSubstr("nested deeper than 64"));
  EXPECT_EQ(refusal(std::string(64, '[') + std::string(64, ']')), "accepted");
}

// The other kind keeps the document's order and refuses the same.
TEST(Json, KeepsTheOrderOfMembersWhereAsked) {
  const std::string text = R"({"b":1,"a":{"d":[2,{"z":3,"y":4}],"c":null}})";
  EXPECT_EQ(parse_ordered_json(text, "f.json").dump(), text);
  EXPECT_EQ(parse_json(text, "f.json").dump(), R"({"a":{"c":null,"d":[2,{"y":4,"z":3}]},"b":1})");
  EXPECT_THROW(parse_ordered_json(R"({"a":1,"b":2,"a":3})", "f.json"), Error);
  EXPECT_THROW(parse_ordered_json(std::string(65, '['), "f.json"), Error);
  EXPECT_THROW(parse_ordered_json("{} {}", "f.json"), Error);
}

TEST(Json, HasNothingTwiceAndNothingBehind) {
  EXPECT_THAT(refusal(R"({"a": 1, "b": {"c": 1, "c": 2}})"), HasSubstr("duplicate key \"c\""));
  for (const char* text : {"{} {}", "[1] x", "1 2", "{}\n\"", "", " "})
    EXPECT_THAT(refusal(text), HasSubstr("malformed JSON")) << text;
  EXPECT_EQ(parse_json("\xef\xbb\xbf{\"a\":\r\n1}\r\n", "bom")["a"], 1);
}

// One line with the place to the character, what stands there, what could, and what to do.
TEST(Json, SaysWhereWhatAndWhatToDo) {
  EXPECT_EQ(refusal("{\"a\":\n [1, x]}"),
            "f.json:2:6: malformed JSON: got invalid literal; last read: '1, x'; mend that place, "
            "or get the file anew");
  for (const auto& [text, place] :
       {std::pair{"{", "f.json:1:1: malformed JSON: got unexpected end of input, expected"},
        {"{\n\n\"a\" 1}", "f.json:3:5: malformed JSON: got "},
        {"{\"a\": 1,\n \"a\": 2}", "f.json:2:4: duplicate key \"a\""},
        {"[1e999]", "f.json:1:6: malformed JSON: got number overflow"},
        {"[\"\xff\"]", "f.json:1:3: malformed JSON: got invalid string"}}) {
    EXPECT_THAT(refusal(text), testing::StartsWith(place));
    EXPECT_THAT(refusal(text), testing::EndsWith("; mend that place, or get the file anew"));
  }
  EXPECT_THAT(refusal(std::string(65, '[')), testing::StartsWith("f.json:1:65: JSON nested"));
}

TEST(Json, FieldsAreNamedFromTheInsideOut) {
  const nlohmann::json j = parse_json(R"({"a": {"b": 5}})", "f");
  const auto read = [&](int64_t most) {
    return read_member(j, "a", [&](const nlohmann::json& a) {
      return read_member(a, "b", [&](const nlohmann::json& b) { return whole_number(b, 0, most); });
    });
  };
  EXPECT_EQ(read(5), 5);
  try {
    read(4);
    FAIL();
  } catch (const nlohmann::json::exception& error) {
    EXPECT_STREQ(corrupt_field(error, "f.json", "no such thing", "mend it").what(),
                 "f.json: a.b: no such thing: got 5, expected a whole number from 0 to 4; mend it");
  }
  EXPECT_THROW(read_member(j, "c", count_of<nlohmann::json>), JsonFieldError);
  EXPECT_THROW(read_member(j["a"]["b"], "c", count_of<nlohmann::json>), JsonFieldError);
  EXPECT_THROW(number_within(j["a"]["b"], 0, 4.5), JsonFieldError);
}

TEST(Json, WholeNumbersAreNeitherFractionsNorTooLarge) {
  for (const int64_t value : {int64_t{0}, int64_t{-5}, INT64_MAX, INT64_MIN})
    EXPECT_EQ(whole_number(parse_json(std::to_string(value), "f")), value);
  for (const char* text :
       {"1.5", "1e300", "-1e300", "1.0", "9223372036854775808", "true", "null", "\"1\"", "[1]"})
    EXPECT_THROW(whole_number(parse_json(text, "f")), nlohmann::json::exception) << text;
}

TEST(TextFile, IsARegularFile) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const auto& [path, words] : {std::pair{dir / "pipe", "no regular file"},
                                    {dir.path(), "a folder"},
                                    {dir / "none", "No such file"}}) {
    try {
      read_text_file(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInput);
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  }
}

}  // namespace
}  // namespace kvlingua
