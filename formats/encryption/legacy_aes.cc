#include "formats/encryption/legacy_aes.h"

#include <algorithm>
#include <utility>

#include "crypto/cipher.h"
#include "crypto/secret_bytes.h"
#include "crypto/sector_cipher.h"
#include "formats/encryption/volume_codec.h"

namespace cairn::encryption {

Result<std::unique_ptr<block::SectorCodec>> make_legacy_aes(std::string password) {
  constexpr crypto::SectorCipherParameters kParameters{
      .cipher = crypto::Cipher::kAes128,
      .mode = crypto::CipherMode::kCbc,
      .iv_generator = crypto::IvGenerator::kPlain64};
  crypto::SecretBytes key(key_length(kParameters));
  const std::span<const std::byte> given = crypto::bytes_of(password);
  std::ranges::copy(given.first(std::min(given.size(), key.size())), key.data());
  crypto::wipe(password);
  auto cipher = crypto::make_sector_cipher(kParameters, key.span());
  if (!cipher) {
    return pass(cipher);
  }
  return std::make_unique<VolumeCodec>(std::move(*cipher), kParameters.sector_size,
                                       Numbering::kGuestOffset);
}

}  // namespace cairn::encryption
