#include "objects/secret.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/base64.h"
#include "crypto/cipher.h"
#include "io/fd.h"
#include "objects/property.h"
#include "objects/registry.h"
#include "objects/types.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

namespace {

using Format = schema::QCryptoSecretFormat;

constexpr size_t kKeyBytes = 32;
constexpr size_t kMostSecretBytes = size_t{1} << 20;

Result<std::string> read_file(const std::string& path) {
  const io::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno(errno, "Unable to read {}", path);
  }
  std::string content;
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno != EINTR) {
      return fail_errno(errno, "Unable to read {}", path);
    }
    if (count == 0) {
      return content;
    }
    content.append(buffer.data(), count > 0 ? static_cast<size_t>(count) : 0);
    if (content.size() > kMostSecretBytes) {
      return fail(EFBIG, "Unable to read {}: a secret has at most {} bytes", path,
                  kMostSecretBytes);
    }
  }
}

Result<std::string> read_key(int32_t serial) {
  std::string content;
  while (true) {
    // Tells how long the key is, also when there is no room for it.
    const long length = syscall(SYS_keyctl, KEYCTL_READ, serial, content.data(), content.size(), 0);
    if (length < 0) {
      return fail_errno(errno, "Unable to read serial key {:08x}", static_cast<uint32_t>(serial));
    }
    const auto size = static_cast<size_t>(length);
    if (size > kMostSecretBytes) {
      return fail(EFBIG, "Serial key {:08x} has over {} bytes", static_cast<uint32_t>(serial),
                  kMostSecretBytes);
    }
    const bool complete = size <= content.size();
    content.resize(size);
    if (complete) {
      return content;
    }
  }
}

}  // namespace

const Property SecretCommon::kProperties[] = {
    field<&SecretCommon::iv_>("iv", "string"),
    field<&SecretCommon::keyid_>("keyid", "string"),
    constant_field<&SecretCommon::loaded_>("loaded", "bool"),
    field<&SecretCommon::format_>("format", "QCryptoSecretFormat"),
};
const Type SecretCommon::kType = {.name = "secret_common",
                                  .parent = &kObjectType,
                                  .abstract = true,
                                  .properties = kProperties,
                                  .implements = &kUserCreatableType};

SecretCommon::SecretCommon(const Type& type, std::string id,
                           const schema::SecretCommonProperties& options)
    : Object(type, std::move(id)),
      format_(options.format.value_or(Format::kRaw)),
      keyid_(options.keyid.value_or("")),
      iv_(options.iv.value_or("")) {}

// Not left in memory for others to find.
SecretCommon::~SecretCommon() { crypto::wipe(bytes_); }

Result<void> SecretCommon::load(std::string written, const Registry& registry) {
  const bool base64 = format_ == Format::kBase64;
  std::string key;
  std::string iv;
  if (!keyid_.empty()) {
    auto found = find_secret(registry, keyid_);
    if (!found) {
      return pass(found);
    }
    key = std::move(*found);
    if (key.size() != kKeyBytes) {
      return fail(EINVAL, "Key should be {} bytes in length", kKeyBytes);
    }
    if (iv_.empty()) {
      return fail(EINVAL, "IV is required to decrypt secret");
    }
    auto decoded = decode_base64(iv_);
    if (!decoded) {
      return pass(decoded);
    }
    iv = std::move(*decoded);
  }
  auto bytes = base64 ? decode_base64(written) : Result<std::string>(written);
  if (!bytes) {
    return pass(bytes);
  }
  if (!keyid_.empty()) {
    bytes = crypto::decrypt_aes_256_cbc(key, iv, *bytes);
    crypto::wipe(key);
  }
  crypto::wipe(written);
  if (!bytes) {
    return pass(bytes);
  }
  bytes_ = std::move(*bytes);
  return {};
}

const Property Secret::kProperties[] = {
    field<&Secret::file_>("file", "string"),
    field<&Secret::data_>("data", "string"),
};
const Type Secret::kType = {.name = "secret",
                            .parent = &SecretCommon::kType,
                            .properties = kProperties,
                            .option = "secret"};

Secret::Secret(std::string id, const schema::SecretProperties& options)
    : SecretCommon(kType, std::move(id), options),
      data_(options.data.value_or("")),
      file_(options.file.value_or("")) {}

Result<std::shared_ptr<Object>> Secret::make(std::string id,
                                             const schema::SecretProperties& options,
                                             const Registry& registry) {
  if (options.data && options.file) {
    return fail(EINVAL, "'file' and 'data' are mutually exclusive");
  }
  if (!options.data && !options.file) {
    return fail(EINVAL, "Either 'file' or 'data' must be provided");
  }
  auto written = options.file ? read_file(*options.file) : Result<std::string>(*options.data);
  if (!written) {
    return pass(written);
  }
  auto secret = std::make_shared<Secret>(std::move(id), options);
  auto loaded = secret->load(std::move(*written), registry);
  if (!loaded) {
    return pass(loaded);
  }
  return secret;
}

const Property KeyringSecret::kProperties[] = {
    field<&KeyringSecret::serial_>("serial", "int32_t"),
};
const Type KeyringSecret::kType = {.name = "secret_keyring",
                                   .parent = &SecretCommon::kType,
                                   .properties = kProperties,
                                   .option = "secret_keyring"};

KeyringSecret::KeyringSecret(std::string id, const schema::SecretKeyringProperties& options)
    : SecretCommon(kType, std::move(id), options), serial_(options.serial) {}

Result<std::shared_ptr<Object>> KeyringSecret::make(std::string id,
                                                    const schema::SecretKeyringProperties& options,
                                                    const Registry& registry) {
  if (options.serial == 0) {
    return fail(EINVAL, "'serial' should not be equal to 0");
  }
  auto written = read_key(options.serial);
  if (!written) {
    return pass(written);
  }
  auto secret = std::make_shared<KeyringSecret>(std::move(id), options);
  auto loaded = secret->load(std::move(*written), registry);
  if (!loaded) {
    return pass(loaded);
  }
  return secret;
}

Result<std::string> find_secret(const Registry& registry, std::string_view id) {
  auto secret = registry.find_as<SecretCommon>(id, "secret");
  if (!secret) {
    return pass(secret);
  }
  return (*secret)->bytes();
}

}  // namespace cairn::objects
