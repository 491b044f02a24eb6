// TlsSource: where character devices find the credentials and authorizations that their options
// name. The program gives it to the registry; devices look up clients' authorizations anew each
// time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "io/tls.h"

namespace cairn::chardev {

struct TlsSource {
  std::function<Result<std::shared_ptr<const io::TlsCredentials>>(const std::string& id,
                                                                  bool server)>
      credentials;
  // Whether the authorization `id` lets the owner of a certificate in.
  std::function<Result<void>(const std::string& id, const std::string& identity)> authorize;
};

}  // namespace cairn::chardev
