// Filenames as users and image headers write them: plain paths, "PROTOCOL:…" and "json:{…}".
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::schema {
struct BlockdevOptions;
}

namespace cairn::block {

[[nodiscard]] bool is_json_filename(std::string_view filename);

// The protocol prefix without its colon; empty for a plain path. A colon after the first slash
// belongs to the path.
[[nodiscard]] std::string_view protocol_prefix(std::string_view filename);

// The driver that a name leads to: "file" for a path, "nbd" for the names of exports
// (block/nbd_filename.h), else what stands before the colon, which nobody may know.
[[nodiscard]] std::string_view protocol_name(std::string_view filename);

// The node that `filename` describes: for a path the file or host device behind it; for "nbd:…" and
// its like the export of that name (block/nbd_filename.h); for "json:{…}" whatever it says. ENOENT
// ("Unknown protocol") for a prefix without driver; EINVAL for bad JSON.
[[nodiscard]] Result<schema::BlockdevOptions> parse_filename(std::string_view filename);

// The same for a protocol that was chosen by name: what `filename` means to it. EINVAL when it does
// not take such names.
[[nodiscard]] Result<schema::BlockdevOptions> parse_filename_for(std::string_view driver,
                                                                 std::string_view filename);

// `filename` as seen from the directory of `base`: absolute paths, names with a protocol and
// relative ones without a directory to start from stay as they are.
[[nodiscard]] std::string resolve_relative(std::string_view base, std::string_view filename);

}  // namespace cairn::block
