// cairn-img sparsify
#include "jobs/sparsify.h"

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "io/task_group.h"
#include "tools/common/image.h"
#include "tools/common/interrupt.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

struct SparsifyRequest : ImageRequest {
  SparsifyRequest() { flags = {.discard_unmap = true}; }
};

// The image is left in order, whether or not this fails.
io::Task<Result<jobs::SparsifyOutcome>> sparsify(block::Graph& graph,
                                                 const SparsifyRequest& request,
                                                 Interrupt& interrupt) {
  Result<std::unique_ptr<block::Edge>> root =
      co_await open_root(graph, request.image, request.flags);
  if (!root) {
    co_return pass(root);
  }
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  interrupt.set_cancellable(true);
  const jobs::SparsifyOptions options{
      .image = root->get(),
      .cancel = interrupt.token(),
      .progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); }};
  Result<jobs::SparsifyOutcome> outcome = co_await jobs::sparsify_image(options);
  progress.finish();
  Result<void> flushed = co_await (*root)->flush();
  if (outcome && !flushed) {
    outcome = pass(flushed);
  }
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (outcome && !closed) {
    outcome = pass(closed);
  }
  co_return outcome;
}

int tell(const SparsifyRequest& request, const jobs::SparsifyOutcome& outcome) {
  if (outcome.kept != 0 && outcome.given_up == 0) {
    return fail_command(Error(
        ENOTSUP, fmt::format("'{}' reads as zeroes in {} bytes, but can not store zeroes without "
                             "space",
                             request.image.text, outcome.kept)));
  }
  if (!request.quiet) {
    fmt::print("{} bytes that read as zeroes were given up.\n", outcome.given_up);
  }
  return 0;
}

io::Task<int> run(block::Graph& graph, const SparsifyRequest& request,
                  const io::SignalWatcher& signals) {
  Interrupt interrupt(signals);
  io::TaskGroup watchers;
  watchers.spawn(interrupt.watch());
  const Result<jobs::SparsifyOutcome> outcome = co_await sparsify(graph, request, interrupt);
  interrupt.over();
  co_await watchers.join();
  if (const int signal = interrupt.signal(); signal != 0 && !outcome) {
    report_error(fmt::format("Interrupted by {}: '{}' is whole, and may use less space than before",
                             signal_name(signal), request.image.text));
    end_by_signal(signal);
  }
  co_return outcome ? tell(request, *outcome) : fail_command(outcome.error());
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, SparsifyRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kOther && option->id == 't') {
      request.cache_text = option->value;
    }
  }
  return line.exit_code();
}

}  // namespace

int img_sparsify(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {
      kHelpOption,   kQuietOption,  kProgressOption,  kFormatOption,
      kObjectOption, kPolicyOption, kImageOptsOption, OptionSpec{'t', "cache", true}};
  SparsifyRequest request;
  ImgCommandLine line("sparsify", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  request.flags.cache_direct = request.cache.direct;
  request.flags.no_flush = request.cache.no_flush;
  const auto signals = Interrupt::watch_signals();
  if (!signals) {
    return fail_command(signals.error());
  }
  const auto session = Session::create();
  return session ? (*session)->run(run((*session)->graph(), request, *signals))
                 : fail_command(session.error());
}

}  // namespace cairn::tools
