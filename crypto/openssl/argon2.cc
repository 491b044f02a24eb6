#include "crypto/openssl/argon2.h"

#include <cerrno>

#ifdef CAIRN_HAVE_ARGON2
#include <argon2.h>
#endif

namespace cairn::crypto::openssl {

#ifdef CAIRN_HAVE_ARGON2

Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                    std::span<const std::byte> salt, Argon2Cost cost, std::span<std::byte> out) {
  const auto hash = kind == Argon2Kind::kI ? argon2i_hash_raw : argon2id_hash_raw;
  const int code = hash(cost.passes, cost.memory, cost.lanes, password.data(), password.size(),
                        salt.data(), salt.size(), out.data(), out.size());
  if (code == ARGON2_MEMORY_ALLOCATION_ERROR) {
    return fail(ENOMEM, "Deriving a key with Argon2 takes {} KiB of memory, which are not there",
                cost.memory);
  }
  if (code != ARGON2_OK) {
    return fail(EINVAL, "Deriving a key with Argon2 failed: {}", argon2_error_message(code));
  }
  return {};
}

#else

Result<void> argon2(Argon2Kind /*kind*/, std::span<const std::byte> /*password*/,
                    std::span<const std::byte> /*salt*/, Argon2Cost /*cost*/,
                    std::span<std::byte> /*out*/) {
  return fail(ENOTSUP, "This build has no Argon2, which the keyslot needs");
}

#endif

}  // namespace cairn::crypto::openssl
