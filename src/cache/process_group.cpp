#include "kvlingua/cache/process_group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/env.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <set>
#include <torch/csrc/distributed/c10d/GlooDeviceFactory.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/sockets.h"
#include "nccl_group.h"
#include "rendezvous.h"
#include "watch.h"

namespace kvlingua {
namespace {

using Gloo = c10d::ProcessGroupGloo;

constexpr auto kConnect = std::chrono::seconds(20);
constexpr auto kForEver = std::chrono::hours(24 * 365);  // the watch ends what does not end
constexpr auto kLook = std::chrono::milliseconds(100);
constexpr double kNameSeconds = 3;   // for the watch to learn who it was
constexpr double kStopPatience = 3;  // after a signal, for one that does not answer
constexpr double kFarewellSeconds = 2;
constexpr int64_t kMostText = int64_t{1} << 30;

// TLS connections from and to one address of this machine,
// with the run's certificate on both sides.
std::shared_ptr<::gloo::transport::Device> tls_device(const GroupPlace& place,
                                                      const std::filesystem::path& secret) {
  const World& world = place.world;
  const std::string address = address_towards(world.master_addr, world.master_port);
  if (address.empty())
    throw group_error(place, "no way to the address of process 0", world.master_addr);
  for (const char* name : {"PKEY", "CERT", "CA_FILE"})
    c10::utils::set_env(cat("GLOO_DEVICE_TRANSPORT_TCP_TLS_", name).c_str(), secret.c_str());
  std::shared_ptr<::gloo::transport::Device> device;
  std::string error = "this libtorch has no TLS in its Gloo";
  try {
    device = c10d::GlooDeviceRegistry()->Create("TCP_TLS", "", address, /*lazyInit=*/false);
  } catch (const std::exception& e) {
    error = e.what();
  }
  if (device) return device;
  throw Error({.code = ExitCode::kDevice,
               .where = cat("process ", world.rank, " of ", world.size),
               .what = cat("no protected connections from ", address),
               .got = printable(error.substr(0, error.find('\n')), 200),
               .remedy = "install OpenSSL's libssl-dev, or a libtorch from pytorch.org"});
}

c10::intrusive_ptr<Gloo> connect(const GroupPlace& place, const Meeting& meeting,
                                 const std::string& name,
                                 const std::shared_ptr<::gloo::transport::Device>& device) {
  auto options = Gloo::Options::create(kConnect);
  options->devices = {device};
  options->threads = 1;
  auto group = c10::make_intrusive<Gloo>(
      c10::make_intrusive<c10d::PrefixStore>(cat(meeting.prefix, "/", name), meeting.store),
      static_cast<int>(place.world.rank), static_cast<int>(place.world.size), options);
  group->setTimeout(kForEver);
  return group;
}

// NCCL refuses processes that share a GPU; theirs is then the way through host memory.
bool have_a_gpu_each(const GroupPlace& place, const Meeting& meeting) {
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string machine;
  std::getline(boot, machine);
  const auto key = [&](int64_t rank) { return cat(meeting.prefix, "/gpu/", rank); };
  meeting.store->put(key(place.world.rank),
                     cat(machine, " ", c10::utils::get_env("CUDA_VISIBLE_DEVICES").value_or(""),
                         " ", place.device.str()));
  std::set<std::vector<uint8_t>> gpus;
  for (int64_t r = 0; r < place.world.size; ++r) gpus.insert(meeting.store->get(key(r)));
  return static_cast<int64_t>(gpus.size()) == place.world.size;
}

// The tensor in contiguous host memory; the same one where it is there already.
at::Tensor on_host(const at::Tensor& tensor) { return tensor.detach().cpu().contiguous(); }

}  // namespace

struct ProcessGroup::Impl {
  GroupPlace place;
  c10::intrusive_ptr<Gloo> gloo;
  std::shared_ptr<Watch> watch;
  std::unique_ptr<NcclGroup> nccl;
  bool given_up = false;  // a call was left unfinished: what waits in it cannot be joined

  [[noreturn]] void lost(const std::string& who) {
    given_up = true;
    throw group_error(place, "another process of this run has stopped", who);
  }
  void look() {
    if (const auto who = watch->lost()) lost(*who);
    const auto [seconds, rank] = watch->silence();
    if (!stop_requested() || seconds < kStopPatience) return;
    given_up = true;
    throw stopped_error(cat("process ", rank,
                            " does not answer, so nothing was saved; training "
                            "goes on from its last checkpoint"));
  }
  void finish(const c10::intrusive_ptr<c10d::Work>& work) {
    struct Done {
      std::mutex mutex;
      std::condition_variable changed;
      bool yes = false;
    };
    const auto done = std::make_shared<Done>();
    const auto future = work->getFuture();
    future->addCallback([done](c10::ivalue::Future& /*future*/) {
      const std::lock_guard lock(done->mutex);
      done->yes = true;
      done->changed.notify_all();
    });
    std::unique_lock lock(done->mutex);
    while (!done->changed.wait_for(lock, kLook, [&] { return done->yes; })) look();
    if (!future->hasError()) return;
    const auto who = watch->ended(kNameSeconds);
    lost(who.value_or("a closed connection"));
  }
  void sum(at::Tensor& host) {
    std::vector<at::Tensor> tensors{host};
    c10d::AllreduceOptions options;
    options.timeout = kForEver;
    finish(gloo->allreduce(tensors, options));
  }
  void broadcast(void* data, int64_t bytes) {
    std::vector<at::Tensor> tensors{at::from_blob(data, {bytes}, at::kByte)};
    c10d::BroadcastOptions options;
    options.timeout = kForEver;
    finish(gloo->broadcast(tensors, options));
  }
};

ProcessGroup::ProcessGroup(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<ProcessGroup> ProcessGroup::join(const GroupPlace& place) {
  auto impl = std::make_unique<Impl>();
  impl->place = place;
  Meeting meeting = meet(place);
  try {
    const auto device = tls_device(place, meeting.secret_file);
    impl->gloo = connect(place, meeting, "main", device);
    impl->watch = Watch::start(connect(place, meeting, "watch", device), place.silence_seconds);
  } catch (const Error&) {
    meeting.close(place.world.rank);
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    meeting.close(place.world.rank);
    throw group_error(place, "the processes have met but cannot connect",
                      printable(text.substr(0, text.find('\n')), 300));
  }
  if (place.device.is_cuda() && have_a_gpu_each(place, meeting)) {
    const auto rank = static_cast<int>(place.world.rank), size = static_cast<int>(place.world.size);
    impl->nccl = NcclGroup::make(
        c10::make_intrusive<c10d::PrefixStore>(meeting.prefix + "/nccl", meeting.store), rank, size,
        place.device);
  }
  std::unique_ptr<ProcessGroup> group(new ProcessGroup(std::move(impl)));
  group->wait();
  meeting.close(place.world.rank);
  return group;
}

ProcessGroup::~ProcessGroup() {
  farewell(std::uncaught_exceptions() > 0 ? "it has stopped" : "");
  if (impl_->given_up) impl_->gloo.release();  // its destructor would wait for the others
}

void ProcessGroup::farewell(const std::string& reason) noexcept {
  impl_->watch->stop(reason, kFarewellSeconds);
}

int64_t ProcessGroup::rank() const { return impl_->place.world.rank; }
int64_t ProcessGroup::size() const { return impl_->place.world.size; }
bool ProcessGroup::has_nccl() const { return impl_->nccl != nullptr; }

void ProcessGroup::sum(at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const c10::NoGradGuard no_grad;
  if (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble)
    throw Error({.where = "process group",
                 .what = "only float32 and float64 are added over processes",
                 .got = c10::toString(tensor.scalar_type())});
  if (impl_->nccl && tensor.is_cuda() && tensor.is_contiguous())
    return impl_->nccl->sum(tensor, [&] { impl_->look(); });
  at::Tensor host = on_host(tensor);
  impl_->sum(host);
  if (host.data_ptr() != tensor.data_ptr()) tensor.copy_(host);
}

void ProcessGroup::broadcast(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return;
  const c10::NoGradGuard no_grad;
  at::Tensor mine = tensor.detach();
  if (impl_->nccl && mine.is_cuda() && mine.is_contiguous())
    return impl_->nccl->broadcast(mine, [&] { impl_->look(); });
  const at::Tensor host = on_host(mine);
  impl_->broadcast(host.mutable_data_ptr(), static_cast<int64_t>(host.nbytes()));
  if (host.data_ptr() != mine.data_ptr()) mine.copy_(host);
}

std::string ProcessGroup::broadcast(const std::string& text) {
  auto size = static_cast<int64_t>(text.size());
  impl_->broadcast(&size, sizeof size);
  if (size < 0 || size > kMostText)
    throw group_error(impl_->place, "a text too long", cat(size, " bytes"));
  std::string out = rank() == 0 ? text : std::string(static_cast<size_t>(size), '\0');
  if (size > 0) impl_->broadcast(out.data(), size);
  return out;
}

void ProcessGroup::wait() {
  at::Tensor all = at::zeros({1}, at::kDouble);
  impl_->sum(all);
}

}  // namespace kvlingua
