// Options of encryption of qcow2's `create`.
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "block/create_options.h"
#include "block/graph.h"
#include "formats/qcow2/create.h"

namespace cairn::qcow2 {
namespace {

constexpr std::string_view kOptionPrefix = "encrypt.";

// The first option of encryption there is; empty when there is none.
std::string_view first_option(const block::CreateOptions& options, bool of_luks_only) {
  for (const block::CreateOptionInfo& info : options.table()) {
    const bool shared = info.name == "encrypt.format" || info.name == "encrypt.key-secret";
    if (info.name.starts_with(kOptionPrefix) && options.has(info.name) &&
        !(of_luks_only && shared)) {
      return info.name;
    }
  }
  return {};
}

}  // namespace

Result<void> parse_encryption(const block::CreateOptions& options, CreateParameters& parameters) {
  const auto format = options.string("encrypt.format");
  const bool alias = options.boolean("encryption").value_or(false);
  if (alias && format) {
    return fail(EINVAL,
                "'encrypt.format' and its alias 'encryption' can't be used at the same time");
  }
  if (!alias && !format) {
    if (!first_option(options, false).empty()) {
      return fail(EINVAL, "Parameter 'encrypt.format' is missing");
    }
    return {};
  }
  if (alias || *format == "aes") {
    if (const std::string_view odd = first_option(options, true); !odd.empty()) {
      return fail(EINVAL, "Parameter '{}' is unexpected", odd);
    }
    parameters.crypt_method = CryptMethod::kAes;
    parameters.luks.secret = options.string("encrypt.key-secret");
    return {};
  }
  if (*format != "luks") {
    return fail(EINVAL, "Parameter 'format' does not accept value '{}'", *format);
  }
  Result<encryption::LuksParameters> luks =
      encryption::parse_luks_parameters(options, kOptionPrefix);
  if (!luks) {
    return pass(luks);
  }
  parameters.crypt_method = CryptMethod::kLuks;
  parameters.luks = std::move(*luks);
  return {};
}

Result<void> take_password(const block::Graph& graph, CreateParameters& parameters) {
  if (parameters.crypt_method == CryptMethod::kNone) {
    return {};
  }
  Result<std::string> password =
      encryption::find_password(graph, parameters.luks.secret, kOptionPrefix);
  if (!password) {
    return pass(password);
  }
  parameters.password = std::move(*password);
  return {};
}

}  // namespace cairn::qcow2
