// The master key in the slots of a LUKS1 header (specification 1.2.3, section 4): taking it out
// with a password, and putting it in. Takes a processor's time for a second or more, so it is for
// the worker pool; no I/O.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "crypto/secret_bytes.h"
#include "formats/encryption/luks1_header.h"

namespace cairn::encryption {

using Password = std::span<const std::byte>;

// Bytes that a slot's key material takes on disk: whole sectors.
[[nodiscard]] std::size_t stored_material_bytes(const Luks1Header& header);

// The master key, when `slot` holds it for this password. `material` is as it was stored.
[[nodiscard]] Result<std::optional<crypto::SecretBytes>> open_slot(
    const Luks1Header& header, const Luks1Slot& slot, std::span<const std::byte> material,
    Password password);

// What `slot` is to hold, with its salt and iterations, so that the password opens it.
[[nodiscard]] Result<std::vector<std::byte>> seal_slot(const Luks1Header& header,
                                                       const Luks1Slot& slot,
                                                       std::span<const std::byte> key,
                                                       Password password);

// Sets salt, iterations and digest that a key is recognized by.
[[nodiscard]] Result<void> set_key_digest(Luks1Header& header, std::span<const std::byte> key,
                                          uint64_t milliseconds);

// A salt, and as many iterations as take so long.
[[nodiscard]] Result<void> prepare_slot(const Luks1Header& header, Luks1Slot& slot,
                                        uint64_t milliseconds);

}  // namespace cairn::encryption
