// Option lists of the older kind: "socket,id=m,path=a.sock,server=on,wait=off".
//
// No nesting and no types; a comma in a value is written twice. A name without a value is a switch
// that is on, or off with "no" in front; that form is deprecated.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace cairn::chardev {

class OptionList {
 public:
  // A first part without '=' is the value of `implied_name`.
  static OptionList parse(std::string_view text, std::string_view implied_name);

  // The last value of `name`.
  [[nodiscard]] const std::string* find(std::string_view name) const;
  // Nothing when it is not given; an error when it is neither on nor off.
  [[nodiscard]] Result<std::optional<bool>> find_switch(std::string_view name) const;

  // An error that names the first option that is not among `known`.
  [[nodiscard]] Result<void> check_names(std::span<const std::string_view> known) const;

  // What deprecated forms should be replaced by, one text each.
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  std::vector<std::pair<std::string, std::string>> options_;
  std::vector<std::string> warnings_;
};

}  // namespace cairn::chardev
