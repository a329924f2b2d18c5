// What the machine has: memory, disk, processors. For preflight and benchmarks. Linux; numbers in
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace kvlingua {

// Resident memory of this process, now and at its highest.
uint64_t current_rss_bytes();
uint64_t peak_rss_bytes();
// Starts a new measurement of the highest; false where the kernel does not allow it.
bool reset_peak_rss();

// Asks for large pages under memory that will be filled from end to end and stay: it is touched
// faster. A hint, never an error.
void prefer_huge_pages(void* data, size_t bytes);

// Memory of the machine, or of the container (cgroup) that limits this process when that is less.
uint64_t total_memory_bytes();
// What can be allocated without swapping.
uint64_t available_memory_bytes();

// Space an ordinary user has left on the disk of `path`, which need not exist yet: its nearest
// existing parent counts. 0 when it cannot be told.
uint64_t free_disk_bytes(const std::filesystem::path& path);

// Processors this process may use: its affinity, rounded up from a container's quota. At least 1.
int cpu_count();

}  // namespace kvlingua
