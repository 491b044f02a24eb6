// Names of NBD exports: "nbd://HOST[:PORT]/EXPORT", "nbd+unix:///EXPORT?socket=PATH" (the public
// NBD URI specification), the same with "nbds" for TLS, whose credentials the parameters tell:
//   tls-certificates=DIR   a folder as that of tls-creds-x509
//   tls-psk-file=FILE      keys, in a file that is called keys.psk; the user is "USER@" in front of
//                          the host
//   tls-type=anon          nothing (x509 and psk only say which of the others is meant)
//   tls-hostname=NAME      whom the certificate is for, if not for HOST
//   tls-verify-peer=0      it may be for anybody
// and the older "nbd:HOST:PORT[:exportname=NAME]" and "nbd:unix:PATH[:exportname=NAME]".
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::schema {
struct BlockdevOptionsNbd;
}

namespace cairn::block {

// Whether `filename` is such a name, well-formed or not.
[[nodiscard]] bool is_nbd_filename(std::string_view filename);

// What it stands for; EINVAL when it is not well-formed.
[[nodiscard]] Result<schema::BlockdevOptionsNbd> parse_nbd_filename(std::string_view filename);

// The name of an export, as a URI; empty for a server that no URI can name.
[[nodiscard]] std::string nbd_filename(const schema::BlockdevOptionsNbd& options);

}  // namespace cairn::block
