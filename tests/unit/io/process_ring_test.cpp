// The ring of processes, played by threads.
#include "kvlingua/io/process_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "kvlingua/base/error.h"
#include "support/free_port.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

template <class Work>
void in_ring(int64_t size, Work work) {
  const int64_t port = testing::free_port();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto ring = ProcessRing::join({.rank = rank, .size = size, .master_port = port});
      work(*ring);
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST(ProcessRing, SumsAreTheSameBitsEverywhere) {
  for (const int64_t size : {1, 2, 3, 5}) {
    for (const size_t count : {size_t{0}, size_t{1}, size_t{7}, size_t{1'000'003}}) {
      std::vector<std::vector<double>> data(static_cast<size_t>(size), std::vector<double>(count));
      std::vector<double> want(count);
      for (size_t r = 0; r < data.size(); ++r) {
        for (size_t i = 0; i < count; ++i) {
          data[r][i] = static_cast<double>((i * 31 + r * 17) % 1000) + 0.5 * static_cast<double>(r);
          want[i] += data[r][i];
        }
      }
      in_ring(size, [&](ProcessRing& ring) {
        ring.sum(data[static_cast<size_t>(ring.rank())].data(), count);
      });
      for (const auto& d : data) EXPECT_EQ(d, want) << size << " " << count;
    }
  }
}

TEST(ProcessRing, FloatsThatRoundAgreeEverywhere) {
  std::vector<std::vector<float>> data(4, std::vector<float>(10001));
  for (size_t r = 0; r < data.size(); ++r) {
    for (size_t i = 0; i < data[r].size(); ++i)
      data[r][i] = 1.0F / static_cast<float>(3 + i * (r + 1));
  }
  in_ring(4, [&](ProcessRing& ring) {
    auto& mine = data[static_cast<size_t>(ring.rank())];
    ring.sum(mine.data(), mine.size());
  });
  for (size_t r = 1; r < data.size(); ++r) EXPECT_EQ(data[r], data[0]);
}

TEST(ProcessRing, BroadcastsOfAnyLength) {
  const std::string text(3'000'001, 'x');
  in_ring(3, [&](ProcessRing& ring) {
    EXPECT_EQ(ring.broadcast(ring.rank() == 0 ? text : "mine"), text);
    EXPECT_EQ(ring.broadcast(ring.rank() == 0 ? "" : "mine"), "");
    double value = ring.rank() == 0 ? 4.5 : 0;
    ring.broadcast(&value, sizeof value);
    EXPECT_EQ(value, 4.5);
  });
}

TEST(ProcessRing, ANeighbourThatLeavesIsAnError) {
  std::string message;
  in_ring(2, [&](ProcessRing& ring) {
    if (ring.rank() == 1) return;  // gone
    std::vector<float> data(100000);
    try {
      ring.sum(data.data(), data.size());
    } catch (const Error& error) {
      message = error.what();
    }
  });
  EXPECT_THAT(message, HasSubstr("another process of this run has stopped"));
}

TEST(ProcessRing, MissingProcessesAreNamed) {
  const auto message = [](const RingPlace& place) {
    try {
      ProcessRing::join(place);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const int64_t port = testing::free_port();
  EXPECT_THAT(message({.rank = 0, .size = 3, .master_port = port, .patience_seconds = 0.3}),
              HasSubstr("1 processes after 0.3 s"));
  EXPECT_THAT(message({.rank = 2, .size = 3, .master_port = port, .patience_seconds = 0.3}),
              HasSubstr("process 0 does not answer"));
}

TEST(ProcessRing, DifferentWorldsDoNotMix) {
  const int64_t port = testing::free_port();
  std::string message;
  std::thread other([&] {
    try {
      ProcessRing::join({.rank = 1, .size = 3, .master_port = port, .patience_seconds = 3});
    } catch (const Error&) {
    }
  });
  try {
    ProcessRing::join({.rank = 0, .size = 2, .master_port = port, .patience_seconds = 3});
  } catch (const Error& error) {
    message = error.what();
  }
  other.join();
  EXPECT_THAT(message, HasSubstr("different numbers of processes"));
}

}  // namespace
}  // namespace kvlingua
