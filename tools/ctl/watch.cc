// What the daemon does, again and again: in place on a terminal, line by line elsewhere.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <tuple>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "tools/ctl/activity.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

namespace {

volatile std::sig_atomic_t ended = 0;

void on_end(int) { ended = 1; }
void on_resize(int) {}

// Signals come only while we wait for the daemon (connection.cc), and end the waiting.
void watch_signals() {
  sigset_t watched;
  sigemptyset(&watched);
  for (const auto& [signal, handler] :
       {std::pair(SIGINT, &on_end), std::pair(SIGTERM, &on_end), std::pair(SIGHUP, &on_end),
        std::pair(SIGWINCH, &on_resize)}) {
    struct sigaction action{};
    action.sa_handler = handler;
    sigaction(signal, &action, nullptr);
    sigaddset(&watched, signal);
  }
  sigprocmask(SIG_BLOCK, &watched, nullptr);
}

// The terminal's other screen, so that what was there before comes back in the end.
class Screen {
 public:
  explicit Screen(bool in_place) : in_place_(in_place) {
    if (in_place_) {
      fmt::print("\x1b[?1049h\x1b[?25l");
    }
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() {
    if (in_place_) {
      fmt::print("\x1b[?25h\x1b[?1049l");
      std::fflush(stdout);
    }
  }

  // Overwrites what was there instead of clearing it first, which would flicker. Lines that have no
  // room are left out.
  void show(const std::string& text) const {
    const size_t height = terminal_height();
    std::string out = "\x1b[H";
    size_t lines = 0;
    for (size_t at = 0; at < text.size() && lines < height;) {
      const size_t end = std::min(text.find('\n', at), text.size());
      out += lines == 0 ? "" : "\r\n";
      out += text.substr(at, end - at) + "\x1b[K";
      at = end + 1;
      ++lines;
    }
    fmt::print("{}\x1b[J", out);
    std::fflush(stdout);
  }

 private:
  bool in_place_;
};

// The answer of a command; null when the daemon does not know it or refuses.
Result<schema::JsonValue> query(Connection& connection, std::string_view command,
                                schema::JsonValue arguments = schema::JsonObject()) {
  auto reply = connection.execute(command, std::move(arguments));
  if (!reply) {
    return pass(reply);
  }
  return reply->refused ? schema::JsonValue() : std::move(reply->value);
}

Result<Sample> take_sample(Connection& connection) {
  schema::JsonObject flat;
  flat.add("flat", true);
  schema::JsonObject nodes;
  nodes.add("query-nodes", true);
  Answers answers;
  const std::tuple<schema::JsonValue*, std::string_view, schema::JsonValue> queries[] = {
      {&answers.jobs, "query-jobs", schema::JsonObject()},
      {&answers.block_jobs, "query-block-jobs", schema::JsonObject()},
      {&answers.nodes, "query-named-block-nodes", std::move(flat)},
      {&answers.statistics, "query-blockstats", std::move(nodes)},
      {&answers.exports, "query-block-exports", schema::JsonObject()},
  };
  for (const auto& [place, command, arguments] : queries) {
    auto answer = query(connection, command, arguments);
    if (!answer) {
      return pass(answer);
    }
    *place = std::move(*answer);
  }
  return make_sample(answers, Clock::now());
}

std::string time_of_day() { return fmt::format("{:%T}", fmt::localtime(std::time(nullptr))); }

void print_sample(const Activity& activity, const Connection& connection, const Options& options,
                  const Screen& screen, bool in_place) {
  if (options.output != Output::kText) {
    print_value(activity.to_json(), "", options);
  } else if (in_place) {
    const Style style = terminal_style();
    const std::string title =
        fmt::format("{} at {}, {}", connection.version(), connection.where(), time_of_day());
    screen.show(cut(title, style.width) + "\n\n" + activity.screen(style));
  } else if (options.once) {
    fmt::print("{}", activity.screen(options.style));
  } else {
    fmt::print("{}", activity.lines(time_of_day()));
  }
  std::fflush(stdout);
}

}  // namespace

Exit run_watch(const Options& options) {
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  const bool in_place = options.output == Output::kText && !options.once && options.style.moves;
  watch_signals();
  connection->stop_when(ended);
  std::optional<Error> lost;
  {
    const Screen screen(in_place);
    Activity activity;
    while (ended == 0 && !lost) {
      auto sample = take_sample(*connection);
      if (!sample) {
        lost = std::move(sample.error());
        break;
      }
      activity.take(std::move(*sample));
      print_sample(activity, *connection, options, screen, in_place);
      if (options.once) {
        break;
      }
      const auto deadline =
          Clock::now() + std::chrono::duration_cast<Clock::duration>(options.interval);
      auto drained = connection->drain_events(deadline);
      if (!drained && drained.error().code() != EINTR) {
        lost = std::move(drained.error());
      }
    }
  }
  if (lost && ended == 0) {
    return complain(Exit::kNoConnection, lost->message());
  }
  return Exit::kOk;
}

}  // namespace cairn::ctl
