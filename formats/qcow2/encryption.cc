#include "formats/qcow2/encryption.h"

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "block/create_options.h"
#include "block/graph.h"
#include "formats/encryption/legacy_aes.h"
#include "schema/types_block_info.h"
#include "schema/types_block_options.h"

namespace cairn::qcow2 {
namespace {

constexpr std::string_view kPrefix = "encrypt.";

std::string_view name_of(CryptMethod method) {
  return method == CryptMethod::kAes ? "aes" : "luks";
}

Result<void> check_wanted(const schema::BlockdevOptionsQcow2& options, const Header& header) {
  if (!options.encrypt) {
    return {};
  }
  const std::string_view wanted = schema::to_string(options.encrypt->format);
  if (header.crypt_method == CryptMethod::kNone) {
    return fail(EINVAL, "No encryption in image header, but options specified format '{}'", wanted);
  }
  if (wanted != name_of(header.crypt_method)) {
    return fail(EINVAL, "Header reported '{}' encryption format but options specify '{}'",
                name_of(header.crypt_method), wanted);
  }
  return {};
}

std::optional<std::string> secret_of(const schema::BlockdevOptionsQcow2& options) {
  if (!options.encrypt) {
    return std::nullopt;
  }
  if (const auto* luks = std::get_if<schema::QCryptoBlockOptionsLUKS>(&options.encrypt->branch)) {
    return luks->key_secret;
  }
  const auto* aes = std::get_if<schema::QCryptoBlockOptionsQCow>(&options.encrypt->branch);
  return aes != nullptr ? aes->key_secret : std::nullopt;
}

// Where the LUKS header lies (section "Full disk encryption header pointer").
Result<encryption::HeaderArea> header_area(const Header& header, block::Edge& file) {
  const HeaderExtension* extension = header.extension(ExtensionType::kCryptHeader);
  if (extension == nullptr) {
    return fail(EINVAL, "Missing CRYPTO header for crypt method 2");
  }
  if (extension->data.size() != kCryptExtensionLength) {
    return fail(EINVAL, "CRYPTO header extension size {}, but expected size {}",
                extension->data.size(), kCryptExtensionLength);
  }
  const auto offset = load_be<uint64_t>(extension->data.data());
  const auto length = load_be<uint64_t>(extension->data.data() + 8);
  if (!is_aligned(offset, header.geometry().cluster_size())) {
    return fail(EINVAL, "Encryption header offset '{}' is not a multiple of cluster size '{}'",
                offset, header.geometry().cluster_size());
  }
  if (offset == 0 || offset > kMaxHostOffset || length > kMaxHostOffset) {
    return fail(EINVAL, "The encryption header at {} is beyond the limits of the format", offset);
  }
  return encryption::HeaderArea{.file = &file, .offset = offset, .length = length};
}

}  // namespace

io::Task<Result<std::unique_ptr<Encryption>>> Encryption::open(
    block::OpenContext& context, const schema::BlockdevOptionsQcow2& options, const Header& header,
    block::Edge& file) {
  std::unique_ptr<Encryption> made;
  if (auto possible = check_wanted(options, header); !possible) {
    co_return pass(possible);
  }
  if (header.crypt_method == CryptMethod::kNone) {
    co_return made;
  }
  made = std::make_unique<Encryption>();
  const std::optional<std::string> secret = secret_of(options);
  if (header.crypt_method == CryptMethod::kLuks) {
    Result<encryption::HeaderArea> area = header_area(header, file);
    if (!area) {
      co_return pass(area);
    }
    encryption::LuksOpening opening{.graph = &context.graph(),
                                    .secret = secret,
                                    .prefix = kPrefix,
                                    .without_key = context.flags().no_io,
                                    .numbering = encryption::Numbering::kHostOffset};
    auto volume = co_await encryption::open_luks(*area, std::move(opening));
    if (!volume) {
      co_return pass(volume);
    }
    made->luks_ = std::move(*volume);
  } else if (!context.flags().no_io) {
    Result<std::string> password = encryption::find_password(context.graph(), secret, kPrefix);
    if (!password) {
      co_return pass(password);
    }
    auto codec = encryption::make_legacy_aes(std::move(*password));
    if (!codec) {
      co_return pass(codec);
    }
    made->aes_ = std::move(*codec);
  }
  co_return made;
}

schema::ImageInfoSpecificQCow2Encryption Encryption::info() const {
  schema::ImageInfoSpecificQCow2Encryption info;
  info.format = schema::BlockdevQcow2EncryptionFormat::kAes;
  if (luks_ != nullptr) {
    info.format = schema::BlockdevQcow2EncryptionFormat::kLuks;
    info.branch = luks_->info();
  }
  return info;
}

io::Task<Result<void>> Encryption::amend(const block::CreateOptions& options) {
  if (luks_ == nullptr) {
    co_return fail(ENOTSUP, "Only LUKS encryption options can be amended");
  }
  Result<encryption::LuksAmendment> amendment = encryption::parse_luks_amendment(options, kPrefix);
  if (!amendment) {
    co_return pass(amendment);
  }
  co_return co_await luks_->amend(std::move(*amendment));
}

}  // namespace cairn::qcow2
