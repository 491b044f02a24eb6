#include "formats/deflate/isal.h"

#include <dlfcn.h>

#include <optional>

namespace cairn::deflate {
namespace {

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

std::optional<Isal> load() {
  void* const library = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return std::nullopt;
  }
  Isal found;
  const bool complete = find(library, "isal_deflate_init", found.deflate_init) &&
                        find(library, "isal_deflate", found.deflate) &&
                        find(library, "isal_inflate_init", found.inflate_init) &&
                        find(library, "isal_inflate_stateless", found.inflate_stateless);
  return complete ? std::optional<Isal>(found) : std::nullopt;
}

}  // namespace

const Isal* isal() {
  static const std::optional<Isal> loaded = load();
  return loaded ? &*loaded : nullptr;
}

}  // namespace cairn::deflate
