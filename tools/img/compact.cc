// cairn-img compact
#include "block/compact.h"

#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "io/task_group.h"
#include "tools/common/image.h"
#include "tools/common/interrupt.h"
#include "tools/common/progress.h"
#include "tools/common/repair.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

struct CompactRequest : ImageRequest {
  CompactRequest() { flags = {.discard_unmap = true}; }
};

struct FileLength {
  uint64_t before = 0;
  uint64_t after = 0;
};

// Bytes of the file that the image is in.
uint64_t file_length(const block::Edge& root) {
  const block::Edge* file = root.node().child("file");
  return file != nullptr ? file->length() : root.length();
}

// The image is left in order, whether or not this fails.
io::Task<Result<FileLength>> compact(block::Graph& graph, const CompactRequest& request,
                                     Interrupt& interrupt) {
  Result<void> sound = co_await repair_leaks(graph, request.image, request.flags);
  if (!sound) {
    co_return pass(sound, fmt::format("'{}' can not be compacted: ", request.image.text));
  }
  Result<std::unique_ptr<block::Edge>> root =
      co_await open_root(graph, request.image, request.flags);
  if (!root) {
    co_return pass(root);
  }
  FileLength length{.before = file_length(**root)};
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  interrupt.set_cancellable(true);
  block::CompactOptions options{
      .cancel = interrupt.token(),
      .progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); }};
  Result<void> result = co_await (*root)->compact(std::move(options));
  progress.finish();
  if (!result) {
    result = pass(result, fmt::format("'{}' can not be compacted: ", request.image.text));
  }
  length.after = file_length(**root);
  Result<void> closed = co_await graph.detach(std::move(*root));
  result = result ? std::move(closed) : std::move(result);
  if (!result) {
    co_return pass(result);
  }
  co_return length;
}

io::Task<int> run_compact(block::Graph& graph, const CompactRequest& request,
                          const io::SignalWatcher& signals) {
  Interrupt interrupt(signals);
  io::TaskGroup watchers;
  watchers.spawn(interrupt.watch());
  const Result<FileLength> length = co_await compact(graph, request, interrupt);
  interrupt.over();
  co_await watchers.join();
  if (const int signal = interrupt.signal(); signal != 0 && !length) {
    report_error(
        fmt::format("Interrupted by {}: '{}' is whole", signal_name(signal), request.image.text));
    end_by_signal(signal);
  }
  if (!length) {
    co_return fail_command(length.error());
  }
  if (!request.quiet) {
    fmt::print("The file has {} bytes, and had {}.\n", length->after, length->before);
  }
  co_return 0;
}

}  // namespace

int img_compact(std::span<const std::string> arguments) {
  CompactRequest request;
  ImgCommandLine line("compact", arguments, kInPlaceOptions);
  if (const auto code = read_in_place(line, request)) {
    return *code;
  }
  const auto signals = Interrupt::watch_signals();
  if (!signals) {
    return fail_command(signals.error());
  }
  const auto session = Session::create();
  return session ? (*session)->run(run_compact((*session)->graph(), request, *signals))
                 : fail_command(session.error());
}

}  // namespace cairn::tools
