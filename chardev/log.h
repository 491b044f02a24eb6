// Log: a file that gets a copy of what is written to a character device.
#pragma once

#include <string_view>

#include "base/result.h"
#include "io/fd.h"
#include "schema/types_char.h"

namespace cairn::chardev {

class Log {
 public:
  // options.logfile must be there.
  [[nodiscard]] static Result<Log> open(const schema::ChardevCommon& options);

  // A failure ends the log, not the device.
  void write(std::string_view text);

 private:
  Log(io::Fd fd, bool timestamp) : fd_(std::move(fd)), timestamp_(timestamp) {}
  void put(std::string_view text);

  io::Fd fd_;
  bool timestamp_;
  bool at_line_start_ = true;
};

}  // namespace cairn::chardev
