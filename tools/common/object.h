// --object: objects that images and exports refer to by id.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "objects/registry.h"

namespace cairn::tools {

// The objects of the program, of which there is one set. They are there until it ends.
[[nodiscard]] objects::Registry& program_objects();

// Which types a program has.
enum class ObjectTypes : uint8_t {
  kAll,
  kOffline,  // none of the threads of a server
};

// Makes one of them: "secret,id=s0,data=abc" or a JSON object.
[[nodiscard]] Result<void> add_object(std::string_view definition,
                                      ObjectTypes types = ObjectTypes::kAll);

// The answer to "help", "TYPE,help" and the like in the place of a definition: the types, or the
// properties of one. Nothing when that is not what `definition` asks for.
[[nodiscard]] std::optional<std::string> object_help(std::string_view definition,
                                                     ObjectTypes types = ObjectTypes::kAll);

}  // namespace cairn::tools
