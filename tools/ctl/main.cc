// cairnctl: talks to a running daemon.
#include <getopt.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "objects/tls_creds.h"
#include "tools/common/object.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

namespace {

enum OptionCode : int {
  kHelp = 'h',
  kVersion = 'V',
  kSocket = 's',
  kJsonOption = 256,
  kCompress,
  kFull,
  kPoint,
  kPrettyOption,
  kTableOption,
  kLong,
  kOnce,
  kInterval,
  kKeep,
  kTimeoutOption,
  kFormat,
  kObject,
  kTlsCreds,
  kTlsHostname,
};

constexpr option kLongOptions[] = {
    {"compress", no_argument, nullptr, kCompress},
    {"format", required_argument, nullptr, kFormat},
    {"full", no_argument, nullptr, kFull},
    {"help", no_argument, nullptr, kHelp},
    {"interval", required_argument, nullptr, kInterval},
    {"json", no_argument, nullptr, kJsonOption},
    {"keep", required_argument, nullptr, kKeep},
    {"long", no_argument, nullptr, kLong},
    {"object", required_argument, nullptr, kObject},
    {"once", no_argument, nullptr, kOnce},
    {"point", required_argument, nullptr, kPoint},
    {"pretty", no_argument, nullptr, kPrettyOption},
    {"socket", required_argument, nullptr, kSocket},
    {"table", no_argument, nullptr, kTableOption},
    {"timeout", required_argument, nullptr, kTimeoutOption},
    {"tls-creds", required_argument, nullptr, kTlsCreds},
    {"tls-hostname", required_argument, nullptr, kTlsHostname},
    {"version", no_argument, nullptr, kVersion},
    {nullptr, 0, nullptr, 0},
};

constexpr std::string_view kHelpText = R"(Usage: cairnctl [options] COMMAND [KEY=VALUE...|JSON|-]

Sends a command to a daemon's monitor (QMP). Arguments are typed and checked by
what the daemon says it understands; keys of nested ones have dots:
  cairnctl blockdev-add driver=qcow2 node-name=d file.driver=file \
           file.filename=disk.qcow2
A '-' stands for a JSON object from standard input.

Commands of its own:
  commands               list the daemon's commands
  help COMMAND           what arguments a command takes
  watch [--interval SECONDS] [--once]
                         jobs, exports and nodes while they work
  graph [--format text|dot|svg]
                         the nodes and who uses them
  events                 print events until interrupted
  wait-event NAME [KEY=VALUE...] [--timeout SECONDS] [-- COMMAND...]
                         wait for an event with this content; a command after
                         '--' is sent when the waiting has begun
  backup create NODE DIRECTORY [--full] [--compress]
                         back a disk in use up: whole at first, then what has
                         changed
  backup list DIRECTORY  the backups there are; asks no daemon
  backup verify DIRECTORY
                         whether they are as they were written; asks no daemon
  backup prune DIRECTORY --keep N
                         give old ones up, but for the N newest and what those
                         need; asks no daemon
  backup restore DIRECTORY FILE [--point N] [--format qcow2|raw]
                         the disk as it was, in a new file

Options:
  -s, --socket ADDRESS   where the daemon listens: a path, or HOST:PORT
                         (default: $CAIRN_SOCKET)
  --tls-creds ID         talk to it through TLS, with the credentials of this object
  --tls-hostname NAME    the name that its certificate must have (default: the host
                         of ADDRESS)
  --object TYPE,id=ID[,...]
                         make an object, for example
                         tls-creds-x509,id=tls,dir=DIRECTORY,endpoint=client
  --json                 print what the daemon returns as one line of JSON; this
                         is the default where the output is no terminal
  --pretty               print it as JSON over several lines
  --table                lay it out for people, wherever it goes
  --long                 leave nothing out of that
  -h, --help             show this help and exit
  -V, --version          show the version and exit

Exit codes: 0 done, 1 the daemon refused, or a backup failed or is damaged,
2 the command line is wrong, 3 no connection to a daemon, 4 an event has not
come in time.
)";

// A positive number of seconds.
std::optional<std::chrono::duration<double>> parse_seconds(std::string_view text) {
  double seconds = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
  return whole && seconds > 0 && seconds < 1e9
             ? std::optional(std::chrono::duration<double>(seconds))
             : std::nullopt;
}

// A whole number from 1.
std::optional<uint64_t> parse_positive(std::string_view text) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
  return whole && number > 0 ? std::optional(number) : std::nullopt;
}

// What was said about the form of the output, and which options of single commands were given.
struct GivenOptions {
  struct OnlyFor {
    std::string_view option;
    std::string_view command;
    std::string_view other = "";  // a second one
  };
  bool form = false;
  std::vector<OnlyFor> only_for;
  std::vector<std::string> objects;
  std::string tls_creds;
};

// The options that say which daemon, and how to talk to it.
std::optional<Exit> take_connection_option(Options& options, GivenOptions& given, int code) {
  if (code == kSocket) {
    options.socket = optarg;
  } else if (code == kTlsCreds) {
    given.tls_creds = optarg;
  } else if (code == kTlsHostname) {
    options.tls.host = optarg;
  } else if (const auto help = tools::object_help(optarg)) {
    fmt::print("{}", *help);
    return Exit::kOk;
  } else {
    given.objects.emplace_back(optarg);
  }
  return std::nullopt;
}

// Stores one option; an exit code when the program is to end with it.
std::optional<Exit> take_option(Options& options, GivenOptions& given, int code) {
  switch (code) {
    case kHelp:
      fmt::print("{}", kHelpText);
      return Exit::kOk;
    case kVersion:
      fmt::print("cairnctl version {}\n", CAIRN_VERSION);
      return Exit::kOk;
    case kSocket:
    case kObject:
    case kTlsCreds:
    case kTlsHostname:
      return take_connection_option(options, given, code);
    case kJsonOption:
    case kPrettyOption:
    case kTableOption:
      given.form = true;
      options.output = code == kJsonOption     ? Output::kJson
                       : code == kPrettyOption ? Output::kPretty
                                               : Output::kText;
      return std::nullopt;
    case kLong:
      options.all = true;
      return std::nullopt;
    case kOnce:
      options.once = true;
      given.only_for.push_back({"--once", "watch"});
      return std::nullopt;
    case kInterval:
    case kTimeoutOption: {
      const bool interval = code == kInterval;
      given.only_for.push_back(
          {interval ? "--interval" : "--timeout", interval ? "watch" : "wait-event"});
      const auto seconds = parse_seconds(optarg);
      if (!seconds) {
        return complain(Exit::kUsage, fmt::format("'{}' is no number of seconds", optarg));
      }
      (interval ? options.interval : options.timeout.emplace()) = *seconds;
      return std::nullopt;
    }
    case kFormat:
      given.only_for.push_back({"--format", "graph", "backup"});
      options.format = optarg;
      return std::nullopt;
    case kFull:
    case kCompress:
      given.only_for.push_back({code == kFull ? "--full" : "--compress", "backup"});
      (code == kFull ? options.full : options.compress) = true;
      return std::nullopt;
    case kKeep:
    case kPoint: {
      const bool keep = code == kKeep;
      given.only_for.push_back({keep ? "--keep" : "--point", "backup"});
      (keep ? options.keep : options.point) = parse_positive(optarg);
      return parse_positive(optarg)
                 ? std::nullopt
                 : std::optional(
                       complain(Exit::kUsage, fmt::format("'{}' is no number of {}", clean(optarg),
                                                          keep ? "points" : "a point")));
    }
    default:
      // getopt has said what is wrong.
      return Exit::kUsage;
  }
}

struct OwnCommand {
  std::string_view name;
  size_t fewest;
  size_t most;
  std::string_view usage;
  Exit (*run)(const Options& options);
};

constexpr size_t kAnyNumber = SIZE_MAX;
constexpr OwnCommand kOwnCommands[] = {
    {"backup", 1, kAnyNumber, "backup create|list|verify|prune|restore ...", &run_backup},
    {"commands", 0, 0, "commands", &run_commands},
    {"events", 0, 0, "events", &run_events},
    {"graph", 0, 0, "graph [--format text|dot|svg]", &run_graph},
    {"help", 1, 1, "help COMMAND", &run_help},
    {"wait-event", 1, kAnyNumber,
     "wait-event NAME [KEY=VALUE...] [--timeout SECONDS] [-- COMMAND...]", &run_wait_event},
    {"watch", 0, 0, "watch [--interval SECONDS] [--once]", &run_watch},
};

// Checks what can be checked without the daemon.
std::optional<Exit> check(const Options& options, const GivenOptions& given,
                          const OwnCommand* own) {
  for (const auto& [option, command, other] : given.only_for) {
    if (options.command != command && (other.empty() || options.command != other)) {
      return complain(Exit::kUsage,
                      other.empty()
                          ? fmt::format("{} is for '{}' alone", option, command)
                          : fmt::format("{} is for '{}' and '{}' alone", option, command, other));
    }
  }
  if (options.command == "graph" && !options.format.empty() && options.format != "text" &&
      options.format != "dot" && options.format != "svg") {
    return complain(Exit::kUsage, fmt::format("'{}' is no format: there are text, dot and svg",
                                              clean(options.format)));
  }
  if (!options.then.empty() && options.command != "wait-event") {
    return complain(Exit::kUsage, "A command after '--' is for 'wait-event' alone");
  }
  if (own && (options.words.size() < own->fewest || options.words.size() > own->most)) {
    return complain(Exit::kUsage, fmt::format("Usage: cairnctl {}", own->usage));
  }
  if (options.command == "wait-event") {
    for (const std::string& word : std::span(options.words).subspan(1)) {
      if (word.find('=') == word.npos) {
        return complain(Exit::kUsage, fmt::format("'{}' is no condition KEY=VALUE", word));
      }
    }
  }
  // Some of what is done with backups needs no daemon.
  if (options.socket.empty() && options.command != "backup") {
    return complain(Exit::kUsage, "No daemon is named: give -s ADDRESS, or set CAIRN_SOCKET");
  }
  return std::nullopt;
}

// Makes the objects, and finds the credentials among them.
Result<void> prepare_tls(const GivenOptions& given, TlsWish& tls) {
  for (const std::string& definition : given.objects) {
    if (auto added = tools::add_object(definition); !added) {
      return pass(added, "--object: ");
    }
  }
  if (given.tls_creds.empty()) {
    return tls.host ? fail(EINVAL, "--tls-hostname is not permitted without --tls-creds")
                    : Result<void>();
  }
  auto found = objects::find_credentials(tools::program_objects(), given.tls_creds, false);
  if (!found) {
    return pass(found, "--tls-creds: ");
  }
  tls.credentials = std::move(*found);
  return {};
}

// Takes "-- COMMAND…" from the end of the command line.
std::vector<std::string> take_rest(int& argc, char** argv) {
  std::vector<std::string> rest;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--") {
      rest.assign(argv + i + 1, argv + argc);
      argv[i] = nullptr;
      argc = i;
    }
  }
  return rest;
}

Exit run(int argc, char** argv) {
  Options options;
  options.then = take_rest(argc, argv);
  if (const char* socket = std::getenv("CAIRN_SOCKET")) {
    options.socket = socket;
  }
  GivenOptions given;
  while (true) {
    const int code = getopt_long(argc, argv, "hVs:", kLongOptions, nullptr);
    if (code == -1) {
      break;
    }
    if (const auto exit = take_option(options, given, code)) {
      return *exit;
    }
  }
  options.style = terminal_style();
  if (!given.form && isatty(STDOUT_FILENO) == 0) {
    options.output = Output::kJson;
  }
  if (optind >= argc) {
    return complain(Exit::kUsage, "No command is given; 'cairnctl --help' tells more");
  }
  options.command = argv[optind];
  options.words.assign(argv + optind + 1, argv + argc);
  const auto* own = std::ranges::find(kOwnCommands, options.command, &OwnCommand::name);
  const bool is_own = own != std::end(kOwnCommands);
  if (const auto exit = check(options, given, is_own ? own : nullptr)) {
    return *exit;
  }
  if (const auto prepared = prepare_tls(given, options.tls); !prepared) {
    return complain(Exit::kUsage, prepared.error().message());
  }
  // These are for people wherever they go, unless JSON is asked for.
  if (!given.form && is_own) {
    options.output = Output::kText;
  }
  return is_own ? own->run(options) : run_command(options);
}

}  // namespace

}  // namespace cairn::ctl

int main(int argc, char** argv) {
  const auto exit = cairn::ctl::run(argc, argv);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::perror("cairnctl: standard output");
    return static_cast<int>(cairn::ctl::Exit::kUsage);
  }
  return static_cast<int>(exit);
}
