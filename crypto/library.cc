#include "crypto/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <vector>

namespace cairn::crypto {

namespace {

constexpr const char* kModule = "libcairn-crypto.so";
constexpr const char* kEntry = "cairn_crypto_library";

// Where the module lies when the program has been built, and when it has been installed. Only what
// is found from the program's own place can be trusted as much as the program.
std::vector<std::string> folders_beside_program() {
  std::string path(PATH_MAX, '\0');
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  path.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) {
    return {};
  }
  path.resize(slash);
  return {path + "/../crypto", path + "/../" CAIRN_LIBRARY_FOLDER "/cairn"};
}

Result<const Library*> load_beside_program() {
  const std::vector<std::string> folders = folders_beside_program();
  return load_library(folders);
}

}  // namespace

Result<const Library*> load_library(std::span<const std::string> folders) {
  std::string reason = "there is no such file";
  for (const std::string& folder : folders) {
    const std::string path = folder + "/" + kModule;
    if (access(path.c_str(), F_OK) != 0) {
      continue;
    }
    void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* const entry = module != nullptr ? dlsym(module, kEntry) : nullptr;
    if (entry != nullptr) {
      return reinterpret_cast<const Library* (*)()>(entry)();
    }
    const char* const error = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc's is per thread
    reason = error != nullptr ? error : "it is not what it should be";
  }
  return fail(ENOTSUP, "TLS and ciphers need {}, which can not be loaded: {}", kModule, reason);
}

Result<const Library*> library() {
  static const Result<const Library*> loaded = load_beside_program();
  return loaded;
}

}  // namespace cairn::crypto
