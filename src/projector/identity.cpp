#include "kvlingua/projector/identity.h"

#include <ATen/ATen.h>

#include "kvlingua/base/error.h"

namespace kvlingua {

IdentityProjector::IdentityProjector(const KvShape& source, const KvShape& target)
    : Projector(source, target) {
  if (source == target) return;
  throw Error({.code = ExitCode::kInput,
               .where = "projector identity",
               .what = "source and target caches have different shapes",
               .got = cat("source ", source.describe(), ", target ", target.describe()),
               .expected = "one shape",
               .remedy = "use projector.kind ridge or mlp for this pair"});
}

CacheRows IdentityProjector::translate_rows(const CacheRows& source, const CacheRows*,
                                            uint64_t) const {
  check_source(source.shape());
  return source.to(source.keys_NLHD.device(),
                   at::promote_types(source.keys_NLHD.scalar_type(), at::kFloat));
}

}  // namespace kvlingua
