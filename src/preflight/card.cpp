#include "kvlingua/preflight/card.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"

namespace kvlingua {
namespace {

constexpr double kGiB = 1 << 30, kTera = 1e12;

struct KnownCard {
  const char *key, *name;
  double gib;
  bool bfloat16;
  double half, float32, float64, bandwidth;  // published dense peaks: TFLOP/s and GB/s
};
// By memory: the first with enough stands for a size.
constexpr std::array kCards{
    KnownCard{"gtx1660", "GTX 1660", 6, false, 10, 5, .157, 192},
    KnownCard{"rtx3060", "RTX 3060", 12, true, 25.5, 12.7, .2, 360},
    KnownCard{"t4", "T4", 16, false, 65, 8.1, .25, 320},
    KnownCard{"rtx3090", "RTX 3090", 24, true, 71, 35.6, .556, 936},
    KnownCard{"l4", "L4", 24, true, 121, 30.3, .47, 300},
    KnownCard{"a10", "A10", 24, true, 125, 31.2, .49, 600},
    KnownCard{"rtx4090", "RTX 4090", 24, true, 165, 82.6, 1.29, 1008},
    KnownCard{"a100-40gb", "A100 40 GB", 40, true, 312, 19.5, 9.7, 1555},
    KnownCard{"a100-80gb", "A100 80 GB", 80, true, 312, 19.5, 9.7, 2039},
    KnownCard{"h100", "H100", 80, true, 989, 67, 34, 3350},
    KnownCard{"h200", "H200", 141, true, 989, 67, 34, 4800},
};

Card card_of(const KnownCard& known) {
  return {.name = known.name,
          .memory = known.gib * kGiB,
          .bfloat16 = known.bfloat16,
          .half_flops = known.half / 2 * kTera,
          .flops_float32 = known.float32 / 2 * kTera,
          .flops_float64 = known.float64 / 2 * kTera,
          .bandwidth = known.bandwidth * 1e9};
}

// "6GB", "5.5 GiB", "24"; 0: not a size.
double size_in_gib(std::string text) {
  std::erase(text, ' ');
  for (const std::string_view unit : {"gib", "gb", "g"}) {
    if (!text.ends_with(unit)) continue;
    text.erase(text.rfind(unit));
    break;
  }
  double gib = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), gib);
  const bool whole = problem == std::errc{} && end == text.data() + text.size();
  return whole && gib > 0 && gib < 1e5 ? gib : 0;
}

std::string size_name(double gib) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), gib).ptr;
  return cat("a card with ", std::string_view(text.data(), static_cast<size_t>(end - text.data())),
             " GB");
}

}  // namespace

Card find_card(std::string_view text) {
  std::string word(text);
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const KnownCard& known : kCards)
    if (word == known.key) return card_of(known);
  if (const double gib = size_in_gib(word); gib > 0) {
    const auto enough =
        std::ranges::find_if(kCards, [&](const KnownCard& known) { return known.gib >= gib; });
    Card card = card_of(enough == kCards.end() ? kCards.back() : *enough);
    card.name = size_name(gib);
    card.memory = gib * kGiB;
    return card;
  }
  std::vector<std::string> keys;
  std::string all;
  for (const KnownCard& known : kCards) {
    keys.emplace_back(known.key);
    all += cat(known.key, ", ");
  }
  const std::string near = nearest_name(word, keys);
  throw Error({.code = ExitCode::kUsage,
               .where = "--card",
               .what = "neither a card known here nor a size",
               .got = printable(text, 40),
               .expected = cat(all, "or a size like 24GB"),
               .remedy = near.empty() ? "" : cat("did you mean ", near, "?")});
}

MachineNumbers machine_of(const Card& card) {
  MachineNumbers m;
  m.cuda = true;
  // As set_memory() has it of a card that is here, whose driver keeps some of what its name says.
  m.memory = 0.92 * card.memory;
  m.base_memory = 800e6;
  m.flops = card.half_flops;
  m.flops_float32 = card.flops_float32;
  m.flops_float64 = card.flops_float64;
  m.flops_cholesky = card.flops_float64 / 2;
  m.bandwidth = card.bandwidth;
  m.first_touch = 1e12;
  m.disk_free = -1;
  return m;
}

}  // namespace kvlingua
