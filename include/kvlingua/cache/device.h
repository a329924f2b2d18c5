// From the words of a recipe or command line to torch's device and compute type.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace kvlingua {

// "auto", "cpu", "cuda", "cuda:N". auto: the GPU of this process (local_rank) when there is one,
// else the CPU. Throws Error: kUsage for another word, kDevice when a GPU is asked for and absent.
at::Device resolve_device(std::string_view name, int64_t local_rank = 0);

// "auto", "float32", "bfloat16", "float16". auto: float32 on the CPU; on a GPU bfloat16 where it is
// native, else float16. A model of fewer than kSmallModel `parameters` (0: not known) gets float32
// there too: half types would not make it faster, since starting kernels takes most of its time,
// and would round near ties to other tokens. Throws Error (kUsage).
at::ScalarType resolve_dtype(std::string_view name, at::Device device, int64_t parameters = 0);
inline constexpr int64_t kSmallModel = 100'000'000;

// What can still be allocated there without asking anybody to give way: free on the GPU and in
// libtorch's pool, or available in the machine's memory.
int64_t free_memory_bytes(at::Device device);

// What is known of a device, for tables, plans and reports.
struct DeviceFacts {
  std::string name;  // "NVIDIA H200", or the processor's
  // Bytes it has: of the GPU, or what this process can still use of the machine.
  int64_t memory = 0;
  bool bfloat16 = false;     // native
  std::string capability;    // "9.0"; empty for the CPU
  std::string driver;        // "580.65.06"; empty when there is none
  std::string cuda_runtime;  // "13.0"; empty for a CPU-only build
  int64_t threads = 0;       // CPU threads torch uses
};
DeviceFacts device_facts(at::Device device);

}  // namespace kvlingua
