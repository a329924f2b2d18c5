// The group of processes, played by threads.
#include "kvlingua/cache/process_group.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "kvlingua/base/error.h"
#include "support/free_port.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

GroupPlace place(const TempDir& folder, int64_t port, int64_t rank, int64_t size,
                 double patience = 60) {
  return {.world = {.rank = rank, .size = size, .master_port = port},
          .folder = folder.path(),
          .patience_seconds = patience};
}
template <class T>
at::Tensor tensor_of(std::vector<T>& data) {
  return at::from_blob(data.data(), {static_cast<int64_t>(data.size())},
                       c10::CppTypeToScalarType<T>::value);
}

template <class Work>
void in_group(int64_t size, Work work) {
  const TempDir folder;
  const int64_t port = testing::free_port();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto group = ProcessGroup::join(place(folder, port, rank, size));
      work(*group);
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST(ProcessGroup, SumsAreTheSameBitsEverywhere) {
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
      in_group(size, [&](ProcessGroup& group) {
        at::Tensor mine = tensor_of(data[static_cast<size_t>(group.rank())]);
        group.sum(mine);
      });
      for (const auto& d : data) EXPECT_EQ(d, want) << size << " " << count;
    }
  }
}

TEST(ProcessGroup, FloatsThatRoundAgreeEverywhere) {
  std::vector<std::vector<float>> data(4, std::vector<float>(10001));
  for (size_t r = 0; r < data.size(); ++r) {
    for (size_t i = 0; i < data[r].size(); ++i)
      data[r][i] = 1.0F / static_cast<float>(3 + i * (r + 1));
  }
  in_group(4, [&](ProcessGroup& group) {
    at::Tensor mine = tensor_of(data[static_cast<size_t>(group.rank())]);
    group.sum(mine);
  });
  for (size_t r = 1; r < data.size(); ++r) EXPECT_EQ(data[r], data[0]);
}

TEST(ProcessGroup, BroadcastsOfAnyLength) {
  const std::string text(3'000'001, 'x');
  in_group(3, [&](ProcessGroup& group) {
    EXPECT_EQ(group.broadcast(group.rank() == 0 ? text : "mine"), text);
    EXPECT_EQ(group.broadcast(group.rank() == 0 ? "" : "mine"), "");
    const at::Tensor value = at::full({}, group.rank() == 0 ? 4.5 : 0, at::kDouble);
    group.broadcast(value);
    EXPECT_EQ(value.item<double>(), 4.5);
    const at::Tensor half = at::full({3, 5}, group.rank() == 0 ? 0.25 : 0, at::kHalf);
    group.broadcast(half.t());  // not contiguous
    EXPECT_EQ(half.sum().item<double>(), 3.75);
  });
}

TEST(ProcessGroup, ANeighbourThatLeavesIsAnError) {
  std::string message;
  in_group(2, [&](ProcessGroup& group) {
    if (group.rank() == 1) return;  // gone
    at::Tensor data = at::zeros({100000});
    try {
      group.sum(data);
    } catch (const Error& error) {
      message = error.what();
    }
  });
  EXPECT_THAT(message, HasSubstr("another process of this run has stopped"));
}

TEST(ProcessGroup, MissingProcessesAreNamed) {
  const TempDir folder;
  const auto message = [](const GroupPlace& place) {
    try {
      ProcessGroup::join(place);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const int64_t port = testing::free_port();
  EXPECT_THAT(message(place(folder, port, 0, 3, 0.3)), HasSubstr("1 processes after 0.3 s"));
  EXPECT_THAT(message(place(folder, port, 2, 3, 0.3)), HasSubstr("process 0 does not answer"));
}

TEST(ProcessGroup, DifferentWorldsDoNotMix) {
  const TempDir folder;
  const int64_t port = testing::free_port();
  std::string message;
  std::thread other([&] {
    try {
      ProcessGroup::join(place(folder, port, 1, 3, 10));
    } catch (const Error&) {
    }
  });
  try {
    ProcessGroup::join(place(folder, port, 0, 2, 10));
  } catch (const Error& error) {
    message = error.what();
  }
  other.join();
  EXPECT_THAT(message, HasSubstr("different numbers of processes"));
}

}  // namespace
}  // namespace kvlingua
