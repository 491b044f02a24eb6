// The encryption that qcow and qcow2 had before LUKS: AES-128 in CBC mode, the first 16 bytes of
// the password as its key. It does not protect much (the password is not hashed, initialisation
// vectors can be foretold) and is here for images that have it.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "block/sector_codec.h"

namespace cairn::encryption {

// Sectors of 512 bytes are numbered by guest offset. Wipes the password.
[[nodiscard]] Result<std::unique_ptr<block::SectorCodec>> make_legacy_aes(std::string password);

}  // namespace cairn::encryption
