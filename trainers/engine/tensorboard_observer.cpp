// The observer that writes TensorBoard events (observer.h).
#include <filesystem>
#include <optional>

#include "kvlingua/io/tensorboard_events.h"
#include "trainers/engine/observer.h"

namespace kvlingua {
namespace {

class TensorBoardObserver : public Observer {
 public:
  explicit TensorBoardObserver(const std::filesystem::path& run) : folder_(run / "events") {}
  void begin(const TrainState& state, bool resumed) override {
    if (writer_) return;
    const auto purge = resumed ? std::optional<int64_t>(state.global_step + 1) : std::nullopt;
    writer_ = std::make_unique<EventWriter>(folder_, purge);
  }
  void step(const StepReport& r) override {
    const std::string prefix = r.stage + "/";
    writer_->scalar(prefix + "loss", r.loss, r.global_step);
    writer_->scalar(prefix + "lr", r.lr, r.global_step);
    writer_->scalar(prefix + "gradient_norm", r.gradient_norm, r.global_step);
    for (const auto& [name, value] : r.parts) writer_->scalar(prefix + name, value, r.global_step);
    const double rate = static_cast<double>(r.tokens) / r.seconds;
    writer_->scalar("speed/tokens_per_second", rate, r.global_step);
    if (r.peak_share) writer_->scalar("speed/peak_share", *r.peak_share, r.global_step);
  }
  void validation(const TrainState& state, const ValidationNumbers& numbers) override {
    const nlohmann::ordered_json all = numbers.to_json();
    for (const auto& [name, value] : all.items()) {
      if (!value.is_number()) continue;
      writer_->scalar("validation/" + name, value.get<double>(), state.global_step);
    }
  }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<EventWriter> writer_;
};

}  // namespace

std::unique_ptr<Observer> make_tensorboard_observer(const std::filesystem::path& run) {
  return std::make_unique<TensorBoardObserver>(run);
}

}  // namespace kvlingua
