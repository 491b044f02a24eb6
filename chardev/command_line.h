// The value of --chardev: "socket,id=m,path=m.sock,server=on,wait=off".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/types_char.h"

namespace cairn::chardev {

struct ChardevText {
  std::string id;
  schema::ChardevBackend backend;
  std::vector<std::string> warnings;  // about forms that are deprecated
};

[[nodiscard]] Result<ChardevText> parse_chardev(std::string_view text);

}  // namespace cairn::chardev
