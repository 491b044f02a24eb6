#include "exports/fuse/libfuse.h"

#include <dlfcn.h>

#include <cerrno>

#include "base/find_symbol.h"

namespace cairn::fuse {
namespace {

constexpr const char* kLibrary = "libfuse3.so.3";

std::unexpected<Error> cannot_load() {
  const char* const error = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc's is per thread
  return fail(ENOTSUP, "FUSE exports need {}, which can not be loaded: {}", kLibrary,
              error != nullptr ? error : "it is not what it should be");
}

Result<LibFuse> load() {
  void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return cannot_load();
  }
  LibFuse found;
  const bool complete = find_symbol(library, "fuse_session_new", found.session_new) &&
                        find_symbol(library, "fuse_session_mount", found.session_mount) &&
                        find_symbol(library, "fuse_session_fd", found.session_fd) &&
                        find_symbol(library, "fuse_session_unmount", found.session_unmount) &&
                        find_symbol(library, "fuse_session_destroy", found.session_destroy) &&
                        find_symbol(library, "fuse_opt_free_args", found.opt_free_args) &&
                        find_symbol(library, "fuse_set_log_func", found.set_log_func);
  if (!complete) {
    return cannot_load();
  }
  return found;
}

}  // namespace

Result<const LibFuse*> libfuse() {
  static const Result<LibFuse> loaded = load();
  if (!loaded) {
    return std::unexpected(loaded.error());
  }
  return &*loaded;
}

}  // namespace cairn::fuse
