// Builtin types, enumerations, and the messages of everything that can be wrong with a value.
#include "schema/reader.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <limits>

namespace cairn::schema {

namespace {

// An integer as a command line spells it: decimal, 0x or 0 in front for other bases, and a sign.
template <typename T>
std::optional<T> parse_integer(const std::string& text) {
  if (text.empty()) {
    return std::nullopt;
  }
  char* end = nullptr;
  errno = 0;
  T value = 0;
  if constexpr (std::is_signed_v<T>) {
    value = std::strtoll(text.c_str(), &end, 0);
  } else {
    value = std::strtoull(text.c_str(), &end, 0);
  }
  const bool whole = end == text.c_str() + text.size() && end != text.c_str();
  return errno == 0 && whole ? std::optional(value) : std::nullopt;
}

std::optional<bool> parse_switch(std::string_view text) {
  if (text == "on" || text == "yes" || text == "true" || text == "y") {
    return true;
  }
  if (text == "off" || text == "no" || text == "false" || text == "n") {
    return false;
  }
  return std::nullopt;
}

// The string that stands for a scalar on a command line; null after an error.
const std::string* scalar(const Input& in) {
  const std::string* text = in.value().as_string();
  if (!text) {
    in.fail_with(fmt::format("Parameters '{}.*' are unexpected", in.path()));
  }
  return text;
}

template <typename T>
bool read_small(const Input& in, T& out, std::string_view name) {
  if constexpr (std::is_signed_v<T>) {
    int64_t value = 0;
    if (!read(in, value)) {
      return false;
    }
    out = static_cast<T>(value);
    return out == value || in.fail_with(fmt::format("Parameter '{}' expects {}", in.name(), name));
  } else {
    uint64_t value = 0;
    if (!read(in, value)) {
      return false;
    }
    out = static_cast<T>(value);
    return out == value || in.fail_with(fmt::format("Parameter '{}' expects {}", in.name(), name));
  }
}

}  // namespace

bool Input::is_bool() const {
  if (keyval()) {
    return value_.is_string() && parse_switch(*value_.as_string());
  }
  return value_.is_bool();
}

bool Input::is_number() const {
  if (keyval()) {
    return value_.is_string() && parse_integer<int64_t>(*value_.as_string());
  }
  return value_.is_number();
}

std::string_view Input::name() const { return parent_ && !name_.empty() ? name_ : "null"; }

std::string Input::path() const {
  if (!parent_) {
    return {};
  }
  const std::string above = parent_->path();
  if (name_.data() != nullptr) {  // a member, even one whose name is empty
    return above.empty() ? std::string(name_) : fmt::format("{}.{}", above, name_);
  }
  return keyval() ? fmt::format("{}.{}", above, index_) : fmt::format("{}[{}]", above, index_);
}

bool Input::fail_with(std::string message) const {
  if (!reading_.error) {
    reading_.error.emplace(EINVAL, std::move(message));
  }
  return false;
}

bool Input::fail_type(std::string_view expected) const {
  return fail_with(fmt::format("Invalid parameter type for '{}', expected: {}", name(), expected));
}

bool Input::fail_mismatch(std::string_view expected) const {
  const std::string where = parent_ ? path() : "null";
  return fail_with(fmt::format("Invalid parameter type for '{}', expected: {}", where, expected));
}

bool Input::fail_value(std::string_view expected) const {
  return fail_with(fmt::format("Parameter '{}' expects {}", path(), expected));
}

bool read(const Input& in, std::string& out) {
  const std::string* text = in.keyval() ? scalar(in) : in.value().as_string();
  if (!text) {
    return in.fail_mismatch("string");
  }
  out = *text;
  return true;
}

bool read(const Input& in, bool& out) {
  if (!in.keyval()) {
    const bool* value = in.value().as_bool();
    out = value && *value;
    return value || in.fail_mismatch("boolean");
  }
  const std::string* text = scalar(in);
  if (!text) {
    return false;
  }
  const std::optional<bool> value = parse_switch(*text);
  out = value.value_or(false);
  return value.has_value() || in.fail_value("'on' or 'off'");
}

bool read(const Input& in, double& out) {
  if (!in.keyval()) {
    out = in.value().to_double();
    return in.value().is_number() || in.fail_mismatch("number");
  }
  const std::string* text = scalar(in);
  if (!text) {
    return false;
  }
  const char* end = text->data() + text->size();
  const auto result = std::from_chars(text->data(), end, out);
  return (result.ec == std::errc() && result.ptr == end) || in.fail_mismatch("number");
}

bool read(const Input& in, int64_t& out) {
  if (!in.keyval()) {
    const int64_t* value = in.value().as_int64();
    out = value ? *value : 0;
    return value || in.fail_mismatch("integer");
  }
  const std::string* text = scalar(in);
  if (!text) {
    return false;
  }
  const std::optional<int64_t> value = parse_integer<int64_t>(*text);
  out = value.value_or(0);
  return value.has_value() || in.fail_value("integer");
}

// Negative numbers are taken for what they are in two's complement: clients rely on it.
bool read(const Input& in, uint64_t& out) {
  if (!in.keyval()) {
    const int64_t* small = in.value().as_int64();
    const uint64_t* big = in.value().as_big_uint64();
    out = small ? static_cast<uint64_t>(*small) : big ? *big : 0;
    return small || big || in.fail_value("uint64");
  }
  const std::string* text = scalar(in);
  if (!text) {
    return false;
  }
  const std::optional<uint64_t> value = parse_integer<uint64_t>(*text);
  out = value.value_or(0);
  return value.has_value() || in.fail_value("integer");
}

bool read(const Input& in, int8_t& out) { return read_small(in, out, "int8_t"); }
bool read(const Input& in, int16_t& out) { return read_small(in, out, "int16_t"); }
bool read(const Input& in, int32_t& out) { return read_small(in, out, "int32_t"); }
bool read(const Input& in, uint8_t& out) { return read_small(in, out, "uint8_t"); }
bool read(const Input& in, uint16_t& out) { return read_small(in, out, "uint16_t"); }
bool read(const Input& in, uint32_t& out) { return read_small(in, out, "uint32_t"); }

bool read(const Input& in, Null&) { return in.value().is_null() || in.fail_mismatch("null"); }

bool read(const Input& in, JsonValue& out) {
  out = in.value();
  return true;
}

bool read(const Input& in, NoArguments&) {
  ObjectReader members(in);
  return members.ok() && members.finish();
}

bool read_size(const Input& in, uint64_t& out) {
  if (!in.keyval()) {
    return read(in, out);
  }
  const std::string* text = scalar(in);
  if (!text) {
    return false;
  }
  constexpr std::string_view kSuffixes = "bkMGTPE";
  std::string digits = *text;
  unsigned shift = 0;
  if (!digits.empty()) {
    char last = digits.back();
    last = last == 'K' ? 'k' : last == 'B' ? 'b' : last;
    if (const size_t index = kSuffixes.find(last); index != kSuffixes.npos) {
      shift = static_cast<unsigned>(index) * 10;
      digits.pop_back();
    }
  }
  const bool sign = digits.find_first_of("+-") != digits.npos;
  const std::optional<uint64_t> value = parse_integer<uint64_t>(digits);
  if (sign || !value || *value > std::numeric_limits<uint64_t>::max() >> shift) {
    return in.fail_value("a non-negative number below 2^64");
  }
  out = *value << shift;
  return true;
}

bool read_enum(const Input& in, std::span<const std::string_view> names, size_t& index) {
  std::string text;
  if (!read(in, text)) {
    return false;
  }
  for (index = 0; index < names.size(); ++index) {
    if (names[index] == text) {
      return true;
    }
  }
  return in.fail_with(fmt::format("Parameter '{}' does not accept value '{}'", in.name(), text));
}

ObjectReader::ObjectReader(const Input& in) : in_(in), object_(in.value().as_object()) {
  if (object_) {
    taken_.resize(object_->size());
  } else {
    in.fail_mismatch("object");
  }
}

const JsonValue* ObjectReader::take(std::string_view name) {
  size_t index = 0;
  for (const auto& [key, value] : *object_) {
    if (key == name) {
      taken_[index] = true;
      return &value;
    }
    ++index;
  }
  return nullptr;
}

bool ObjectReader::fail_missing(std::string_view name) {
  const std::string above = in_.path();
  return in_.fail_with(above.empty() ? fmt::format("Parameter '{}' is missing", name)
                                     : fmt::format("Parameter '{}.{}' is missing", above, name));
}

bool ObjectReader::required_size(std::string_view name, uint64_t& out) {
  const JsonValue* value = take(name);
  return value ? read_size(Input(in_, name, *value), out) : fail_missing(name);
}

bool ObjectReader::optional_size(std::string_view name, std::optional<uint64_t>& out) {
  const JsonValue* value = take(name);
  out.reset();
  return !value || read_size(Input(in_, name, *value), out.emplace());
}

bool ObjectReader::finish() {
  size_t index = 0;
  for (const auto& [key, value] : *object_) {
    if (!taken_[index++]) {
      const Input unexpected(in_, key, value);
      // A member without a name is no element of a list.
      const std::string above = in_.path();
      const std::string path = !key.empty()    ? unexpected.path()
                               : above.empty() ? above
                                               : above + ".";
      return in_.fail_with(fmt::format("Parameter '{}' is unexpected", path));
    }
  }
  return true;
}

}  // namespace cairn::schema
