#include "formats/encryption/options.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <span>

#include "block/create_options.h"
#include "block/graph.h"
#include "formats/encryption/luks1_header.h"
#include "schema/types_crypto.h"

namespace cairn::encryption {
namespace {

std::string join(std::string_view prefix, std::string_view name) {
  return std::string(prefix).append(name);
}

// Sets `value` to the one of Enum that the option names, if it names one. Values of both
// enumerations have the same numbers.
template <typename Enum, typename Value>
Result<void> choose_value(const block::CreateOptions& options, std::string_view prefix,
                          std::string_view name, Value& value) {
  const auto text = options.string(join(prefix, name));
  if (!text) {
    return {};
  }
  const auto found = schema::from_string<Enum>(*text);
  if (!found) {
    return fail(EINVAL, "Parameter '{}' does not accept value '{}'", name, *text);
  }
  value = static_cast<Value>(*found);
  return {};
}

// Sets `value` to the place of the option's value among `names`, if the option is there.
Result<void> choose_name(const block::CreateOptions& options, std::string_view name,
                         std::span<const std::string_view> names, std::size_t& value) {
  const auto text = options.string(name);
  if (!text) {
    return {};
  }
  const auto found = std::ranges::find(names, *text);
  if (found == names.end()) {
    return fail(EINVAL, "Parameter '{}' does not accept value '{}'", name, *text);
  }
  value = static_cast<std::size_t>(found - names.begin());
  return {};
}

}  // namespace

Result<LuksParameters> parse_luks_parameters(const block::CreateOptions& options,
                                             std::string_view prefix) {
  LuksParameters parameters;
  crypto::SectorCipherParameters& cipher = parameters.cipher;
  auto chosen =
      choose_value<schema::QCryptoCipherAlgo>(options, prefix, "cipher-alg", cipher.cipher);
  if (chosen) {
    chosen = choose_value<schema::QCryptoCipherMode>(options, prefix, "cipher-mode", cipher.mode);
  }
  if (chosen) {
    chosen =
        choose_value<schema::QCryptoIVGenAlgo>(options, prefix, "ivgen-alg", cipher.iv_generator);
  }
  if (chosen) {
    chosen =
        choose_value<schema::QCryptoHashAlgo>(options, prefix, "ivgen-hash-alg", cipher.iv_hash);
  }
  if (chosen) {
    chosen = choose_value<schema::QCryptoHashAlgo>(options, prefix, "hash-alg", parameters.hash);
  }
  if (!chosen) {
    return pass(chosen);
  }
  parameters.milliseconds =
      options.number(join(prefix, "iter-time")).value_or(parameters.milliseconds);
  parameters.secret = options.string(join(prefix, "key-secret"));
  if (crypto::family_of(cipher.cipher).empty()) {
    return fail(ENOTSUP, "Algorithm '{}' not supported", name_of(cipher.cipher));
  }
  return parameters;
}

Result<void> parse_luks_version(const block::CreateOptions& options, LuksParameters& parameters) {
  constexpr uint64_t kUsualMemory = 262144;  // KiB
  constexpr std::array<std::string_view, 2> kVersions = {"luks1", "luks2"};
  std::size_t version = 0;
  auto chosen = choose_name(options, "version", kVersions, version);
  const bool is_new = version == 1;
  parameters.version = is_new ? 2 : 1;
  parameters.kdf = is_new ? Luks2Kdf::Type::kArgon2id : Luks2Kdf::Type::kPbkdf2;
  if (chosen) {
    auto kdf = static_cast<std::size_t>(parameters.kdf);
    chosen = choose_name(options, "pbkdf", luks2_kdf_names(), kdf);
    parameters.kdf = static_cast<Luks2Kdf::Type>(kdf);
  }
  if (!chosen) {
    return chosen;
  }
  const uint64_t memory = options.number("pbkdf-memory").value_or(kUsualMemory);
  const uint64_t lanes = options.number("pbkdf-threads").value_or(Luks2Metadata::kMostLanes);
  const uint64_t sector = options.number("sector-size").value_or(is_new ? 4096 : kLuksSector);
  const bool is_argon2 = parameters.kdf != Luks2Kdf::Type::kPbkdf2;
  if (!is_new && (is_argon2 || sector != kLuksSector)) {
    return fail(EINVAL, "Parameter '{}' needs version=luks2", is_argon2 ? "pbkdf" : "sector-size");
  }
  if (lanes < 1 || lanes > Luks2Metadata::kMostLanes) {
    return fail(EINVAL, "Parameter 'pbkdf-threads' expects a number from 1 to {}",
                Luks2Metadata::kMostLanes);
  }
  if (memory < 8 * lanes || memory > Luks2Metadata::kMostMemory) {
    return fail(EINVAL, "Parameter 'pbkdf-memory' expects a number from {} to {}", 8 * lanes,
                Luks2Metadata::kMostMemory);
  }
  if (sector < kLuksSector || sector > 4096 || !std::has_single_bit(sector)) {
    return fail(EINVAL, "Parameter 'sector-size' expects 512, 1024, 2048 or 4096");
  }
  parameters.kdf_memory = static_cast<uint32_t>(memory);
  parameters.kdf_lanes = static_cast<uint32_t>(lanes);
  parameters.cipher.sector_size = static_cast<uint32_t>(sector);
  parameters.cipher.iv_step = sector / kLuksSector;
  return {};
}

Result<std::string> find_password(const block::Graph& graph, const std::optional<std::string>& name,
                                  std::string_view prefix) {
  if (!name) {
    return fail(EINVAL, "Parameter '{}key-secret' is required for cipher", prefix);
  }
  return graph.find_secret(*name);
}

Result<LuksAmendment> parse_luks_amendment(const block::CreateOptions& options,
                                           std::string_view prefix) {
  LuksAmendment amendment;
  if (!options.has(join(prefix, "state"))) {
    return fail(EINVAL, "Parameter 'state' is missing");
  }
  auto state = schema::QCryptoBlockLUKSKeyslotState::kInactive;
  auto chosen = choose_value<schema::QCryptoBlockLUKSKeyslotState>(options, prefix, "state", state);
  if (!chosen) {
    return pass(chosen);
  }
  amendment.activate = state == schema::QCryptoBlockLUKSKeyslotState::kActive;
  amendment.new_secret = options.string(join(prefix, "new-secret"));
  amendment.old_secret = options.string(join(prefix, "old-secret"));
  amendment.secret = options.string(join(prefix, "secret"));
  amendment.milliseconds = options.number(join(prefix, "iter-time"));
  if (const auto keyslot = options.number(join(prefix, "keyslot"))) {
    amendment.keyslot = static_cast<uint32_t>(*keyslot);
  }
  amendment.force = options.forced();
  return amendment;
}

Result<void> check_amendment(const LuksAmendment& amendment) {
  if (amendment.activate) {
    if (!amendment.new_secret) {
      return fail(EINVAL, "'new-secret' is required to activate a keyslot");
    }
    if (amendment.old_secret) {
      return fail(EINVAL, "'old-secret' must not be given when activating keyslots");
    }
    return {};
  }
  if (amendment.new_secret) {
    return fail(EINVAL, "'new-secret' must not be given when erasing keyslots");
  }
  if (amendment.milliseconds) {
    return fail(EINVAL, "'iter-time' must not be given when erasing keyslots");
  }
  if (!amendment.keyslot && !amendment.old_secret) {
    return fail(EINVAL,
                "To erase keyslot(s), either explicit keyslot index or the password currently "
                "contained in them must be given");
  }
  return {};
}

}  // namespace cairn::encryption
