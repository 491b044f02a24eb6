// HostFiles: the files that images lie in, opened once more, for work that the host or a thread
// does on them beside the nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "block/node.h"
#include "io/fd.h"
#include "io/task.h"

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

// The file of a raw image, for writing.
struct RawFile {
  std::string path;
  io::Fd fd;
  uint64_t begin = 0;  // of the image in it, in bytes
};
// Nothing when the image is not a plain one, raw and in a file. The edge outlives the task.
[[nodiscard]] io::Task<std::optional<RawFile>> open_raw_file(block::Edge& target);

// Reads all of `bytes` from there, or false: it could not, or the file ends before that.
[[nodiscard]] bool read_whole(int fd, uint64_t offset, std::span<std::byte> bytes);
// Writes all of them.
[[nodiscard]] bool write_whole(int fd, uint64_t offset, std::span<const std::byte> bytes);

}  // namespace cairn::tools
