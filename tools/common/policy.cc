#include "tools/common/policy.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/size_text.h"
#include "schema/json.h"
#include "schema/keyval.h"
#include "tools/common/drivers.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr uint64_t kLargestDisk = uint64_t{2} << 40;
constexpr unsigned kTimeToCleanUp = 3;  // seconds that a program has for cleaning up
constexpr unsigned kLongestTime = 100u * 24 * 3600;
// Least memory in which a program starts.
constexpr uint64_t kLeastMemory = 16 * kMiB;
constexpr size_t kThreadStack = 512u << 10;
constexpr std::array<std::string_view, 4> kKeys = {"formats", "max-size", "max-time", "max-memory"};

constexpr int kNotCompared = 4;

struct Means {
  unsigned seconds;
  uint64_t memory;
};

// Describing an image takes little whatever it is; copying one takes as long as it is large.
Means usual_means(std::string_view command) {
  if (command == "info") {
    return {.seconds = 1, .memory = 64 * kMiB};
  }
  constexpr std::array<std::string_view, 6> kCopying = {"bench",   "compact", "compare",
                                                        "convert", "dd",      "sparsify"};
  const bool copies = std::ranges::find(kCopying, command) != kCopying.end();
  return {.seconds = copies ? 3600u : 60u, .memory = 512 * kMiB};
}

Result<std::vector<std::string>> parse_formats(std::string_view text) {
  const block::DriverTable drivers = all_drivers();
  std::vector<std::string> names;
  while (true) {
    const size_t colon = std::min(text.find(':'), text.size());
    std::string name(text.substr(0, colon));
    const block::DriverInfo* info = drivers.find(name);
    if (info == nullptr || info->kind != block::DriverInfo::Kind::kFormat) {
      return fail(EINVAL, "Invalid policy: '{}' is no image format", name);
    }
    names.push_back(std::move(name));
    if (colon == text.size()) {
      return names;
    }
    text.remove_prefix(colon + 1);
  }
}

Result<unsigned> parse_seconds(std::string_view text) {
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size() || seconds > kLongestTime) {
    return fail(EINVAL, "Invalid policy: max-time takes a number of seconds up to {}, not '{}'",
                kLongestTime, text);
  }
  return seconds;
}

Result<uint64_t> parse_bytes(std::string_view key, std::string_view text, uint64_t least) {
  const Result<uint64_t> bytes = parse_size(text);
  if (!bytes || (*bytes < least && *bytes != 0)) {
    return fail(EINVAL, "Invalid policy: {} takes a size of {} or more, or 0 for any, not '{}'",
                key, least, text);
  }
  return bytes;
}

Result<void> take_key(std::string_view key, std::string_view value, Policy& policy) {
  if (key == "formats") {
    auto formats = parse_formats(value);
    if (!formats) {
      return pass(formats);
    }
    policy.images.formats = std::move(*formats);
  } else if (key == "max-time") {
    auto seconds = parse_seconds(value);
    if (!seconds) {
      return pass(seconds);
    }
    policy.seconds = *seconds;
  } else if (key == "max-size") {
    auto size = parse_bytes(key, value, 1);
    if (!size) {
      return pass(size);
    }
    policy.images.largest_disk = *size == 0 ? UINT64_MAX : *size;
  } else if (key == "max-memory") {
    auto memory = parse_bytes(key, value, kLeastMemory);
    if (!memory) {
      return pass(memory);
    }
    policy.memory = *memory;
  } else {
    return fail(EINVAL, "Invalid policy: there is no key '{}' (but {})", key,
                fmt::join(kKeys, ", "));
  }
  return {};
}

Policy& mutable_policy() {
  static Policy policy;
  return policy;
}

// What the handlers below say: made before, since they can not make anything.
std::string& time_is_up() {
  static std::string message;
  return message;
}

std::string& memory_is_used_up() {
  static std::string message;
  return message;
}

void say(const std::string& message) {
  (void)!write(STDERR_FILENO, message.data(), message.size());
}

// Asynchronous: in the thread that waits for signals, which may be anywhere.
void on_time_up(int /*signal*/) {
  static volatile std::sig_atomic_t asked = 0;
  sigset_t blocked;
  const bool watched =
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked) == 0 && sigismember(&blocked, SIGTERM) == 1;
  if (asked != 0 || !watched) {
    if (asked == 0) {
      say(time_is_up());
    }
    _exit(program_policy().exit_code);
  }
  asked = 1;
  say(time_is_up());
  (void)kill(getpid(), SIGTERM);
  (void)alarm(kTimeToCleanUp);
}

void on_memory_used_up() {
  say(memory_is_used_up());
  _exit(program_policy().exit_code);
}

Result<void> limit_memory(uint64_t memory) {
  memory_is_used_up() = fmt::format("{}: More memory is needed than the policy allows ({} MiB)\n",
                                    program_name(), memory / kMiB);
  rlimit limit = {};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) {
    return fail_errno(errno, "Could not limit the memory");
  }
  limit.rlim_cur = std::min<rlim_t>(memory, limit.rlim_max);
  if (setrlimit(RLIMIT_DATA, &limit) != 0) {
    return fail_errno(errno, "Could not limit the memory");
  }
  std::set_new_handler(on_memory_used_up);
  // Stacks of threads count as a whole, used or not.
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) == 0) {
    (void)pthread_attr_setstacksize(&attributes, kThreadStack);
    (void)pthread_setattr_default_np(&attributes);
    (void)pthread_attr_destroy(&attributes);
  }
  return {};
}

Result<void> limit_time(unsigned seconds) {
  time_is_up() =
      fmt::format("{}: It takes longer than the policy allows ({} s)\n", program_name(), seconds);
  struct sigaction action = {};
  action.sa_handler = on_time_up;
  action.sa_flags = SA_RESTART;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  if (sigaction(SIGALRM, &action, nullptr) != 0 ||
      pthread_sigmask(SIG_UNBLOCK, &set, nullptr) != 0) {
    return fail_errno(errno, "Could not limit the time");
  }
  (void)alarm(seconds);
  return {};
}

}  // namespace

Result<Policy> parse_policy(std::string_view text, std::string_view command) {
  const std::string name = schema::take_keyval_part(text);
  if (name == "trusted" && text.empty()) {
    return Policy{};
  }
  if (name != "untrusted") {
    return fail(EINVAL, "Invalid policy '{}': 'trusted' is one, and 'untrusted' with or without {}",
                name, fmt::join(kKeys, ", "));
  }
  const Means means = usual_means(command);
  Policy policy{.images = {.follow_names = false,
                           .formats = std::vector<std::string>(),
                           .largest_disk = kLargestDisk},
                .seconds = means.seconds,
                .memory = means.memory,
                .exit_code = command == "compare" ? kNotCompared : 1};
  while (!text.empty()) {
    const std::string part = schema::take_keyval_part(text);
    const size_t equals = std::min(part.find('='), part.size());
    const std::string_view value = std::string_view(part).substr(std::min(equals + 1, part.size()));
    if (auto taken = take_key(part.substr(0, equals), value, policy); !taken) {
      return pass(taken);
    }
  }
  return policy;
}

const Policy& program_policy() { return mutable_policy(); }

Result<void> set_program_policy(std::string_view text, std::string_view command) {
  auto policy = parse_policy(text, command);
  if (!policy) {
    return pass(policy);
  }
  mutable_policy() = std::move(*policy);
  return {};
}

Result<void> enforce_policy(const Policy& policy) {
  if (policy.memory != 0) {
    if (auto limited = limit_memory(policy.memory); !limited) {
      return limited;
    }
  }
  return policy.seconds != 0 ? limit_time(policy.seconds) : Result<void>();
}

}  // namespace cairn::tools
