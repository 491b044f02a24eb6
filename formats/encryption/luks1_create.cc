// New LUKS1 headers.
#include <algorithm>
#include <cerrno>

#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "crypto/workers.h"
#include "formats/encryption/luks1_keys.h"
#include "formats/encryption/luks1_volume.h"
#include "formats/encryption/luks2_create.h"
#include "formats/encryption/uuid.h"

namespace cairn::encryption {
namespace {

Result<std::vector<std::byte>> make_bytes(const LuksParameters& parameters, Password password,
                                          bool detached) {
  Luks1Header header;
  header.cipher = parameters.cipher;
  header.hash = parameters.hash;
  header.key_bytes = parameters.key_bytes();
  Result<std::string> uuid = make_uuid();
  if (!uuid) {
    return pass(uuid);
  }
  header.uuid = std::move(*uuid);
  const Luks1Layout layout = Luks1Layout::compute(header.key_bytes);
  header.payload_sector = detached ? 0 : static_cast<uint32_t>(layout.payload / kLuksSector);
  for (std::size_t i = 0; i < Luks1Header::kSlots; ++i) {
    header.slots[i].material_sector = static_cast<uint32_t>(layout.material[i] / kLuksSector);
  }
  crypto::SecretBytes key(header.key_bytes);
  Result<void> result = crypto::random_bytes(key.span());
  if (result) {
    // A cipher that is not there is found out before anybody waits for the rest.
    auto cipher = crypto::make_sector_cipher(header.cipher, key.span());
    result = cipher ? Result<void>{} : Result<void>(pass(cipher));
  }
  if (result) {
    result = set_key_digest(header, key.span(), parameters.milliseconds);
  }
  Luks1Slot& slot = header.slots.front();
  if (result) {
    result = prepare_slot(header, slot, parameters.milliseconds);
  }
  if (!result) {
    return pass(result);
  }
  slot.active = true;
  const Result<std::vector<std::byte>> material = seal_slot(header, slot, key.span(), password);
  if (!material) {
    return std::unexpected(material.error());
  }
  std::vector<std::byte> bytes = serialize_luks1_header(header);
  bytes.resize(layout.material.front());
  bytes.insert(bytes.end(), material->begin(), material->end());
  return bytes;
}

}  // namespace

uint64_t luks_header_length(const LuksParameters& parameters) {
  if (parameters.version == 2) {
    return kLuks2HeaderLength;
  }
  return Luks1Layout::compute(parameters.key_bytes()).payload;
}

io::Task<Result<std::vector<std::byte>>> make_luks_header(LuksParameters parameters,
                                                          std::string password, bool detached) {
  auto make = [&parameters, &password, detached] {
    const Password bytes = crypto::bytes_of(password);
    return parameters.version == 2 ? make_luks2_header(parameters, bytes, detached)
                                   : make_bytes(parameters, bytes, detached);
  };
  Result<std::vector<std::byte>> bytes = co_await crypto::run_on_workers(make);
  crypto::wipe(password);
  co_return bytes;
}

}  // namespace cairn::encryption
