// OpenFile: an open descriptor of an image with its locks, and who is using it.
//
// A node that changes between reading and writing opens its file anew, while requests may still run
// on the old descriptor; a FileUse keeps that one open until they are done. All on the home
// reactor.
#pragma once

#include <memory>
#include <utility>

#include "io/file.h"
#include "protocols/file/image_lock.h"

namespace cairn::file {

struct OpenFile {
  OpenFile(io::File opened, bool is_writable, bool is_direct)
      : file(std::move(opened)), writable(is_writable), direct(is_direct) {}

  io::File file;
  ImageLock lock;
  bool writable;
  bool direct;  // O_DIRECT
  uint64_t users = 0;
  // Its node has gone on to another descriptor; the last user closes this one.
  bool retired = false;
};

// A request's hold on the descriptor it runs on.
class FileUse {
 public:
  explicit FileUse(OpenFile& file) : file_(&file) { ++file.users; }
  FileUse(const FileUse&) = delete;
  FileUse& operator=(const FileUse&) = delete;
  ~FileUse() {
    if (--file_->users == 0 && file_->retired) {
      delete file_;  // NOLINT(cppcoreguidelines-owning-memory): retire() gave it to its users
    }
  }
  [[nodiscard]] io::File& operator*() const { return file_->file; }
  [[nodiscard]] io::File* operator->() const { return &file_->file; }

 private:
  OpenFile* file_;
};

// Closes the descriptor once nobody uses it.
inline void retire(std::unique_ptr<OpenFile> file) {
  if (file->users > 0) {
    file->retired = true;
    (void)file.release();
  }
}

}  // namespace cairn::file
