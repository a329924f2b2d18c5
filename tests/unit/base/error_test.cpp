// Texts of strangers on their way to a terminal, a log, a page.
#include "kvlingua/base/error.h"

#include <gtest/gtest.h>

namespace kvlingua {
namespace {

TEST(Printable, EscapesWhatATerminalObeys) {
  EXPECT_EQ(printable("a\x1b[2J\n\r\tb"),
            "a\\x1b[2J\\x0a\\x0d\\x09"
            "b");
  EXPECT_EQ(printable("\x7f"), "\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // C1: another way to say ESC [
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "gpj.exe"),
            "\\u202egpj.exe");  // right-to-left override
  EXPECT_EQ(printable("\xe2\x81\xa6x\xe2\x80\xa8"), "\\u2066x\\u2028");
  EXPECT_EQ(printable("m\xff\xc3"), "m\\xff\\xc3");  // no UTF-8
  EXPECT_EQ(printable("\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80");
}

TEST(Printable, CutsAtACharacter) {
  EXPECT_EQ(printable(std::string(200, 'x'), 10), std::string(10, 'x') + "...");
  EXPECT_EQ(printable("ab\xc3\xa9", 4), "ab\xc3\xa9");
  EXPECT_EQ(printable("ab\xc3\xa9z", 3), "ab...");
  EXPECT_EQ(printable("", 0), "");
}

TEST(Printable, LinesKeepTheirLineFeeds) {
  EXPECT_EQ(printable_lines("a\n\tb\x1b\n"), "a\n\tb\\x1b\n");
}

TEST(Printable, DocumentsStayTheSameDocument) {
  EXPECT_EQ(escaped_in_strings("{\"a\": \"\xc2\x9b\xe2\x80\xae\xc3\xa9\"}"),
            "{\"a\": \"\\u009b\\u202e\xc3\xa9\"}");
}

TEST(Error, IsOneLineWhateverItsPartsHold) {
  const Error error({.where = "a\nb", .what = "\x1b[31m", .got = "\xe2\x80\xae"});
  EXPECT_STREQ(error.what(), "a b: \\x1b[31m: got \\u202e");
}

}  // namespace
}  // namespace kvlingua
