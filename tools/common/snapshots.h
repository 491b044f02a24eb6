// The snapshots inside an image: the list as people read it, and the choice of one as a source.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/node.h"
#include "io/task.h"

namespace cairn::schema {
struct SnapshotInfo;
}

namespace cairn::tools {

// A heading and a line for each, every line `indent` columns in; nothing when there are none.
[[nodiscard]] std::string snapshot_list_text(std::span<const schema::SnapshotInfo> snapshots,
                                             int indent = 0);

// What "-l" names as the source: "snapshot.id=1,snapshot.name=a", where all that is given has to
// match, or else an id or, when there is none, a name. EINVAL when it can not be understood; the
// programs differ in how the message quotes.
struct SnapshotChoice {
  std::string id;
  std::string name;
  std::string either;
  bool by_parts = false;  // the first two say which
};
[[nodiscard]] Result<SnapshotChoice> parse_snapshot_choice(std::string_view text,
                                                           char opening_quote = '\'');

// Has a node that was opened read-only show the snapshot.
[[nodiscard]] io::Task<Result<void>> show_snapshot(block::Edge& root, SnapshotChoice choice);

}  // namespace cairn::tools
