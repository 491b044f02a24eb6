// cairn-img bench
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "io/buffer.h"
#include "io/reactor.h"
#include "io/task_group.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kDefaultCount = 75000;
constexpr uint64_t kDefaultDepth = 64;
constexpr uint64_t kDefaultSize = 4096;

struct BenchRequest : ImageRequest {
  BenchRequest() { flags = {.read_only = true, .discard_unmap = true}; }

  bool write = false;
  uint64_t count = kDefaultCount;
  uint64_t depth = kDefaultDepth;
  uint64_t size = kDefaultSize;  // of a request, in bytes
  std::optional<uint64_t> step;  // from one request to the next; `size` without
  uint64_t offset = 0;           // of the first
  uint64_t pattern = 0;
  uint64_t flush_interval = 0;  // requests; 0: no flushes
  bool drain = true;            // a flush waits for the requests before it
  bool native_aio = false;
};

// One run. Lives in its coroutine frame.
class Bench {
 public:
  Bench(block::Edge& image, const BenchRequest& request)
      : image_(image), request_(request), offset_(request.offset), left_(request.count) {}

  io::Task<Result<void>> run();

 private:
  io::Task<void> work();
  io::Task<void> flush();
  uint64_t next_offset();
  void keep(Result<void> result) {
    if (!result && outcome_) {
      outcome_ = std::move(result);
    }
  }

  block::Edge& image_;
  const BenchRequest& request_;
  uint64_t offset_;
  uint64_t left_;       // requests that have not begun
  uint64_t batch_ = 0;  // those of them before the next flush that waits
  Result<void> outcome_;
};

io::Task<Result<void>> Bench::run() {
  const bool drains = request_.flush_interval != 0 && request_.drain;
  while (left_ > 0 && outcome_) {
    const uint64_t odd = drains ? left_ % request_.flush_interval : left_;
    batch_ = odd != 0 ? odd : request_.flush_interval;
    io::TaskGroup workers;
    for (uint64_t i = std::min(request_.depth, batch_); i > 0; --i) {
      workers.spawn(work());
    }
    co_await workers.join();
    if (drains && outcome_) {
      co_await flush();
    }
  }
  co_return std::move(outcome_);
}

io::Task<void> Bench::flush() {
  Result<void> flushed = co_await image_.flush();
  keep(std::move(flushed));
}

// One request after the other, as many workers as requests in flight.
io::Task<void> Bench::work() {
  Result<io::AlignedBuffer> buffer =
      io::AlignedBuffer::allocate(std::max<uint64_t>(1, request_.size));
  if (!buffer) {
    keep(pass(buffer));
    co_return;
  }
  std::memset(buffer->data(), static_cast<int>(request_.pattern), buffer->size());
  while (batch_ > 0 && outcome_) {
    --batch_;
    --left_;
    const uint64_t at = next_offset();
    Result<void> done;
    if (request_.write) {
      const block::WriteFlags flags{.fua = request_.cache.writethrough};
      done = co_await image_.write(at, buffer->data(), request_.size, flags);
    } else {
      done = co_await image_.read(at, buffer->data(), request_.size);
    }
    keep(std::move(done));
    if (request_.flush_interval != 0 && !request_.drain && left_ % request_.flush_interval == 0) {
      co_await flush();
    }
  }
}

// Beyond the end it goes on from the beginning.
uint64_t Bench::next_offset() {
  const uint64_t at = offset_;
  offset_ += request_.step.value_or(request_.size);
  if (offset_ >= image_.length() && image_.length() != 0) {
    offset_ %= image_.length();
  }
  return at;
}

void announce(const BenchRequest& request) {
  fmt::print(
      "Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size "
      "{})\n",
      request.count, request.write ? "write" : "read", request.size, request.depth, request.offset,
      request.step.value_or(request.size));
  if (request.flush_interval != 0) {
    fmt::print("Sending flush every {} requests\n", request.flush_interval);
  }
  std::fflush(stdout);
}

io::Task<int> bench(block::Graph& graph, const BenchRequest& request) {
  if (request.native_aio && !request.cache.direct) {
    Error refused = co_await refuse_open(graph, request.image, request.flags, kNativeThroughCache);
    co_return fail_command(could_not_open(request.image, std::move(refused)));
  }
  auto root = co_await open_root(graph, request.image, request.flags);
  if (!root) {
    co_return fail_command(root.error());
  }
  announce(request);
  const io::TimePoint begin = io::Reactor::current().now();
  Bench run(**root, request);
  Result<void> done = co_await run.run();
  const std::chrono::duration<double> spent = io::Reactor::current().now() - begin;
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (!done) {
    report_error(fmt::format("Failed request: {}", std::strerror(done.error().code())));
    co_return 1;
  }
  fmt::print("Run completed in {:.3f} seconds.\n", spent.count());
  co_return closed ? 0 : fail_command(closed.error());
}

struct NumberOption {
  int id;
  std::string_view what;  // in messages
  uint64_t BenchRequest::* member;
  uint64_t minimum;
  uint64_t maximum;
};

constexpr std::array kNumbers = {
    NumberOption{'c', "request count", &BenchRequest::count, 0, INT_MAX},
    NumberOption{'d', "queue depth", &BenchRequest::depth, 1, INT_MAX},
    NumberOption{'o', "offset", &BenchRequest::offset, 0, INT64_MAX},
    NumberOption{'s', "buffer size", &BenchRequest::size, 0, INT_MAX},
    NumberOption{kOptPattern, "pattern byte", &BenchRequest::pattern, 0, UINT8_MAX},
    NumberOption{kOptFlushInterval, "flush interval", &BenchRequest::flush_interval, 0, INT_MAX}};

// Whether it is one of them; its error has the field's words.
Result<bool> take_number(const ParsedOption& option, BenchRequest& request) {
  if (option.id == 'S') {
    const auto step = parse_size_argument("step_size", option.value, 0, INT_MAX);
    if (!step) {
      return std::unexpected(step.error());
    }
    request.step = *step != 0 ? std::optional(*step) : std::nullopt;
    return true;
  }
  const auto* const number = std::ranges::find(kNumbers, option.id, &NumberOption::id);
  if (number == kNumbers.end()) {
    return false;
  }
  const auto value =
      parse_size_argument(number->what, option.value, number->minimum, number->maximum);
  if (!value) {
    return std::unexpected(value.error());
  }
  request.*number->member = *value;
  return true;
}

// The exit code when there is nothing more to do.
std::optional<int> take_option(const ParsedOption& option, BenchRequest& request) {
  switch (option.id) {
    case 'n':
      request.native_aio = true;
      break;
    case 'i':
      if (option.value != "threads" && option.value != "native" && option.value != "io_uring") {
        report_error(fmt::format("Invalid aio option: {}", option.value));
        return 1;
      }
      request.native_aio = request.native_aio || option.value == "native";
      break;
    case 't': {
      const auto mode = parse_cache_mode(option.value);
      if (!mode) {
        report_error("Invalid cache mode");
        return 1;
      }
      request.cache = *mode;
      break;
    }
    case 'w':
      request.write = true;
      request.flags.read_only = false;
      break;
    case kOptNoDrain:
      request.drain = false;
      break;
  }
  return std::nullopt;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, BenchRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kTaken) {
      continue;
    }
    const Result<bool> number = take_number(*option, request);
    if (!number) {
      return fail_command(number.error());
    }
    if (*number) {
      continue;
    }
    if (const auto code = take_option(*option, request)) {
      return code;
    }
  }
  return line.exit_code();
}

// What the options forbid each other. The exit code when they do.
std::optional<int> check(const BenchRequest& request) {
  std::string_view wrong;
  if (!request.write && request.flush_interval != 0) {
    wrong = "--flush-interval is only available in write tests";
  } else if (request.flush_interval != 0 && request.flush_interval < request.depth) {
    wrong = "Flush interval can't be smaller than depth";
  }
  if (wrong.empty()) {
    return std::nullopt;
  }
  report_error(wrong);
  return 1;
}

}  // namespace

int img_bench(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{'c', "count", true},
                                 OptionSpec{'d', "depth", true},
                                 OptionSpec{kOptFlushInterval, "flush-interval", true},
                                 OptionSpec{'i', "aio", true},
                                 OptionSpec{'n', "native", false},
                                 OptionSpec{kOptNoDrain, "no-drain", false},
                                 OptionSpec{'o', "offset", true},
                                 OptionSpec{kOptPattern, "pattern", true},
                                 OptionSpec{'s', "buffer-size", true},
                                 OptionSpec{'S', "step-size", true},
                                 OptionSpec{'t', "cache", true},
                                 OptionSpec{'w', "write", false}};
  BenchRequest request;
  ImgCommandLine line("bench", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  if (const auto code = check(request)) {
    return *code;
  }
  request.flags.cache_direct = request.cache.direct;
  request.flags.no_flush = request.cache.no_flush;
  return run_in_session(bench, request);
}

}  // namespace cairn::tools
