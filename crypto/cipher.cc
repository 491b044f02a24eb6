#include "crypto/cipher.h"

#include <cstring>

#include "crypto/library.h"

namespace cairn::crypto {

Result<std::string> decrypt_aes_256_cbc(std::string_view key, std::string_view iv,
                                        std::string_view text) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->decrypt_aes_256_cbc(key, iv, text);
}

void wipe(std::string& text) {
  explicit_bzero(text.data(), text.size());
  text.clear();
}

}  // namespace cairn::crypto
