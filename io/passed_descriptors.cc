#include "io/passed_descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string>
#include <vector>

namespace cairn::io {

namespace {

// By their place; one without a name is empty.
std::vector<std::string>& passed_names() {
  static std::vector<std::string> names;
  return names;
}

Result<int> read_number(const char* variable, const char* text) {
  int number = -1;
  const std::string_view digits = text;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number < 0) {
    return fail(EINVAL, "The environment has a {} that is no number: '{}'", variable, text);
  }
  return number;
}

}  // namespace

Result<void> take_passed_descriptors() {
  const char* pid = std::getenv("LISTEN_PID");
  const char* count = std::getenv("LISTEN_FDS");
  if (!pid || !count) {
    return {};
  }
  const auto meant_for = read_number("LISTEN_PID", pid);
  if (!meant_for) {
    return std::unexpected(meant_for.error());
  }
  if (*meant_for != getpid()) {
    // They were for a program that has started this one.
    return {};
  }
  const auto number = read_number("LISTEN_FDS", count);
  if (!number) {
    return std::unexpected(number.error());
  }
  const char* names = std::getenv("LISTEN_FDNAMES");
  std::string_view rest = names ? names : "";
  for (int i = 0; i < *number; ++i) {
    const int flags = fcntl(kFirstPassedDescriptor + i, F_GETFD);
    if (flags < 0) {
      return fail_errno(errno, "LISTEN_FDS is {}, but descriptor {}", *number,
                        kFirstPassedDescriptor + i);
    }
    fcntl(kFirstPassedDescriptor + i, F_SETFD, flags | FD_CLOEXEC);
    const size_t end = std::min(rest.find(':'), rest.size());
    passed_names().emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

int count_passed_descriptors() { return static_cast<int>(passed_names().size()); }

Result<int> find_passed_descriptor(std::string_view name) {
  const auto& names = passed_names();
  const auto at = std::ranges::find(names, name);
  if (name.empty() || at == names.end()) {
    return fail(ENOENT, "No socket with the name '{}' was passed", name);
  }
  if (std::ranges::count(names, name) > 1) {
    return fail(EINVAL, "Several sockets with the name '{}' were passed: name one by its number",
                name);
  }
  return kFirstPassedDescriptor + static_cast<int>(at - names.begin());
}

}  // namespace cairn::io
