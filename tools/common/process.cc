// fork, setsid, and fcntl locks.
#include "tools/common/process.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

namespace cairn::tools {

Result<Background> Background::enter() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail_errno(errno, "Cannot create a pipe");
  }
  io::Fd reader(ends[0]);
  io::Fd writer(ends[1]);
  const pid_t child = fork();
  if (child < 0) {
    return fail_errno(errno, "Cannot fork");
  }
  if (child > 0) {
    writer.reset();
    char byte = 1;
    ssize_t count = 0;
    do {
      count = read(reader.get(), &byte, 1);
    } while (count < 0 && errno == EINTR);
    _exit(count == 1 && byte == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  if (setsid() < 0) {
    return fail_errno(errno, "Cannot create a session");
  }
  return Background(std::move(writer));
}

Result<void> Background::ready() {
  const io::Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) {
    return fail_errno(errno, "Cannot open /dev/null");
  }
  if (chdir("/") != 0) {
    return fail_errno(errno, "Cannot change to the root directory");
  }
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (dup2(null.get(), fd) < 0) {
      return fail_errno(errno, "Cannot redirect the standard streams");
    }
  }
  const char byte = 0;
  ssize_t count = 0;
  do {
    count = write(pipe_.get(), &byte, 1);
  } while (count < 0 && errno == EINTR);
  pipe_.reset();
  return {};
}

Result<PidFile> PidFile::create(const std::string& path, AtEnd at_end) {
  while (true) {
    io::Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd.valid()) {
      return fail_errno(errno, "Could not create '{}'", path);
    }
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(fd.get(), F_SETLK, &lock) != 0) {
      return fail_errno(errno, "Cannot lock pid file");
    }
    // Somebody who ended just now may have removed the file between open and lock.
    struct stat opened{};
    struct stat named{};
    if (fstat(fd.get(), &opened) != 0) {
      return fail_errno(errno, "Cannot stat file");
    }
    if (stat(path.c_str(), &named) != 0 || opened.st_ino != named.st_ino ||
        opened.st_dev != named.st_dev) {
      continue;
    }
    const std::string text = fmt::format("{}\n", getpid());
    if (ftruncate(fd.get(), 0) != 0 ||
        pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
      const int code = errno;
      unlink(path.c_str());
      return fail_errno(code, "Cannot write to pid file");
    }
    std::array<char, PATH_MAX> absolute{};
    const bool known = realpath(path.c_str(), absolute.data()) != nullptr;
    return PidFile(std::move(fd), known ? absolute.data() : path, at_end);
  }
}

PidFile::~PidFile() {
  if (fd_.valid() && at_end_ == AtEnd::kRemove) {
    unlink(path_.c_str());
  }
}

// A limit that stays as it is fails later, at the file that is one too many, and is told then.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

}  // namespace cairn::tools
