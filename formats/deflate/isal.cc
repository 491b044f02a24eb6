#include "formats/deflate/isal.h"

#include <dlfcn.h>

#include <optional>

#include "base/find_symbol.h"

namespace cairn::deflate {
namespace {

std::optional<Isal> load() {
  void* const library = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return std::nullopt;
  }
  Isal found;
  const bool complete = find_symbol(library, "isal_deflate_init", found.deflate_init) &&
                        find_symbol(library, "isal_deflate", found.deflate) &&
                        find_symbol(library, "isal_inflate_init", found.inflate_init) &&
                        find_symbol(library, "isal_inflate_stateless", found.inflate_stateless);
  return complete ? std::optional<Isal>(found) : std::nullopt;
}

}  // namespace

const Isal* isal() {
  static const std::optional<Isal> loaded = load();
  return loaded ? &*loaded : nullptr;
}

}  // namespace cairn::deflate
