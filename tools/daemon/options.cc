// Only what works is in the help and in the table of options.
#include "tools/daemon/options.h"

#include <getopt.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "monitor/version.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"
#include "schema/visit_char.h"
#include "tools/common/object.h"

namespace cairn::tools {

namespace {

enum OptionCode : int {
  kHelp = 'h',
  kVersion = 'V',
  kTrace = 'T',
  kBlockdev = 256,
  kChardev,
  kDaemonize,
  kExport,
  kIo,
  kMonitor,
  kNbdServer,
  kObject,
  kPidfile,
};

constexpr option kLongOptions[] = {
    {"blockdev", required_argument, nullptr, kBlockdev},
    {"chardev", required_argument, nullptr, kChardev},
    {"daemonize", no_argument, nullptr, kDaemonize},
    {"export", required_argument, nullptr, kExport},
    {"help", no_argument, nullptr, kHelp},
    {"io", required_argument, nullptr, kIo},
    {"monitor", required_argument, nullptr, kMonitor},
    {"nbd-server", required_argument, nullptr, kNbdServer},
    {"object", required_argument, nullptr, kObject},
    {"pidfile", required_argument, nullptr, kPidfile},
    {"trace", required_argument, nullptr, kTrace},
    {"version", no_argument, nullptr, kVersion},
    {nullptr, 0, nullptr, 0},
};

constexpr std::string_view kHelpText = R"(
  -h, --help             show this help and exit
  -V, --version          show the version and exit
  -T, --trace [enable=]PATTERN
                         report matching events to standard error while they
                         happen: qmp_command, qmp_reply, qmp_event; PATTERN may
                         hold * and ?
  --blockdev driver=DRIVER,node-name=NAME[,OPTION=VALUE...]
                         make a block node; nested options are written with
                         dots: file.driver=file,file.filename=disk.img
  --chardev socket,id=ID,path=PATH[,server=on][,wait=off]
  --chardev socket,id=ID,host=HOST,port=PORT[,server=on][,wait=off]
  --chardev stdio,id=ID
  --chardev file,id=ID,path=PATH[,input-path=PATH][,append=on]
  --chardev pipe,id=ID,path=PATH
  --chardev pty,id=ID[,path=LINK]
  --chardev ringbuf,id=ID[,size=SIZE]
  --chardev null,id=ID   make a character device for a monitor to talk through
  --check-config FILE    only check a configuration, and say what is wrong with it
  --config FILE          first of all, run the commands in a file: a JSON list of
                         them as a monitor takes them
  --daemonize            go to the background when everything is set up
  --export type=nbd,id=ID,node-name=NODE[,name=NAME][,writable=on|off]
           [,description=TEXT][,writethrough=on|off]
                         serve a node by the NBD server
  --export type=fuse,id=ID,node-name=NODE,mountpoint=FILE[,writable=on|off]
           [,growable=on|off][,allow-other=on|off|auto]
                         show a node as a regular file
  --export type=ublk,id=ID,node-name=NODE,device-id=N[,writable=on|off]
           [,recoverable=on|off][,logical-block-size=SIZE][,num-queues=N]
           [,queue-depth=N]
                         show a node as the block device /dev/ublkbN
  --export type=vhost-user-blk,id=ID,node-name=NODE,addr.type=unix,addr.path=PATH
           [,writable=on|off][,logical-block-size=SIZE][,num-queues=N]
                         show a node to a virtual machine as a virtio disk
  --io=auto|io_uring|epoll
                         how to talk to the kernel (default: auto, which takes
                         io_uring where the kernel offers it)
  --monitor chardev=ID[,mode=control][,pretty=on|off]
                         speak QMP on a character device
  --nbd-server addr.type=unix,addr.path=PATH[,max-connections=N]
               [,handshake-max-seconds=N]
  --nbd-server addr.type=inet,addr.host=HOST,addr.port=PORT[,...]
                         start the NBD server
  --object TYPE,id=ID[,OPTION=VALUE...]
                         make an object; --object help and --object TYPE,help
                         tell what there is
  --poll-max-ns N        how long the main loop may look for requests before it
                         sleeps, in nanoseconds, when they come one by one;
                         0: not at all (default: 100000, and 0 where there is
                         only one processor)
  --pidfile PATH         write the process id to a file, which is removed at the
                         end

Values with nested options may be given as JSON objects, too. Options take
effect in the order they are given, those of --config before all others.
)";

bool called_as_peer(std::string_view name) { return name.starts_with("qemu"); }

void print_help(std::string_view name) {
  fmt::print("Usage: {} [options]\n{} storage daemon\n{}", name,
             called_as_peer(name) ? "QEMU" : "Cairn", kHelpText);
}

void print_version(std::string_view name) {
  const schema::VersionInfo info = monitor::version_info();
  fmt::print("{} version {}.{}.{} ({})\nCopyright (c) 2026 the Cairn authors\n", name,
             info.qemu.major, info.qemu.minor, info.qemu.micro, info.package);
}

std::optional<SetupOption::Kind> setup_kind(int code) {
  switch (code) {
    case kBlockdev:
      return SetupOption::Kind::kBlockdev;
    case kChardev:
      return SetupOption::Kind::kChardev;
    case kExport:
      return SetupOption::Kind::kExport;
    case kMonitor:
      return SetupOption::Kind::kMonitor;
    case kNbdServer:
      return SetupOption::Kind::kNbdServer;
    case kObject:
      return SetupOption::Kind::kObject;
    default:
      return std::nullopt;
  }
}

// Stores one option; false when the program is to end with `exit_code`.
bool take_option(DaemonOptions& options, int code, const char* name, int& exit_code) {
  if (code == kObject) {
    if (const auto help = object_help(optarg)) {
      fmt::print("{}", *help);
      exit_code = EXIT_SUCCESS;
      return false;
    }
  }
  if (code == kChardev && (std::string_view(optarg) == "help" || std::string_view(optarg) == "?")) {
    fmt::print("Available chardev backend types:\n  {}\n",
               fmt::join(enum_names(schema::ChardevBackendKind{}), "\n  "));
    exit_code = EXIT_SUCCESS;
    return false;
  }
  if (const auto kind = setup_kind(code)) {
    options.setup.push_back({*kind, optarg});
    return true;
  }
  switch (code) {
    case kHelp:
      print_help(name);
      exit_code = EXIT_SUCCESS;
      return false;
    case kVersion:
      print_version(name);
      exit_code = EXIT_SUCCESS;
      return false;
    case kTrace:
      options.trace.emplace_back(optarg);
      return true;
    case kDaemonize:
      options.daemonize = true;
      return true;
    case kPidfile:
      options.pidfile = optarg;
      return true;
    case kIo: {
      const auto io = io::parse_backend_kind(optarg);
      if (!io) {
        fmt::print(stderr, "{}: --io={}: {}\n", name, optarg, io.error().message());
        exit_code = EXIT_FAILURE;
        return false;
      }
      options.io = *io;
      return true;
    }
    default:
      // getopt has said what is wrong.
      exit_code = EXIT_FAILURE;
      return false;
  }
}

// False when there is anything to say against a configuration, which is said.
bool report_problems(const Config& config, const char* name) {
  for (const Error& problem : config.problems) {
    fmt::print(stderr, "{}: {}\n", name, problem.message());
  }
  return config.problems.empty();
}

// Options that the field's daemon does not have. They are kept from getopt, so that each of the
// others may still be cut short in the ways that it may there.
enum class OwnOption : uint8_t { kOther, kTaken, kEnd };

// The value of `option` when that comes next on the command line, which then goes on behind it.
// Nothing when something else comes, or, with `missing` set, when no value follows.
std::optional<std::string> take_value(std::string_view option, int argc, char** argv,
                                      bool& missing) {
  const std::string_view word = optind < argc ? argv[optind] : "";
  if (!word.starts_with(option)) {
    return std::nullopt;
  }
  const std::string_view more = word.substr(option.size());
  if (more.starts_with('=')) {
    ++optind;
    return std::string(more.substr(1));
  }
  if (!more.empty()) {
    return std::nullopt;
  }
  if (optind + 1 >= argc) {
    fmt::print(stderr, "{}: option '{}' requires an argument\n", argv[0], option);
    missing = true;
    return std::nullopt;
  }
  optind += 2;
  return argv[optind - 1];
}

// Takes the file of a --config or --check-config; false when the program is to end.
bool take_config(DaemonOptions& options, const std::string& path, bool check_only, const char* name,
                 int& exit_code) {
  Config config = load_config(path);
  const bool sound = report_problems(config, name);
  if (!sound || check_only) {
    exit_code = sound ? EXIT_SUCCESS : EXIT_FAILURE;
    return false;
  }
  options.configs.push_back(std::move(config));
  return true;
}

bool take_polling(DaemonOptions& options, std::string_view text, const char* name, int& exit_code) {
  int64_t longest = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), longest);
  if (error != std::errc() || end != text.data() + text.size() || longest < 0) {
    fmt::print(stderr, "{}: --poll-max-ns={}: not a number of nanoseconds\n", name, text);
    exit_code = EXIT_FAILURE;
    return false;
  }
  options.polling.longest = std::chrono::nanoseconds(longest);
  return true;
}

OwnOption take_own_option(DaemonOptions& options, int argc, char** argv, int& exit_code) {
  bool missing = false;
  for (const std::string_view option : {"--config", "--check-config", "--poll-max-ns"}) {
    const auto value = take_value(option, argc, argv, missing);
    if (missing) {
      exit_code = EXIT_FAILURE;
      return OwnOption::kEnd;
    }
    if (value) {
      const bool goes_on =
          option == "--poll-max-ns"
              ? take_polling(options, *value, argv[0], exit_code)
              : take_config(options, *value, option == "--check-config", argv[0], exit_code);
      return goes_on ? OwnOption::kTaken : OwnOption::kEnd;
    }
  }
  return OwnOption::kOther;
}

}  // namespace

std::string SetupOption::spelled() const {
  constexpr std::string_view kNames[] = {"blockdev", "chardev",    "export",
                                         "monitor",  "nbd-server", "object"};
  return fmt::format("--{} {}", kNames[static_cast<size_t>(kind)], text);
}

std::optional<DaemonOptions> parse_command_line(int argc, char** argv, int& exit_code) {
  DaemonOptions options;
  // Operands are looked at in their place; '-' makes getopt hand them over as option 1.
  while (true) {
    const OwnOption own = take_own_option(options, argc, argv, exit_code);
    if (own == OwnOption::kEnd) {
      return std::nullopt;
    }
    if (own == OwnOption::kTaken) {
      continue;
    }
    const int code = getopt_long(argc, argv, "-hVT:", kLongOptions, nullptr);
    if (code == -1) {
      break;
    }
    if (code == 1) {
      fmt::print(stderr, "{}: {}: Unexpected argument\n", argv[0], optarg);
      exit_code = EXIT_FAILURE;
      return std::nullopt;
    }
    if (!take_option(options, code, argv[0], exit_code)) {
      return std::nullopt;
    }
  }
  if (optind < argc) {
    fmt::print(stderr, "{}: {}: Unexpected argument\n", argv[0], argv[optind]);
    exit_code = EXIT_FAILURE;
    return std::nullopt;
  }
  return options;
}

Result<SchemaText> parse_schema_text(std::string_view text, std::string_view implied_key) {
  const bool json = text.starts_with('{');
  auto value = json ? schema::parse_json(text) : schema::parse_keyval(text, implied_key);
  if (!value) {
    return pass(value);
  }
  return SchemaText{.value = std::move(*value), .keyval = !json};
}

}  // namespace cairn::tools
