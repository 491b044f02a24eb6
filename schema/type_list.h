// TypeList: a list of types to iterate over at compile time.
#pragma once

#include <cstddef>

namespace cairn::schema {

template <typename... Types>
struct TypeList {
  static constexpr size_t kSize = sizeof...(Types);

  // Calls `function.template operator()<Type>()` for each type, in order.
  template <typename Function>
  static constexpr void for_each(Function&& function) {
    (function.template operator()<Types>(), ...);
  }
};

// What commands without arguments and events without data carry.
struct NoArguments {};

}  // namespace cairn::schema
