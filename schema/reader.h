// Reading typed structs from JSON: the part of it that is the same for all types.
//
// Generated code calls ObjectReader::required() and optional() for each member, which call the
// read() overload of the member's type. The first error ends the reading. Values come either from
// JSON or from a command line, where every scalar is a string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"
#include "schema/builtin.h"
#include "schema/json.h"
#include "schema/type_list.h"

namespace cairn::schema {

enum class InputForm {
  kJson,    // numbers and booleans have types of their own
  kKeyval,  // every scalar is a string
};

// What all Inputs of one reading share.
struct Reading {
  InputForm form = InputForm::kJson;
  std::optional<Error> error;
};

// One value in a document and the way to it. Lives on the stack while its value is read; the value
// and the parent outlive it.
class Input {
 public:
  // The whole document.
  Input(Reading& reading, const JsonValue& value) : reading_(reading), value_(value) {}
  // A member of an object.
  Input(const Input& parent, std::string_view name, const JsonValue& value)
      : reading_(parent.reading_), value_(value), parent_(&parent), name_(name) {}
  // An element of an array.
  Input(const Input& parent, size_t index, const JsonValue& value)
      : reading_(parent.reading_), value_(value), parent_(&parent), index_(index) {}

  [[nodiscard]] const JsonValue& value() const { return value_; }
  [[nodiscard]] bool keyval() const { return reading_.form == InputForm::kKeyval; }
  // The value can be taken for a boolean or a number: which branch of an alternate it is for.
  [[nodiscard]] bool is_bool() const;
  [[nodiscard]] bool is_number() const;

  // Where the value stands: "file.cache", "actions[0].data".
  [[nodiscard]] std::string path() const;
  // The last part of the way; an element of an array has none, which reads "null".
  [[nodiscard]] std::string_view name() const;

  // Each records an error, unless there is one already, and returns false.
  bool fail_with(std::string message) const;
  bool fail_type(std::string_view expected) const;  // names the value as alternates do
  bool fail_value(std::string_view expected) const;
  bool fail_mismatch(std::string_view expected) const;

 private:
  Reading& reading_;
  const JsonValue& value_;
  const Input* parent_ = nullptr;
  std::string_view name_;
  size_t index_ = 0;
};

bool read(const Input& in, std::string& out);
bool read(const Input& in, bool& out);
bool read(const Input& in, double& out);
bool read(const Input& in, int64_t& out);
bool read(const Input& in, uint64_t& out);
bool read(const Input& in, int8_t& out);
bool read(const Input& in, int16_t& out);
bool read(const Input& in, int32_t& out);
bool read(const Input& in, uint8_t& out);
bool read(const Input& in, uint16_t& out);
bool read(const Input& in, uint32_t& out);
bool read(const Input& in, Null& out);
bool read(const Input& in, JsonValue& out);
bool read(const Input& in, NoArguments& out);

// A number of bytes; on a command line it may have a suffix: k, M, G, T, P, E.
bool read_size(const Input& in, uint64_t& out);

// The index of the string among `names`.
bool read_enum(const Input& in, std::span<const std::string_view> names, size_t& index);

// The members of one object. Ends with finish(), which refuses members that nobody asked for.
class ObjectReader {
 public:
  explicit ObjectReader(const Input& in);

  // False when the value is no object; the error is recorded.
  [[nodiscard]] bool ok() const { return object_ != nullptr; }

  template <typename T>
  bool required(std::string_view name, T& out) {
    const JsonValue* value = take(name);
    return value ? read(Input(in_, name, *value), out) : fail_missing(name);
  }

  template <typename T>
  bool optional(std::string_view name, std::optional<T>& out) {
    const JsonValue* value = take(name);
    out.reset();
    return !value || read(Input(in_, name, *value), out.emplace());
  }

  bool required_size(std::string_view name, uint64_t& out);
  bool optional_size(std::string_view name, std::optional<uint64_t>& out);

  bool finish();

 private:
  const JsonValue* take(std::string_view name);
  bool fail_missing(std::string_view name);

  const Input& in_;
  const JsonObject* object_;
  std::vector<bool> taken_;
};

template <typename E>
  requires std::is_enum_v<E>
bool read(const Input& in, E& out) {
  size_t index = 0;
  if (!read_enum(in, enum_names(E{}), index)) {
    return false;
  }
  out = static_cast<E>(index);
  return true;
}

}  // namespace cairn::schema
