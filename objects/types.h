// The types of object: those that can be made, those above them, and the interface of what people
// make.
#pragma once

#include <span>
#include <string_view>

#include "objects/object.h"

namespace cairn::objects {

extern const Type kObjectType;
extern const Type kContainerType;
extern const Type kInterfaceType;
extern const Type kUserCreatableType;

// All types, those that others are below first.
[[nodiscard]] std::span<const Type* const> all_types();

// Null when there is none.
[[nodiscard]] const Type* find_type(std::string_view name);

}  // namespace cairn::objects
