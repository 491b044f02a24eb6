// --object: objects that images and exports refer to by id.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "objects/registry.h"

namespace cairn::tools {

class ObjectStore {
 public:
  // Takes one definition: "secret,id=s0,data=abc" or a JSON object.
  [[nodiscard]] Result<void> add(std::string_view definition);

  [[nodiscard]] const objects::Registry& registry() const { return registry_; }

 private:
  objects::Registry registry_;
};

// The answer to "help", "TYPE,help" and the like in the place of a definition: the types, or the
// properties of one. Nothing when that is not what `definition` asks for.
[[nodiscard]] std::optional<std::string> object_help(std::string_view definition);

}  // namespace cairn::tools
