#include "chardev/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace cairn::chardev {

Result<Log> Log::open(const schema::ChardevCommon& options) {
  const std::string& path = *options.logfile;
  const int how = options.logappend.value_or(false) ? O_APPEND : O_TRUNC;
  io::Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0666));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not create '{}'", path);
  }
  return Log(std::move(fd), options.logtimestamp.value_or(false));
}

void Log::write(std::string_view text) {
  while (!text.empty() && fd_.valid()) {
    const size_t end = timestamp_ ? text.find('\n') : text.npos;
    const std::string_view line = text.substr(0, end == text.npos ? end : end + 1);
    if (timestamp_ && at_line_start_) {
      const auto now = std::chrono::system_clock::now().time_since_epoch();
      const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
      const auto time = fmt::gmtime(static_cast<std::time_t>(millis / 1000));
      put(fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z ", time, millis % 1000));
    }
    put(line);
    at_line_start_ = line.ends_with('\n');
    text.remove_prefix(line.size());
  }
}

void Log::put(std::string_view text) {
  while (!text.empty() && fd_.valid()) {
    const ssize_t count = ::write(fd_.get(), text.data(), text.size());
    if (count > 0) {
      text.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      fd_.reset();
    }
  }
}

}  // namespace cairn::chardev
