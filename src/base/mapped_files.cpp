#include "kvlingua/base/mapped_files.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>

namespace kvlingua {
namespace {

// A fixed table, so that a signal handler may read it.
struct Slot {
  std::atomic<bool> taken = false;
  std::atomic<uintptr_t> begin = 0, end = 0;
  std::atomic<int> code = 0;
  std::array<char, 1024> line{};
};
std::array<Slot, 1024> slots;

void on_bus_error(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Slot& slot : slots) {
    if (address < slot.begin.load() || address >= slot.end.load()) continue;
    ssize_t ignored = ::write(STDERR_FILENO, slot.line.data(), std::strlen(slot.line.data()));
    (void)ignored;
    ::_exit(slot.code.load());
  }
  ::signal(signal, SIG_DFL);  // not ours: the fault comes again and ends the process
}

}  // namespace

MappedFile::MappedFile(const void* begin, size_t size, const std::string& path, ExitCode code) {
  for (size_t i = 0; i < slots.size(); ++i) {
    bool free = false;
    if (!slots[i].taken.compare_exchange_strong(free, true)) continue;
    Slot& slot = slots[i];
    const bool full = code == ExitCode::kDiskFull;
    const std::string text =
        "kvlingua: " + printable(path, 700) +
        (full ? ": no room on its disk while it was written; free space, or use another --out\n"
              : ": was cut or became unreadable while it was read; fetch the file again\n");
    std::memcpy(slot.line.data(), text.c_str(), std::min(text.size() + 1, slot.line.size() - 1));
    slot.code = static_cast<int>(code);
    slot.begin = reinterpret_cast<uintptr_t>(begin);
    slot.end = reinterpret_cast<uintptr_t>(begin) + size;
    slot_ = static_cast<int>(i);
    return;
  }
}

MappedFile::~MappedFile() {
  if (slot_ < 0) return;
  Slot& slot = slots[static_cast<size_t>(slot_)];
  slot.begin = slot.end = 0;
  slot.taken = false;
}

void install_bus_error_line() {
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace kvlingua
