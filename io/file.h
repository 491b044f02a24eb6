// File: an open file or block device, read and written at offsets through the reactor.
//
// A file that lives in memory (tmpfs, ramfs, hugetlbfs) is read and written inline: that never
// waits for a device, and is several times faster than a trip through the kernel's workers. Errors
// carry the errno and its text alone; the caller knows what it was doing and prefixes that.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"
#include "io/fd.h"
#include "io/iovector.h"
#include "io/task.h"

namespace cairn::io {

struct FileOpenOptions {
  bool writable = false;
  bool direct = false;  // O_DIRECT
  bool create = false;
  bool exclusive = false;  // with create: EEXIST when it exists
  bool truncate = false;
  bool follow_links = true;  // for the last component of the path
  mode_t mode = 0644;        // of a created file, before the umask
};

class File {
 public:
  File() = default;
  explicit File(Fd fd);

  // "Could not open 'PATH': …" on failure. open() waits on a thread of the worker pool, open_now()
  // where it is called. Neither waits for the other end of a FIFO.
  [[nodiscard]] static Task<Result<File>> open(std::string path, FileOpenOptions options);
  [[nodiscard]] static Result<File> open_now(const std::string& path, FileOpenOptions options);

  [[nodiscard]] bool is_open() const { return fd_.valid(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool in_memory() const { return in_memory_; }
  // Nothing may be in flight.
  void close() { fd_.reset(); }

  // The file must stay open, and at its place, until a task is done.

  // Reads into all of `vector`. Returns the count of bytes, which is less than asked only at the
  // end of the file.
  [[nodiscard]] Task<Result<uint64_t>> read_at(IoVector vector, uint64_t offset) const;

  // Writes all of `vector`. `flags` are pwritev2()'s, as RWF_DSYNC for a write that is durable when
  // it completes.
  [[nodiscard]] Task<Result<void>> write_at(IoVector vector, uint64_t offset,
                                            uint32_t flags = 0) const;

  // Makes what was written durable: the data, and what is needed to find it.
  [[nodiscard]] Task<Result<void>> sync_data() const;
  // The same with all of the file's attributes.
  [[nodiscard]] Task<Result<void>> sync_all() const;

  // fallocate(): `mode` is a combination of FALLOC_FL_* or 0. EOPNOTSUPP where there is no such.
  [[nodiscard]] Task<Result<void>> allocate(uint32_t mode, uint64_t offset, uint64_t length) const;

  [[nodiscard]] Task<Result<void>> truncate(uint64_t size) const;

  // In bytes; of a block device as well. Does not wait.
  [[nodiscard]] Result<uint64_t> size() const;

 private:
  [[nodiscard]] Task<Result<void>> sync(uint32_t flags) const;

  Fd fd_;
  bool in_memory_ = false;
};

}  // namespace cairn::io
