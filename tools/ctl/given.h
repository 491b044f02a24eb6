// Given: what somebody wrote for a value, before its type is known.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::ctl {

struct GivenMember;

struct Given {
  enum class Kind : uint8_t {
    kWord,    // from a command line: its type is what the schema says
    kScalar,  // from JSON: it has a type
    kObject,
    kList,
  };

  Kind kind = Kind::kObject;
  std::string text;                  // kWord
  schema::JsonValue scalar;          // kScalar
  std::vector<GivenMember> members;  // kObject
  std::vector<Given> elements;       // kList

  [[nodiscard]] static Given of(const schema::JsonValue& value);

  // A word, or a string in JSON; null when it is neither.
  [[nodiscard]] const std::string* as_text() const;
  [[nodiscard]] const Given* find(std::string_view name) const;
  // The elements of a list, or of an object whose names are the indices 0, 1, 2, …
  [[nodiscard]] std::optional<std::vector<const Given*>> as_list() const;
  // As JSON, words as strings.
  [[nodiscard]] schema::JsonValue to_json() const;
  // For messages: "'abc'", "an object".
  [[nodiscard]] std::string spelled() const;
};

struct GivenMember {
  std::string name;
  Given value;
};

// All words of a command together: KEY=VALUE, and JSON objects. The result is an object.
[[nodiscard]] Result<Given> gather(std::span<const std::string> words);

}  // namespace cairn::ctl
