#include "crypto/digest.h"

#include "crypto/library.h"

namespace cairn::crypto {

Result<std::unique_ptr<Digest>> make_sha256() {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->make_sha256();
}

}  // namespace cairn::crypto
