// Creation options as command lines give them ("-o cluster_size=64k,compat=1.1"): the table a
// driver declares, and the values parsed against it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::block {

struct CreateOptionInfo {
  enum class Type : uint8_t { kString, kBool, kNumber, kSize };
  std::string_view name;
  Type type = Type::kString;
  std::string_view help;  // our own words
  // Shown in the "Formatting …" announcement when the user gave none; empty: not shown.
  std::string_view default_value = {};
};

// Values that were checked against a driver's table. Sizes are bytes.
class CreateOptions {
 public:
  explicit CreateOptions(std::span<const CreateOptionInfo> table) : table_(table) {}

  // Checks `value` by the option's type; EINVAL with the field's message for an unknown name or a
  // malformed value. Of several values for one name the last counts.
  [[nodiscard]] Result<void> set(std::string_view name, std::string_view value);

  // What is asked for is wanted even when it can lose data; for amending.
  void set_forced(bool forced) { forced_ = forced; }
  [[nodiscard]] bool forced() const { return forced_; }

  // The size is meant to the byte. What command lines say is rounded up to whole sectors.
  void set_exact(bool exact) { exact_ = exact; }
  [[nodiscard]] bool exact() const { return exact_; }

  [[nodiscard]] bool has(std::string_view name) const;
  [[nodiscard]] std::optional<std::string> string(std::string_view name) const;
  [[nodiscard]] std::optional<bool> boolean(std::string_view name) const;
  [[nodiscard]] std::optional<uint64_t> number(std::string_view name) const;  // kNumber, kSize
  // "cluster_size=65536 size=1048576": what was set and what has a default to show, in the order of
  // the table. A comma in a value is doubled.
  [[nodiscard]] std::string to_text() const;
  [[nodiscard]] std::span<const CreateOptionInfo> table() const { return table_; }

 private:
  std::span<const CreateOptionInfo> table_;
  std::map<std::string, std::string, std::less<>> values_;
  bool forced_ = false;
  bool exact_ = false;
};

// The value of a whole-number option `name`: decimal, or hexadecimal behind "0x". Blanks may stand
// before it; a negative number is that much less than 2^64. ERANGE, EINVAL: with the field's
// message.
[[nodiscard]] Result<uint64_t> parse_number(std::string_view name, std::string_view text);

}  // namespace cairn::block
