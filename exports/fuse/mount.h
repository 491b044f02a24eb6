// Mount: a FUSE file system that consists of one regular file, which stands over another one.
//
// libfuse mounts and unmounts, with the help of fusermount3 where this program is not privileged.
// The conversation with the kernel is not its: descriptor() is for session.h.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/result.h"

struct fuse_session;

namespace cairn::fuse {

struct LibFuse;

enum class AllowOther : uint8_t {
  kOff,   // only this program's user gets at the file
  kOn,    // everybody whom its mode lets
  kAuto,  // everybody where that is allowed, else this program's user
};

class Mount {
 public:
  // Mounts over `path`. Fails when it is no regular file or nobody may mount there; the message
  // names the path. The caller has made sure that none of its own file systems is there: asking
  // about one would be waiting for oneself.
  [[nodiscard]] static Result<std::unique_ptr<Mount>> create(const std::string& path,
                                                             AllowOther allow_other);
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  // Closes the descriptor and unmounts. Whoever has the file open gets errors from then on.
  ~Mount();

  // In non-blocking mode; owned by the mount.
  [[nodiscard]] int descriptor() const;
  [[nodiscard]] bool allows_other() const { return allows_other_; }
  // The device number by which the file's status tells it from all others.
  [[nodiscard]] dev_t device() const { return device_; }

 private:
  Mount(const LibFuse& library, fuse_session* session, bool allows_other, dev_t device)
      : library_(library), session_(session), allows_other_(allows_other), device_(device) {}

  const LibFuse& library_;  // lives as long as the process
  fuse_session* session_;
  bool allows_other_;
  dev_t device_;
};

// What the kernel knows about a path without asking the server of the file system that it is on,
// which may be this program. ENOENT and the like name the path.
struct PathStatus {
  dev_t device = 0;
  bool regular = false;
};
[[nodiscard]] Result<PathStatus> look_at(const std::string& path);

}  // namespace cairn::fuse
