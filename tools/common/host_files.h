// HostFiles: the files that images lie in, opened once more, for work that the host or a thread
// does on them beside the nodes.
#pragma once

#include <map>

#include "block/node.h"
#include "io/fd.h"

namespace cairn::tools {

// Whether an image lies in files as it is, and nobody looks at requests on the way there: those of
// filters, and of faults made on purpose, would not see what is done beside them.
[[nodiscard]] bool is_plain(const block::Node& node);

class HostFiles {
 public:
  // The files of an image and of those below it, for reading. Nothing when it is not plain.
  void add(const block::Node& node);

  // The descriptor of a node's file, which stays ours; -1 when there is none.
  [[nodiscard]] int find(const block::Node& node) const;

 private:
  void add_files(const block::Node& node);

  std::map<const block::Node*, io::Fd> files_;
};

}  // namespace cairn::tools
