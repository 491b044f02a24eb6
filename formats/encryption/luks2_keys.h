// The master key in the slots of a LUKS2 header: taking it out with a password, and putting it in.
// For the worker pool; no I/O.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "crypto/secret_bytes.h"
#include "formats/encryption/luks2_metadata.h"

namespace cairn::encryption {

// Bytes of a slot's key material that are used: whole sectors.
[[nodiscard]] std::size_t material_bytes(const Luks2Slot& slot);

// The master key, when `slot` holds it for this password. `material` is as it was stored.
[[nodiscard]] Result<std::optional<crypto::SecretBytes>> open_luks2_slot(
    const Luks2Slot& slot, const Luks2Digest& digest, std::span<const std::byte> material,
    std::span<const std::byte> password);

// What `slot` is to hold so that the password opens it.
[[nodiscard]] Result<std::vector<std::byte>> seal_luks2_slot(const Luks2Slot& slot,
                                                             std::span<const std::byte> key,
                                                             std::span<const std::byte> password);

// A salt, and as much work as takes about so long: iterations of PBKDF2, or passes of Argon2 over
// `memory` KiB with `lanes` of them.
[[nodiscard]] Result<void> prepare_kdf(Luks2Kdf& kdf, uint32_t key_bytes, uint64_t milliseconds);

// Salt, iterations and digest that a key is recognized by.
[[nodiscard]] Result<void> set_luks2_digest(Luks2Digest& digest, std::span<const std::byte> key,
                                            uint64_t milliseconds);

}  // namespace cairn::encryption
