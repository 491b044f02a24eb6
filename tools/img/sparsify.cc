// cairn-img sparsify
#include "jobs/sparsify.h"

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

}  // namespace

int img_sparsify(std::span<const std::string> arguments) {
  SparsifyRequest request;
  ImgCommandLine line("sparsify", arguments, kInPlaceOptions);
  if (const auto code = read_in_place(line, request)) {
    return *code;
  }
  const auto signals = Interrupt::watch_signals();
  if (!signals) {
    return fail_command(signals.error());
  }
  const auto session = Session::create();
  return session ? (*session)->run(run((*session)->graph(), request, *signals))
                 : fail_command(session.error());
}

}  // namespace cairn::tools
