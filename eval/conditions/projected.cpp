#include "eval/conditions/projected.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

std::string describe(const Projector& projector, const std::string& checkpoint) {
  return cat("The source's cache of the context through the ", projector.kind(), " projector",
             checkpoint.empty() ? "" : " of " + checkpoint,
             projector.fuses()
                 ? ", fused with the target's own cache: the target reads the context too."
                 : ", injected after the target's own prefix. The target never reads the context.");
}

class Projected : public Condition {
 public:
  Projected(const std::string& name, const Projector& projector, const std::string& checkpoint)
      : Condition(name, describe(projector, checkpoint)), projector_(&projector) {}
  Given give(Block& block, size_t i) const override {
    return after_span(block, i, block.translated(name(), *projector_, i),
                      name() + ":" + block.item(i).probe->context);
  }

 private:
  const Projector* projector_;
};

}  // namespace

std::unique_ptr<Condition> make_projected(const std::string& name, const Projector& projector,
                                          const std::string& checkpoint) {
  return std::make_unique<Projected>(name, projector, checkpoint);
}

}  // namespace kvlingua
