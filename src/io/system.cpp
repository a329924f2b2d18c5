#include "kvlingua/io/system.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// "VmHWM:   123 kB" -> bytes; 0 when the line is not there.
uint64_t kilobyte_line(const char* path, std::string_view name) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (!line.starts_with(name)) continue;
    std::istringstream rest(line.substr(name.size()));
    uint64_t kilobytes = 0;
    rest >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

// The folder of this process's cgroup (version 2), as mounted.
fs::path cgroup() {
  std::ifstream in("/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with("0::")) return fs::path("/sys/fs/cgroup" + line.substr(3));
  }
  return "/sys/fs/cgroup";
}

// A limit file holds a number or "max". Limits of parent groups apply as well.
template <class Read>
void for_each_cgroup(Read read) {
  const fs::path root = "/sys/fs/cgroup";
  fs::path group = cgroup();
  for (int depth = 0; depth < 32; ++depth) {
    read(group);
    if (group == root || !group.has_relative_path()) return;
    group = group.parent_path();
  }
}

uint64_t number_in(const fs::path& path) {
  std::ifstream in(path);
  uint64_t value = 0;
  return in >> value ? value : kUnlimited;
}

}  // namespace

uint64_t current_rss_bytes() { return kilobyte_line("/proc/self/status", "VmRSS:"); }
uint64_t peak_rss_bytes() { return kilobyte_line("/proc/self/status", "VmHWM:"); }

bool reset_peak_rss() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5" << std::flush;
  return out.good();
}

void prefer_huge_pages(void* data, size_t bytes) {
  constexpr uintptr_t kHuge = uintptr_t{2} << 20;
  const auto begin = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) / kHuge * kHuge,
             end = (reinterpret_cast<uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

uint64_t total_memory_bytes() {
  uint64_t total = kilobyte_line("/proc/meminfo", "MemTotal:");
  for_each_cgroup(
      [&](const fs::path& group) { total = std::min(total, number_in(group / "memory.max")); });
  return total;
}

uint64_t available_memory_bytes() {
  uint64_t available = kilobyte_line("/proc/meminfo", "MemAvailable:");
  for_each_cgroup([&](const fs::path& group) {
    const uint64_t limit = number_in(group / "memory.max"),
                   used = number_in(group / "memory.current");
    if (limit == kUnlimited || used == kUnlimited) return;
    // The page cache counts as used, but gives way.
    const uint64_t reclaimable = [&] {
      std::ifstream in(group / "memory.stat");
      std::string name;
      uint64_t value = 0, sum = 0;
      while (in >> name >> value)
        sum += name == "inactive_file" || name == "active_file" ? value : 0;
      return sum;
    }();
    const uint64_t held = used > reclaimable ? used - reclaimable : 0;
    available = std::min(available, limit > held ? limit - held : 0);
  });
  return available;
}

uint64_t free_disk_bytes(const fs::path& path) {
  std::error_code error;
  fs::path place = path.empty() ? fs::current_path(error) : fs::absolute(path, error);
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  struct statvfs status {};
  if (::statvfs(place.c_str(), &status) != 0) return 0;
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

int cpu_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = ::sched_getaffinity(0, sizeof set, &set) == 0
                  ? CPU_COUNT(&set)
                  : static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  for_each_cgroup([&](const fs::path& group) {
    std::ifstream in(group / "cpu.max");
    double quota = 0, period = 0;
    if (in >> quota >> period && period > 0)
      count = std::min(count, static_cast<int>(std::ceil(quota / period)));
  });
  return std::max(count, 1);
}

}  // namespace kvlingua
