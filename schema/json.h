// JsonValue: a JSON document in memory, and its text form.
//
// Objects keep the order of their members and have no duplicates. Numbers keep whether they were
// written as integers. Strings are UTF-8, except that U+0000 is kept as the two bytes C0 80, so
// that no text that came from outside holds a zero byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cairn::schema {

class JsonValue;
using JsonArray = std::vector<JsonValue>;

// The members of an object, in order. Lookup is linear: objects in this protocol are small, and the
// parser rejects duplicates by other means.
class JsonObject {
 public:
  using Member = std::pair<std::string, JsonValue>;

  JsonObject();
  JsonObject(const JsonObject&);
  JsonObject(JsonObject&&) noexcept;
  JsonObject& operator=(const JsonObject&);
  JsonObject& operator=(JsonObject&&) noexcept;
  ~JsonObject();

  [[nodiscard]] const JsonValue* find(std::string_view name) const;
  [[nodiscard]] JsonValue* find(std::string_view name);
  // Appends a member; `name` must not be there yet.
  void add(std::string name, JsonValue value);
  // Removes a member and returns it; null when there is none.
  [[nodiscard]] JsonValue take(std::string_view name);

  [[nodiscard]] size_t size() const;
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] const Member* begin() const;
  [[nodiscard]] const Member* end() const;

  // The same members ordered by name, at every depth: a spelling that does not depend on who sent
  // it.
  void sort();

 private:
  std::vector<Member> members_;
};

class JsonValue {
 public:
  JsonValue() = default;
  JsonValue(std::nullptr_t) {}                                      // NOLINT: a value of this type
  JsonValue(bool value) : held_(value) {}                           // NOLINT
  JsonValue(int64_t value) : held_(value) {}                        // NOLINT
  JsonValue(uint64_t value);                                        // NOLINT
  JsonValue(int value) : held_(int64_t{value}) {}                   // NOLINT
  JsonValue(unsigned value) : held_(int64_t{value}) {}              // NOLINT
  JsonValue(double value) : held_(value) {}                         // NOLINT
  JsonValue(std::string value) : held_(std::move(value)) {}         // NOLINT
  JsonValue(std::string_view value) : held_(std::string(value)) {}  // NOLINT
  JsonValue(const char* value) : held_(std::string(value)) {}       // NOLINT
  JsonValue(JsonArray value) : held_(std::move(value)) {}           // NOLINT
  JsonValue(JsonObject value) : held_(std::move(value)) {}          // NOLINT

  [[nodiscard]] bool is_null() const { return held_.index() == 0; }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(held_); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(held_); }
  [[nodiscard]] bool is_array() const { return std::holds_alternative<JsonArray>(held_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<JsonObject>(held_); }
  // Written without fraction and exponent, and small enough.
  [[nodiscard]] bool is_integer() const {
    return std::holds_alternative<int64_t>(held_) || std::holds_alternative<uint64_t>(held_);
  }
  [[nodiscard]] bool is_number() const {
    return is_integer() || std::holds_alternative<double>(held_);
  }

  // Nothing when the value is of another type.
  [[nodiscard]] const bool* as_bool() const { return std::get_if<bool>(&held_); }
  [[nodiscard]] const std::string* as_string() const { return std::get_if<std::string>(&held_); }
  [[nodiscard]] const JsonArray* as_array() const { return std::get_if<JsonArray>(&held_); }
  [[nodiscard]] const JsonObject* as_object() const { return std::get_if<JsonObject>(&held_); }
  [[nodiscard]] JsonArray* as_array() { return std::get_if<JsonArray>(&held_); }
  [[nodiscard]] JsonObject* as_object() { return std::get_if<JsonObject>(&held_); }
  [[nodiscard]] const int64_t* as_int64() const { return std::get_if<int64_t>(&held_); }
  // Set only for integers that do not fit into int64_t.
  [[nodiscard]] const uint64_t* as_big_uint64() const { return std::get_if<uint64_t>(&held_); }
  // Any number, rounded where it must be; 0 for other types.
  [[nodiscard]] double to_double() const;

  // Orders the members of all objects inside by name.
  void sort();

 private:
  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, JsonArray, JsonObject>
      held_;
};

enum class JsonLayout {
  kLine,    // {"a": 1, "b": [1, 2]}
  kPretty,  // one member a line, four spaces a level
};

// The text of `value` in ASCII: other characters are escaped. No line break at the end.
[[nodiscard]] std::string to_text(const JsonValue& value, JsonLayout layout = JsonLayout::kLine);

}  // namespace cairn::schema
