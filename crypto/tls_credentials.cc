#include "crypto/tls_credentials.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "crypto/library.h"

namespace cairn::crypto {

Result<Credentials> load_credentials(const X509Credentials& credentials) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->load(credentials);
}

Result<Credentials> load_credentials(PskCredentials credentials) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->load(std::move(credentials));
}

Result<Credentials> load_credentials(const AnonymousCredentials& credentials) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->load(credentials);
}

Result<std::optional<std::string>> find_credential(const std::string& dir, const std::string& name,
                                                   bool required) {
  std::string path = dir + "/" + name;
  if (access(path.c_str(), R_OK) == 0) {
    return path;
  }
  if (required || errno != ENOENT) {
    return fail_errno(errno, "Unable to access credentials {}", path);
  }
  return std::optional<std::string>();
}

}  // namespace cairn::crypto
