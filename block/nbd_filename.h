// Names of NBD exports: "nbd://HOST[:PORT]/EXPORT", "nbd+unix:///EXPORT?socket=PATH" (the public
// NBD URI specification), and the older "nbd:HOST:PORT[:exportname=NAME]" and
// "nbd:unix:PATH[:exportname=NAME]".
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
