// Functions of libraries that are loaded when they are first needed.
#pragma once

#include <dlfcn.h>

namespace cairn {

// Looks a function up by its name in a library that dlopen() opened. False: it has none, and
// `function` is null.
template <typename Function>
[[nodiscard]] bool find_symbol(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace cairn
