// --object: objects that images refer to by id. This build has secrets alone, and checks and keeps
// them; nothing reads them until there is an encrypted format.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::tools {

class ObjectStore {
 public:
  // Takes one definition: "secret,id=s0,data=abc" or a JSON object.
  [[nodiscard]] Result<void> add(std::string_view definition);

 private:
  std::map<std::string, std::map<std::string, std::string>> objects_;
};

}  // namespace cairn::tools
