// Options are checked one by one as they come, then against each other.
#include "tools/nbd/options.h"

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "base/nbd_protocol.h"
#include "tools/common/object.h"
#include "tools/common/options.h"
#include "tools/common/report.h"
#include "tools/common/trace.h"
#include "tools/nbd/help.h"

namespace cairn::tools {
namespace {

enum NbdLongOption : int {
  kAio = 256,
  kCache,
  kDetectZeroes,
  kDiscard,
  kFork,
  kHandshakeLimit,
  kImageOpts,
  kObject,
  kPidFile,
  kSelinuxLabel,
  kTlsAuthz,
  kTlsCreds,
  kTlsHostname,
};

constexpr std::array kNbdSpecs = {
    OptionSpec{'h', "help", false},
    OptionSpec{'V', "version", false},
    OptionSpec{'p', "port", true},
    OptionSpec{'b', "bind", true},
    OptionSpec{'k', "socket", true},
    OptionSpec{'o', "offset", true},
    OptionSpec{'r', "read-only", false},
    OptionSpec{'s', "snapshot", false},
    OptionSpec{'l', "load-snapshot", true},
    OptionSpec{'n', "nocache", false},
    OptionSpec{kCache, "cache", true},
    OptionSpec{kAio, "aio", true},
    OptionSpec{kDiscard, "discard", true},
    OptionSpec{kDetectZeroes, "detect-zeroes", true},
    OptionSpec{'c', "connect", true},
    OptionSpec{'d', "disconnect", false},
    OptionSpec{'L', "list", false},
    OptionSpec{'e', "shared", true},
    OptionSpec{'f', "format", true},
    OptionSpec{'t', "persistent", false},
    OptionSpec{'v', "verbose", false},
    OptionSpec{'x', "export-name", true},
    OptionSpec{'D', "description", true},
    OptionSpec{'B', "bitmap", true},
    OptionSpec{'A', "allocation-depth", false},
    OptionSpec{kHandshakeLimit, "handshake-limit", true},
    OptionSpec{kImageOpts, "image-opts", false},
    OptionSpec{kObject, "object", true},
    OptionSpec{kTlsCreds, "tls-creds", true},
    OptionSpec{kTlsHostname, "tls-hostname", true},
    OptionSpec{kTlsAuthz, "tls-authz", true},
    OptionSpec{'T', "trace", true},
    OptionSpec{kFork, "fork", false},
    OptionSpec{kPidFile, "pid-file", true},
    OptionSpec{kSelinuxLabel, "selinux-label", true},
};

// A whole number in C's notation, up to `limit`. With `wraps` a negative number counts from the end
// of the range, as strtoull() has it.
std::optional<uint64_t> parse_number(const std::string& text, uint64_t limit, bool wraps) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 0);
  if (end == text.c_str() || *end != '\0' || errno != 0 || value > limit ||
      (!wraps && text.find('-') != text.npos)) {
    return std::nullopt;
  }
  return value;
}

class Parser {
 public:
  explicit Parser(std::span<const std::string> arguments)
      : reader_(program_name(), arguments, kNbdSpecs) {}

  // Nothing: `exit_code()` says how it ends.
  std::optional<NbdOptions> run();
  [[nodiscard]] int exit_code() const { return exit_code_; }

 private:
  // False when the program ends here.
  bool take(const ParsedOption& option);
  bool take_information(const ParsedOption& option);
  Result<void> take_connection(const ParsedOption& option);
  Result<void> take_image_part(const ParsedOption& option);
  Result<void> take_access(const ParsedOption& option);
  void take_program(const ParsedOption& option);
  Result<void> take_cache(std::string_view mode);
  bool finish();
  [[nodiscard]] Result<void> check_list(std::span<const std::string> operands) const;
  [[nodiscard]] Result<void> check_tls() const;
  [[nodiscard]] bool names_device() const;
  bool misuse();

  OptionReader reader_;
  NbdOptions options_;
  bool list_ = false;
  bool disconnect_ = false;
  bool seen_cache_ = false;
  int exit_code_ = EXIT_FAILURE;
};

std::optional<NbdOptions> Parser::run() {
  while (const auto option = reader_.next()) {
    if (!take(*option)) {
      return std::nullopt;
    }
  }
  if (!finish()) {
    return std::nullopt;
  }
  return std::move(options_);
}

bool Parser::take(const ParsedOption& option) {
  switch (option.id) {
    case 0:
      report_error(fmt::format("Try `{} --help' for more information.", program_name()));
      return false;
    case 'h':
    case 'V':
    case 'T':
    case kObject:
      return take_information(option);
    default:
      break;
  }
  Result<void> taken = take_connection(option);
  if (taken) {
    taken = take_image_part(option);
  }
  if (taken) {
    taken = take_access(option);
  }
  if (!taken) {
    report_error(taken.error());
    return false;
  }
  take_program(option);
  return true;
}

// What may print something and be done.
bool Parser::take_information(const ParsedOption& option) {
  exit_code_ = EXIT_SUCCESS;
  switch (option.id) {
    case 'h':
      print_nbd_help();
      return false;
    case 'V':
      fmt::print("{}", nbd_version_text());
      return false;
    case 'T':
      if (!take_trace_option(option.value, exit_code_)) {
        return false;
      }
      break;
    default:
      if (const auto help = object_help(option.value)) {
        fmt::print("{}", *help);
        return false;
      }
      options_.objects.push_back(option.value);
      break;
  }
  exit_code_ = EXIT_FAILURE;
  return true;
}

Result<void> Parser::take_connection(const ParsedOption& option) {
  switch (option.id) {
    case 'p':
      options_.port = option.value;
      break;
    case 'b':
      options_.bind = option.value;
      break;
    case 'k':
      options_.socket_path = option.value;
      if (auto absolute = check_socket_path(options_); !absolute) {
        return absolute;
      }
      break;
    case 'e': {
      const auto shared = parse_number(option.value, INT_MAX, false);
      if (!shared) {
        return fail(EINVAL, "Invalid shared device number '{}'", option.value);
      }
      options_.shared = static_cast<uint32_t>(*shared);
      break;
    }
    case kHandshakeLimit: {
      const auto limit = parse_number(option.value, UINT_MAX, false);
      if (!limit) {
        return fail(EINVAL, "Invalid handshake limit '{}'", option.value);
      }
      options_.handshake_limit = static_cast<uint32_t>(*limit);
      break;
    }
    case 'x':
      if (option.value.size() > nbd::kMaxString) {
        return fail(EINVAL, "export name '{}' too long", option.value);
      }
      options_.export_name = option.value;
      break;
    case 'D':
      if (option.value.size() > nbd::kMaxString) {
        return fail(EINVAL, "export description '{}' too long", option.value);
      }
      options_.description = option.value;
      break;
    default:
      break;
  }
  return {};
}

Result<void> Parser::take_image_part(const ParsedOption& option) {
  switch (option.id) {
    case 'o': {
      const auto offset = parse_number(option.value, UINT64_MAX, true);
      if (!offset) {
        return fail(EINVAL, "Invalid offset '{}'", option.value);
      }
      options_.offset = *offset;
      break;
    }
    case 'l': {
      auto choice = parse_snapshot_choice(option.value, '`');
      if (!choice) {
        return pass(choice);
      }
      options_.load_snapshot = std::move(*choice);
      options_.read_only = true;
      break;
    }
    case 'B':
      options_.bitmaps.push_back(option.value);
      break;
    case 'A':
      options_.allocation_depth = true;
      break;
    case 'r':
      options_.read_only = true;
      break;
    case 's':
      options_.snapshot = true;
      break;
    default:
      break;
  }
  return {};
}

Result<void> Parser::take_cache(std::string_view mode) {
  if (std::exchange(seen_cache_, true)) {
    return fail(EINVAL, "-n and --cache can only be specified once");
  }
  const auto parsed = parse_cache_mode(mode);
  if (!parsed) {
    return fail(EINVAL, "Invalid cache mode `{}'", mode);
  }
  options_.cache = *parsed;
  return {};
}

Result<void> Parser::take_access(const ParsedOption& option) {
  using DetectZeroes = NbdOptions::DetectZeroes;
  switch (option.id) {
    case 'n':
      return take_cache("none");
    case kCache:
      return take_cache(option.value);
    case kAio:
      if (!options_.aio.empty()) {
        return fail(EINVAL, "--aio can only be specified once");
      }
      if (option.value != "threads" && option.value != "native" && option.value != "io_uring") {
        return fail(EINVAL, "Invalid aio mode '{}'", option.value);
      }
      options_.aio = option.value;
      break;
    case kDiscard:
      if (options_.discard) {
        return fail(EINVAL, "--discard can only be specified once");
      }
      options_.discard = parse_discard_mode(option.value);
      if (!options_.discard) {
        return fail(EINVAL, "Invalid discard mode `{}'", option.value);
      }
      break;
    case kDetectZeroes:
      if (option.value != "off" && option.value != "on" && option.value != "unmap") {
        return fail(EINVAL, "Failed to parse detect_zeroes mode: invalid parameter value: {}",
                    option.value);
      }
      options_.detect_zeroes = option.value == "off"  ? DetectZeroes::kOff
                               : option.value == "on" ? DetectZeroes::kOn
                                                      : DetectZeroes::kUnmap;
      // As the field has it, --discard has to come first.
      if (options_.detect_zeroes == DetectZeroes::kUnmap && !options_.discard.value_or(false)) {
        return fail(EINVAL,
                    "setting detect-zeroes to unmap is not allowed without setting discard "
                    "operation to unmap");
      }
      break;
    case 'f':
      options_.image.format = option.value;
      if (option.value.empty()) {
        return fail(EINVAL, "Unknown driver ''");
      }
      break;
    case kImageOpts:
      options_.image.by_options = true;
      break;
    default:
      break;
  }
  return {};
}

void Parser::take_program(const ParsedOption& option) {
  switch (option.id) {
    case 'c':
      options_.device = option.value;
      break;
    case 'd':
      disconnect_ = true;
      break;
    case 'L':
      list_ = true;
      break;
    case 't':
      options_.persistent = true;
      break;
    case 'v':
      options_.verbose = true;
      break;
    case kTlsCreds:
      options_.tls_creds = option.value;
      break;
    case kTlsHostname:
      options_.tls_hostname = option.value;
      break;
    case kTlsAuthz:
      options_.tls_authz = option.value;
      break;
    case kFork:
      options_.fork = true;
      break;
    case kPidFile:
      options_.pid_file = option.value;
      break;
    case kSelinuxLabel:
      options_.selinux_label = option.value;
      break;
    default:
      break;
  }
}

bool Parser::misuse() {
  report_error("Invalid number of arguments");
  fmt::print(stderr, "Try `{} --help' for more information.\n", program_name());
  return false;
}

// Options that say something about one export, or how it is made.
bool Parser::names_device() const {
  return options_.export_name || options_.description || options_.offset != 0 ||
         !options_.device.empty() || disconnect_ || !options_.image.format.empty() ||
         options_.load_snapshot || !options_.bitmaps.empty() || options_.allocation_depth ||
         !options_.aio.empty() || options_.discard || seen_cache_;
}

Result<void> Parser::check_list(std::span<const std::string> operands) const {
  if (!operands.empty()) {
    return fail(EINVAL, "List mode is incompatible with a file name");
  }
  if (names_device()) {
    return fail(EINVAL, "List mode is incompatible with per-device settings");
  }
  if (options_.fork) {
    return fail(EINVAL, "List mode is incompatible with forking");
  }
  return {};
}

Result<void> Parser::check_tls() const {
  if (!options_.tls_creds) {
    if (options_.tls_authz) {
      return fail(EINVAL, "--tls-authz is not permitted without --tls-creds");
    }
    if (options_.tls_hostname) {
      return fail(EINVAL, "--tls-hostname is not permitted without --tls-creds");
    }
    return {};
  }
  if (!options_.device.empty()) {
    return fail(EINVAL, "TLS is not supported with a host device");
  }
  if (options_.tls_authz && list_) {
    return fail(EINVAL, "TLS authorization is incompatible with export list");
  }
  if (options_.tls_hostname && !list_) {
    return fail(EINVAL, "TLS hostname is only supported with export list");
  }
  return {};
}

bool Parser::finish() {
  const std::vector<std::string> operands = reader_.operands();
  Result<void> checked = list_ ? check_list(operands) : Result<void>();
  if (!list_ && operands.size() != 1) {
    return misuse();
  }
  if (checked) {
    checked = check_tls();
  }
  if (!checked) {
    report_error(checked.error());
    return false;
  }
  options_.mode = list_         ? NbdOptions::Mode::kList
                  : disconnect_ ? NbdOptions::Mode::kDisconnect
                                : NbdOptions::Mode::kServe;
  options_.image.text = list_ ? "" : operands.front();
  return true;
}

}  // namespace

std::optional<NbdOptions> parse_nbd_command_line(std::span<const std::string> arguments,
                                                 int& exit_code) {
  Parser parser(arguments);
  auto options = parser.run();
  exit_code = parser.exit_code();
  return options;
}

Result<void> check_socket_path(const NbdOptions& options) {
  if (options.socket_path && !options.socket_path->starts_with('/')) {
    return fail(EINVAL, "socket path must be absolute");
  }
  return {};
}

Result<void> check_activation(const NbdOptions& options) {
  if (!options.device.empty()) {
    return fail(EINVAL, "NBD device can't be set when using socket activation");
  }
  if (options.socket_path) {
    return fail(EINVAL, "Unix socket can't be set when using socket activation");
  }
  if (options.bind) {
    return fail(EINVAL, "The interface can't be set when using socket activation");
  }
  if (options.port) {
    return fail(EINVAL, "TCP port number can't be set when using socket activation");
  }
  if (options.selinux_label) {
    return fail(EINVAL, "SELinux label can't be set when using socket activation");
  }
  if (options.mode == NbdOptions::Mode::kList) {
    return fail(EINVAL, "List mode is incompatible with socket activation");
  }
  return {};
}

}  // namespace cairn::tools
