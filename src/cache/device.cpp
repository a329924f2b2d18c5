#include "kvlingua/cache/device.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#ifdef KVLINGUA_CUDA
#include <ATen/cuda/CUDAContextLight.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#endif

#include <ATen/Parallel.h>

#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/config/device_name.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

int64_t cuda_devices() {
#ifdef KVLINGUA_CUDA
  return at::globalContext().hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
#else
  return 0;
#endif
}

// Below compute capability 8 bfloat16 is emulated.
bool native_bfloat16(at::Device device) {
#ifdef KVLINGUA_CUDA
  return at::cuda::getDeviceProperties(device.index())->major >= 8;
#else
  (void)device;
  return true;
#endif
}

std::string first_line_with(const char* file, std::string_view word) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.find(word) != std::string::npos) return line;
  }
  return {};
}

// "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build": the word
// that begins with digits and holds a dot.
std::string driver_version() {
  std::istringstream words(first_line_with("/proc/driver/nvidia/version", "NVRM"));
  for (std::string word; words >> word;) {
    if (word.find_first_not_of("0123456789.") == std::string::npos &&
        word.find('.') != std::string::npos)
      return word;
  }
  return {};
}

}  // namespace

at::Device resolve_device(std::string_view name, int64_t local_rank) {
  const DeviceName wanted = parse_device(name);
  if (wanted.kind == DeviceName::Kind::kCpu) return at::Device(at::kCPU);
  const int64_t count = cuda_devices();
  if (wanted.kind == DeviceName::Kind::kAuto && count == 0) return at::Device(at::kCPU);
  const int64_t index = wanted.index >= 0 ? wanted.index : count > 0 ? local_rank % count : 0;
  if (index >= count) {
    throw Error({.code = ExitCode::kDevice,
                 .where = cat("device ", name),
                 .what = count == 0 ? "no CUDA GPU can be used here" : "no such GPU",
                 .got = cat(count, count == 1 ? " GPU" : " GPUs"),
#ifdef KVLINGUA_CUDA
                 .remedy = count == 0 ? "check nvidia-smi and the driver, or use --device cpu"
                                      : "use a lower number"});
#else
                 .remedy =
                     "this build is for the CPU only: build where nvcc is, or use --device cpu"});
#endif
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

at::ScalarType resolve_dtype(std::string_view name, at::Device device, int64_t parameters) {
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16") return at::kHalf;
  if (name != "auto" && !name.empty()) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "dtype",
                 .got = printable(name, 40),
                 .expected = "auto, float32, bfloat16 or float16"});
  }
  if (device.is_cpu() || (parameters > 0 && parameters < kSmallModel)) return at::kFloat;
  return native_bfloat16(device) ? at::kBFloat16 : at::kHalf;
}

int64_t free_memory_bytes([[maybe_unused]] at::Device device) {
#ifdef KVLINGUA_CUDA
  if (device.is_cuda()) {
    const c10::cuda::CUDAGuard guard(device);
    size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
    c10::DeviceAllocator* allocator = c10::getDeviceAllocator(device.type());
    int64_t pooled = 0;
    if (allocator->initialized()) {
      const auto stats = allocator->getDeviceStats(c10::cuda::current_device());
      const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
      pooled = stats.reserved_bytes[all].current - stats.allocated_bytes[all].current;
    }
    return static_cast<int64_t>(free) + pooled;
  }
#endif
  return static_cast<int64_t>(available_memory_bytes());
}

DeviceFacts device_facts([[maybe_unused]] at::Device device) {
  DeviceFacts facts;
  facts.driver = driver_version();
  facts.threads = at::get_num_threads();
#ifdef KVLINGUA_CUDA
  const long runtime =
      at::detail::getCUDAHooks().hasCUDART() ? at::detail::getCUDAHooks().versionCUDART() : 0;
  if (runtime > 0) facts.cuda_runtime = cat(runtime / 1000, ".", runtime % 1000 / 10);
  if (device.is_cuda()) {
    const cudaDeviceProp* properties = at::cuda::getDeviceProperties(device.index());
    facts.name = properties->name;
    facts.memory = static_cast<int64_t>(properties->totalGlobalMem);
    facts.capability = cat(properties->major, ".", properties->minor);
    facts.bfloat16 = native_bfloat16(device);
    return facts;
  }
#endif
  const std::string model = first_line_with("/proc/cpuinfo", "model name");
  facts.name = model.empty() ? "CPU" : model.substr(std::min(model.size(), model.find(':') + 2));
  facts.memory = static_cast<int64_t>(available_memory_bytes());
  facts.bfloat16 = !first_line_with("/proc/cpuinfo", " avx512_bf16").empty();
  return facts;
}

}  // namespace kvlingua
