// JsonValue and its text form.
#include "schema/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "schema/utf8.h"

namespace cairn::schema {

JsonObject::JsonObject() = default;
JsonObject::JsonObject(const JsonObject&) = default;
JsonObject::JsonObject(JsonObject&&) noexcept = default;
JsonObject& JsonObject::operator=(const JsonObject&) = default;
JsonObject& JsonObject::operator=(JsonObject&&) noexcept = default;
JsonObject::~JsonObject() = default;

const JsonValue* JsonObject::find(std::string_view name) const {
  for (const auto& [key, value] : members_) {
    if (key == name) {
      return &value;
    }
  }
  return nullptr;
}

JsonValue* JsonObject::find(std::string_view name) {
  return const_cast<JsonValue*>(std::as_const(*this).find(name));
}

void JsonObject::add(std::string name, JsonValue value) {
  members_.emplace_back(std::move(name), std::move(value));
}

JsonValue JsonObject::take(std::string_view name) {
  for (auto at = members_.begin(); at != members_.end(); ++at) {
    if (at->first == name) {
      JsonValue value = std::move(at->second);
      members_.erase(at);
      return value;
    }
  }
  return {};
}

size_t JsonObject::size() const { return members_.size(); }
const JsonObject::Member* JsonObject::begin() const { return members_.data(); }
const JsonObject::Member* JsonObject::end() const { return members_.data() + members_.size(); }

void JsonObject::sort() {
  std::ranges::sort(members_, {},
                    [](const Member& member) { return std::string_view(member.first); });
  for (auto& [key, value] : members_) {
    value.sort();
  }
}

JsonValue::JsonValue(uint64_t value) {
  if (value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    held_ = static_cast<int64_t>(value);
  } else {
    held_ = value;
  }
}

double JsonValue::to_double() const {
  if (const auto* number = std::get_if<int64_t>(&held_)) {
    return static_cast<double>(*number);
  }
  if (const auto* number = std::get_if<uint64_t>(&held_)) {
    return static_cast<double>(*number);
  }
  const auto* number = std::get_if<double>(&held_);
  return number ? *number : 0;
}

void JsonValue::sort() {
  if (JsonObject* object = as_object()) {
    object->sort();
  } else if (JsonArray* array = as_array()) {
    for (JsonValue& element : *array) {
      element.sort();
    }
  }
}

namespace {

// Writes values one after the other; the depth of a document is bounded by whoever made it.
class TextWriter {
 public:
  explicit TextWriter(JsonLayout layout) : pretty_(layout == JsonLayout::kPretty) {}

  std::string take() { return std::move(text_); }

  void write(const JsonValue& value) {
    if (const auto* object = value.as_object()) {
      write_object(*object);
    } else if (const auto* array = value.as_array()) {
      write_array(*array);
    } else if (const auto* string = value.as_string()) {
      write_string(*string);
    } else if (const auto* truth = value.as_bool()) {
      text_ += *truth ? "true" : "false";
    } else if (value.is_number()) {
      write_number(value);
    } else {
      text_ += "null";
    }
  }

 private:
  void write_number(const JsonValue& value) {
    if (const auto* small = value.as_int64()) {
      text_ += fmt::format("{}", *small);
    } else if (const auto* big = value.as_big_uint64()) {
      text_ += fmt::format("{}", *big);
    } else {
      const double number = value.to_double();
      // JSON has no spelling for infinity; no input can produce it.
      text_ += fmt::format("{:.17g}", std::isfinite(number) ? number : 0.0);
    }
  }

  void write_string(const std::string& string) {
    text_ += '"';
    std::string_view rest = string;
    while (!rest.empty()) {
      append_escaped(text_, take_code_point(rest));
    }
    text_ += '"';
  }

  void write_object(const JsonObject& object) {
    open('{');
    bool first = true;
    for (const auto& [name, value] : object) {
      next(first);
      write_string(name);
      text_ += ": ";
      write(value);
    }
    close('}');
  }

  void write_array(const JsonArray& array) {
    open('[');
    bool first = true;
    for (const JsonValue& value : array) {
      next(first);
      write(value);
    }
    close(']');
  }

  void open(char bracket) {
    text_ += bracket;
    ++depth_;
  }

  void next(bool& first) {
    if (!first) {
      text_ += pretty_ ? "," : ", ";
    }
    first = false;
    if (pretty_) {
      line_break();
    }
  }

  void close(char bracket) {
    --depth_;
    if (pretty_) {
      line_break();
    }
    text_ += bracket;
  }

  void line_break() {
    text_ += '\n';
    text_.append(depth_ * 4, ' ');
  }

  bool pretty_;
  size_t depth_ = 0;
  std::string text_;
};

}  // namespace

std::string to_text(const JsonValue& value, JsonLayout layout) {
  TextWriter writer(layout);
  writer.write(value);
  return writer.take();
}

}  // namespace cairn::schema
