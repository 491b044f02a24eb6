// What makes a program a daemon: going to the background, and the file with its process id.
#pragma once

#include <string>

#include "base/result.h"
#include "io/fd.h"

namespace cairn::tools {

// Detaches in two steps, so that the program that was started ends only when the daemon is ready,
// or with its failure. To be made before any thread and any reactor.
class Background {
 public:
  // Forks. In the process that was started this does not return: it waits for ready() in the new
  // one, and exits with 0, or with 1 when the new one ends before.
  [[nodiscard]] static Result<Background> enter();

  // Lets go of the terminal and the working directory, and releases the process that was started.
  [[nodiscard]] Result<void> ready();

 private:
  explicit Background(io::Fd pipe) : pipe_(std::move(pipe)) {}
  io::Fd pipe_;
};

// Holds a lock on the file while the program runs, so that two programs can not use one file.
// Removes it in the end.
class PidFile {
 public:
  // A relative path is remembered as an absolute one.
  [[nodiscard]] static Result<PidFile> create(const std::string& path);
  PidFile(PidFile&& other) noexcept = default;
  PidFile& operator=(PidFile&&) = delete;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();

 private:
  PidFile(io::Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  io::Fd fd_;
  std::string path_;
};

}  // namespace cairn::tools
