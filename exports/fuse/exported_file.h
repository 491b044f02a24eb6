// ExportedFile: a node as a file: what its status says, and reading, writing, growing, punching
// holes and looking for data in it, with the errors that users of files expect.
//
// Invariants
// - Requests stay within the disk, or grow it first where that is allowed. Changes of its size
//   follow one another.
// - All calls come on the home reactor of the node.
#pragma once

#include <linux/fuse.h>

#include <cstdint>

#include "base/result.h"
#include "block/node.h"
#include "io/iovector.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::fuse {

class ExportedFile {
 public:
  struct Settings {
    bool writable = false;
    bool growable = false;  // by writing behind the end; asks for the resize permission to stay
    bool writethrough = false;
    bool allow_other = false;  // owner and mode may be changed
  };

  // The edge outlives this.
  ExportedFile(block::Edge& root, Settings settings);

  // Its size is being changed through this file.
  [[nodiscard]] bool resizing() const { return resizing_; }

  [[nodiscard]] fuse_attr attributes() const;
  // The same, as a task, for those who are not at home.
  [[nodiscard]] io::Task<fuse_attr> get_attributes() const { co_return attributes(); }
  // Those that can be: the size of what is writable, owner and mode within what they mean here.
  [[nodiscard]] io::Task<Result<void>> set_attributes(fuse_setattr_in wanted);

  // How many bytes from `offset` on there are, at most `length`.
  [[nodiscard]] uint64_t readable(uint64_t offset, uint64_t length) const;
  // How many bytes were read: fewer than asked for at the end.
  [[nodiscard]] io::Task<Result<uint64_t>> read(uint64_t offset, io::IoVector data);
  // How many bytes were written: fewer than asked for at the end of what can not grow.
  [[nodiscard]] io::Task<Result<uint64_t>> write(uint64_t offset, io::IoVector data);
  [[nodiscard]] io::Task<Result<void>> flush();
  // `mode` as of fallocate(2).
  [[nodiscard]] io::Task<Result<void>> allocate(uint64_t offset, uint64_t length, uint32_t mode);
  // `whence` is SEEK_DATA or SEEK_HOLE.
  [[nodiscard]] io::Task<Result<uint64_t>> seek(uint64_t offset, uint32_t whence);

 private:
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length, block::ResizeOptions options);
  // Makes the disk at least so long.
  [[nodiscard]] io::Task<Result<void>> grow(uint64_t length, block::ResizeOptions options);
  [[nodiscard]] Result<void> set_mode(uint32_t mode);

  block::Edge& root_;
  const Settings settings_;
  uint32_t mode_;
  uint32_t owner_;
  uint32_t group_;
  io::AsyncMutex size_changes_;
  bool resizing_ = false;
};

}  // namespace cairn::fuse
