#include "kvlingua/text/alignment.h"

#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using Offsets = std::vector<std::pair<int64_t, int64_t>>;
using Index = std::vector<int64_t>;

Encoding made(const Offsets& offsets) {
  Encoding encoding;
  encoding.offsets = offsets;
  for (size_t i = 0; i < offsets.size(); ++i) encoding.ids.push_back(static_cast<int64_t>(i));
  return encoding;
}

// "unbelievable": source un|believ|able, target unb|elie|va|ble
TEST(Alignment, KindsChooseAsTheyAreNamed) {
  const Encoding source = made({{0, 2}, {2, 8}, {8, 12}});
  const Encoding target = made({{0, 3}, {3, 7}, {7, 9}, {9, 12}});
  EXPECT_EQ(align(source, target, AlignmentKind::kLastChar).source_index, (Index{1, 1, 2, 2}));
  EXPECT_EQ(align(source, target, AlignmentKind::kFirst).source_index, (Index{0, 1, 1, 2}));
  EXPECT_EQ(align(source, target, AlignmentKind::kLongest).source_index, (Index{1, 1, 1, 2}));
  EXPECT_EQ(align(source, target, AlignmentKind::kLastChar).exact, 0.0);
  EXPECT_EQ(align(source, target, AlignmentKind::kLastChar).covered, 1.0);
}

TEST(Alignment, LongestTakesTheEarliestOfEquals) {
  const Encoding source = made({{0, 2}, {2, 4}, {4, 5}});
  EXPECT_EQ(align(source, made({{0, 5}}), AlignmentKind::kLongest).source_index, (Index{0}));
}

TEST(Alignment, CountsWhatIsExactAndWhatIsCovered) {
  // The source drops the space at 3; the last target token is nothing but that space.
  const Encoding source = made({{0, 3}, {4, 6}});
  const Alignment a =
      align(source, made({{0, 3}, {3, 4}, {4, 6}, {5, 6}}), AlignmentKind::kLastChar);
  EXPECT_EQ(a.source_index, (Index{0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(a.exact, 0.5);
  EXPECT_DOUBLE_EQ(a.covered, 0.75);
}

TEST(Alignment, TokensWithoutCharactersTakeTheOneBefore) {
  const Encoding source = made({{0, 0}, {0, 4}});  // BOS
  EXPECT_EQ(align(source, made({{0, 2}, {2, 4}}), AlignmentKind::kLastChar).source_index,
            (Index{1, 1}));
  EXPECT_EQ(align(made({{0, 2}, {2, 4}}), source, AlignmentKind::kLastChar).source_index,
            (Index{0, 1}));
  const Alignment same = align(source, source, AlignmentKind::kLastChar);
  EXPECT_EQ(same.source_index, (Index{0, 1}));
  EXPECT_EQ(same.covered, 1.0);
}

// An emoji of four bytes: one token, or a token a byte.
TEST(Alignment, BytesOfACharacterPairOffFromTheLast) {
  const Offsets bytes = {{0, 1}, {1, 2}, {1, 2}, {1, 2}, {1, 2}, {2, 3}};
  const Offsets whole = {{0, 1}, {1, 2}, {2, 3}};
  EXPECT_EQ(align(made(bytes), made(bytes), AlignmentKind::kLastChar).source_index,
            (Index{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(align(made(bytes), made(whole), AlignmentKind::kLastChar).source_index,
            (Index{0, 4, 5}));
  EXPECT_EQ(align(made(whole), made(bytes), AlignmentKind::kLastChar).source_index,
            (Index{0, 1, 1, 1, 1, 2}));
}

TEST(Alignment, EmptySides) {
  EXPECT_TRUE(align(made({}), made({}), AlignmentKind::kFirst).source_index.empty());
  EXPECT_TRUE(align(made({{0, 1}}), made({}), AlignmentKind::kFirst).source_index.empty());
  EXPECT_THROW(align(made({}), made({{0, 1}}), AlignmentKind::kFirst), Error);
}

TEST(Alignment, IdentityDemandsEqualIds) {
  Encoding source = made({{0, 1}, {1, 2}, {2, 3}});
  EXPECT_EQ(align(source, source, AlignmentKind::kIdentity).source_index, (Index{0, 1, 2}));
  Encoding target = source;
  target.ids[1] = 77;
  try {
    align(source, target, AlignmentKind::kIdentity);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_STREQ(error.what(),
                 "alignment identity: token 1: the tokenizers differ: got source id 1, target id "
                 "77, expected the same ids; "
                 "use alignment last_char");
  }
  target = made({{0, 1}});
  EXPECT_THROW(align(source, target, AlignmentKind::kIdentity), Error);
}

TEST(Alignment, Names) {
  for (const char* name : {"identity", "last_char", "first", "longest"})
    EXPECT_EQ(to_string(alignment_kind_from_name(name)), name);
  EXPECT_THROW(alignment_kind_from_name("prefix"), Error);
}

// On real tokenizations: one tokenizer aligns with itself one to one; between two, every index is
// in range, goes only forward, and the source token of last_char reaches as far as the target token
// does.
TEST(Alignment, HoldsOnRealTokenizations) {
  const auto strings = testing::golden("strings.json")["strings"];
  const auto data = std::filesystem::path(KVLINGUA_TEST_DATA) / "text";
  std::vector<Tokenizer> tokenizers;
  for (const char* name : {"qwen", "smollm2", "llama3", "sentencepiece"})
    tokenizers.push_back(Tokenizer::from_directory(data / name));
  for (const std::string text : strings) {
    for (const Tokenizer& one : tokenizers) {
      const Encoding source = one.encode(text, false);
      Index whole(source.size());
      for (size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<int64_t>(i);
      EXPECT_EQ(align(source, source, AlignmentKind::kLastChar).source_index, whole) << text;
      for (const Tokenizer& other : tokenizers) {
        const Encoding target = other.encode(text, false);
        if (target.size() == 0 || source.size() == 0) continue;
        for (const auto kind :
             {AlignmentKind::kLastChar, AlignmentKind::kFirst, AlignmentKind::kLongest}) {
          const Alignment a = align(source, target, kind);
          ASSERT_EQ(a.source_index.size(), target.size());
          for (size_t t = 0; t < target.size(); ++t) {
            ASSERT_GE(a.source_index[t], 0);
            ASSERT_LT(a.source_index[t], static_cast<int64_t>(source.size()));
            if (t > 0 && kind != AlignmentKind::kLongest) {
              EXPECT_GE(a.source_index[t], a.source_index[t - 1]) << text;
            }
          }
          EXPECT_GE(a.covered, a.exact);
          EXPECT_LE(a.covered, 1.0);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvlingua
