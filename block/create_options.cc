#include "block/create_options.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/bool_text.h"
#include "base/size_text.h"

namespace cairn::block {
namespace {

using Type = CreateOptionInfo::Type;

Error size_error(std::string_view name) {
  return Error(EINVAL, fmt::format("Parameter '{}' expects a non-negative number below 2^64", name))
      .with_hint(
          "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
          "and exabytes, respectively.");
}

// A comma inside a value is written twice, as on the command line.
std::string escape(std::string_view value) {
  std::string escaped;
  for (const char c : value) {
    escaped.append(c == ',' ? 2 : 1, c);
  }
  return escaped;
}

}  // namespace

Result<uint64_t> parse_number(std::string_view name, std::string_view text) {
  const std::string_view whole = text;
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative || text.starts_with('+') ? 1 : 0);
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = hex ? text.substr(2) : text;
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
  if (error == std::errc::result_out_of_range) {
    return fail(ERANGE, "Value '{}' is too large for parameter '{}'", whole, name);
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return fail(EINVAL, "Parameter '{}' expects a number", name);
  }
  return negative ? uint64_t{0} - value : value;
}

Result<void> CreateOptions::set(std::string_view name, std::string_view value) {
  const auto info = std::ranges::find(table_, name, &CreateOptionInfo::name);
  if (info == table_.end()) {
    return fail(EINVAL, "Invalid parameter '{}'", name);
  }
  std::string normal(value);
  switch (info->type) {
    case Type::kString:
      break;
    case Type::kBool:
      if (!parse_bool(value)) {
        return fail(EINVAL, "Parameter '{}' expects 'on' or 'off'", name);
      }
      break;
    case Type::kNumber: {
      const Result<uint64_t> number = parse_number(name, value);
      if (!number) {
        return std::unexpected(number.error());
      }
      // What was given as negative is shown so.
      normal = std::to_string(static_cast<int64_t>(*number));
      break;
    }
    case Type::kSize: {
      const Result<uint64_t> size = parse_size(value);
      if (!size && size.error().code() == ERANGE) {
        return fail(ERANGE, "Value '{}' is out of range for parameter '{}'", value, name);
      }
      if (!size) {
        return std::unexpected(size_error(name));
      }
      normal = std::to_string(*size);
      break;
    }
  }
  values_.insert_or_assign(std::string(name), std::move(normal));
  return {};
}

bool CreateOptions::has(std::string_view name) const { return values_.contains(name); }

std::optional<std::string> CreateOptions::string(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<bool> CreateOptions::boolean(std::string_view name) const {
  const auto text = string(name);
  return text ? parse_bool(*text) : std::nullopt;
}

std::optional<uint64_t> CreateOptions::number(std::string_view name) const {
  const auto text = string(name);
  if (!text) {
    return std::nullopt;
  }
  const Result<uint64_t> number = parse_number(name, *text);
  return number ? std::optional(*number) : std::nullopt;
}

std::string CreateOptions::to_text() const {
  std::string text;
  for (const CreateOptionInfo& info : table_) {
    const auto found = values_.find(info.name);
    const std::string_view value =
        found == values_.end() ? info.default_value : std::string_view(found->second);
    if (found == values_.end() && value.empty()) {
      continue;
    }
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", info.name, escape(value));
  }
  return text;
}

}  // namespace cairn::block
