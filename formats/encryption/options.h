// Options of encrypted volumes, as `create` and `amend` take them by name: "cipher-alg", or with a
// prefix, "encrypt.cipher-alg", where they are some of a format's many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "crypto/sector_cipher.h"
#include "formats/encryption/luks2_metadata.h"

namespace cairn::block {
class CreateOptions;
class Graph;
}  // namespace cairn::block

namespace cairn::encryption {

// How to make a header.
struct LuksParameters {
  crypto::SectorCipherParameters cipher;
  crypto::Hash hash = crypto::Hash::kSha256;
  uint64_t milliseconds = 2000;  // to derive a key
  std::optional<std::string> secret;
  unsigned version = 1;
  Luks2Kdf::Type kdf = Luks2Kdf::Type::kPbkdf2;
  uint32_t kdf_memory = 0;  // KiB; of Argon2
  uint32_t kdf_lanes = 0;

  [[nodiscard]] uint32_t key_bytes() const {
    return static_cast<uint32_t>(crypto::key_length(cipher));
  }
};

// EINVAL for values that nobody knows.
[[nodiscard]] Result<LuksParameters> parse_luks_parameters(const block::CreateOptions& options,
                                                           std::string_view prefix);

// The part of it that only whole volumes have: the version, and what comes with it.
[[nodiscard]] Result<void> parse_luks_version(const block::CreateOptions& options,
                                              LuksParameters& parameters);

// The password that an option names, which is missing from the messages' point of view when there
// is no name. `prefix` is that of the option.
[[nodiscard]] Result<std::string> find_password(const block::Graph& graph,
                                                const std::optional<std::string>& name,
                                                std::string_view prefix);

// A change of key slots.
struct LuksAmendment {
  bool activate = false;  // else: erase
  std::optional<std::string> new_secret;
  std::optional<std::string> old_secret;
  std::optional<uint32_t> keyslot;
  std::optional<uint64_t> milliseconds;
  std::optional<std::string> secret;  // that opens the volume
  bool force = false;                 // also what loses the data
};

[[nodiscard]] Result<LuksAmendment> parse_luks_amendment(const block::CreateOptions& options,
                                                         std::string_view prefix);

// What does not go together, whatever the volume holds.
[[nodiscard]] Result<void> check_amendment(const LuksAmendment& amendment);

}  // namespace cairn::encryption
