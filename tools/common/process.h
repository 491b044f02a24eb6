// What makes a program a daemon: going to the background, the file with its process id, and room
// for as many open files as there may be.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

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
class PidFile {
 public:
  enum class AtEnd : uint8_t { kRemove, kKeep };

  // A relative path is remembered as an absolute one.
  [[nodiscard]] static Result<PidFile> create(const std::string& path,
                                              AtEnd at_end = AtEnd::kRemove);
  PidFile(PidFile&& other) noexcept = default;
  PidFile& operator=(PidFile&&) = delete;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile();

 private:
  PidFile(io::Fd fd, std::string path, AtEnd at_end)
      : fd_(std::move(fd)), path_(std::move(path)), at_end_(at_end) {}
  io::Fd fd_;
  std::string path_;
  AtEnd at_end_;
};

// Raises the limit of open files to what the system allows this process: every image is one, and
// every client. The usual limit of 1024 is there for programs that call select(), which this one
// does not.
void raise_file_limit();

}  // namespace cairn::tools
