// cairn-img convert: carrying it out.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "io/task_group.h"
#include "jobs/copy.h"
#include "tools/common/host_cache.h"
#include "tools/common/host_copy.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/common/snapshots.h"
#include "tools/common/thread_copy.h"
#include "tools/img/convert_steps.h"
#include "tools/img/img.h"
#include "tools/img/past_cache.h"

namespace cairn::tools {
namespace {

using block::Edge;

constexpr std::string_view kGoOn = "What is done of it stays: the same command goes on with it.";

io::Task<Result<void>> open_sources(block::Graph& graph, const ConvertRequest& request,
                                    Conversion& conversion) {
  const block::OpenFlags flags{.read_only = true,
                               .force_share = request.force_share,
                               .cache_direct = request.source_cache.direct,
                               .no_flush = request.source_cache.no_flush};
  const bool past_cache = !request.source_cache_given && avoids_cache(request);
  for (const ImageName& name : request.sources) {
    Result<std::unique_ptr<Edge>> source = co_await open_for_copy(graph, name, flags, past_cache);
    if (!source) {
      co_return pass(source);
    }
    conversion.sources.push_back(std::move(*source));
  }
  // Parts of its name can be a snapshot of the first of several sources, a name alone can not.
  if (request.snapshot && (request.snapshot->by_parts || request.sources.size() == 1)) {
    Result<void> shown = co_await show_snapshot(*conversion.sources.front(), *request.snapshot);
    if (!shown) {
      co_return shown;
    }
  }
  for (const std::unique_ptr<Edge>& source : conversion.sources) {
    conversion.length += source->length();
  }
  co_return Result<void>();
}

// What the sources and the target's format do not allow together, or this version can not do.
Result<void> check_request(const ConvertRequest& request, const Conversion& conversion) {
  if (request.snapshot && !request.snapshot->by_parts && request.sources.size() > 1) {
    return fail(ENOTSUP, "No support for concatenating multiple snapshot");
  }
  if (!request.create && request.backing && request.sources.size() > 1) {
    return fail(EINVAL,
                "Having a backing file for the target makes no sense when concatenating multiple "
                "input images");
  }
  if (request.bitmaps && !request.create) {
    return check_source_bitmaps(request, conversion.sources.front()->node());
  }
  return {};
}

// Images that store nothing but encoded units take only whole ones.
bool writes_units(const ConvertRequest& request, const block::Node& target) {
  const block::TranslatingDriver* format = target.driver().as_translating();
  return request.compress ||
         (format != nullptr && format->encoding() == block::TranslatingDriver::Encoding::kAlways);
}

// How progress is shown: as JSON only when asked for that.
ProgressLine::Show progress_form(const ConvertRequest& request) {
  return request.progress_json && !request.quiet
             ? ProgressLine::Show::kJson
             : ProgressLine::wanted(request.progress, request.quiet);
}

jobs::CopyOptions copy_options(const ConvertRequest& request, const Conversion& conversion) {
  const Edge* backing = conversion.target->node().backing();
  const bool has_backing = backing != nullptr && request.create;
  jobs::CopyOptions options{
      .target = conversion.target.get(),
      .workers = request.parallel,
      .ordered = !request.any_order,
      .sparse_size = request.sparse_size,
      .target_is_zero = request.target_is_zero || (conversion.created && !has_backing),
      .target_has_backing = has_backing,
      .backing_length = has_backing ? backing->length() : 0,
      .compare = conversion.file.resumed(),
      .compressed = writes_units(request, conversion.target->node()),
      .salvage = request.salvage,
      .rate_limit = request.rate_limit,
      .fua = request.target_cache.writethrough,
      .cancel = conversion.interrupt->token()};
  for (const auto& source : conversion.sources) {
    options.sources.push_back(source.get());
  }
  if (!request.quiet) {
    options.on_unreadable = [](uint64_t offset, const Error& error) {
      report_warning(
          fmt::format("error while reading offset {}: {}", offset, std::strerror(error.code())));
    };
  }
  return options;
}

// What keeps the host's cache within bounds; null when there is no bound.
std::unique_ptr<HostCache> bound_cache(const ConvertRequest& request,
                                       const Conversion& conversion) {
  const std::optional<uint64_t> bound =
      request.cache_limit ? request.cache_limit : usual_cache_bound();
  if (bound.value_or(0) == 0) {
    return nullptr;
  }
  auto cache = std::make_unique<HostCache>(*bound);
  for (const auto& source : conversion.sources) {
    cache->add_source(source->node());
  }
  cache->add_target(conversion.target->node());
  return cache;
}

// What copies on threads; null when the data has to pass through the images, or past the cache.
io::Task<std::unique_ptr<FileCopy>> copy_on_threads(const ConvertRequest& request,
                                                    const jobs::CopyOptions& options) {
  const bool direct =
      request.source_cache.direct || request.target_cache.direct || avoids_cache(request);
  if (!options.target_is_zero || options.compare || options.fua || direct ||
      options.sparse_size > ThreadCopy::kMostSparse) {
    co_return nullptr;
  }
  co_return co_await ThreadCopy::create(*options.target, options.sparse_size);
}

// What copies from file to file: the host, with -C and where it can, or threads. May be null.
io::Task<std::unique_ptr<FileCopy>> copy_files(const ConvertRequest& request,
                                               const jobs::CopyOptions& options) {
  std::unique_ptr<FileCopy> files;
  if (request.copy_offloading && !request.target_cache.writethrough) {
    files = co_await HostCopy::create(*options.target);
  }
  if (files == nullptr) {
    files = co_await copy_on_threads(request, options);
  }
  if (files != nullptr) {
    for (const Edge* source : options.sources) {
      files->add_source(source->node());
    }
  }
  co_return files;
}

io::Task<Result<void>> copy(const ConvertRequest& request, Conversion& conversion) {
  ProgressLine& progress = *conversion.progress;
  jobs::CopyOptions options = copy_options(request, conversion);
  options.progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); };
  const std::unique_ptr<HostCache> cache = bound_cache(request, conversion);
  options.behind = cache.get();
  const std::unique_ptr<FileCopy> files = co_await copy_files(request, options);
  options.offload = files.get();
  conversion.interrupt->set_cancellable(true);
  Result<void> copied = co_await jobs::copy_images(options);
  if (copied) {
    copied = co_await conversion.target->flush();
  }
  if (copied && files != nullptr && !request.target_cache.no_flush) {
    copied = co_await files->flush();
  }
  co_return copied;
}

io::Task<Result<void>> close_target(block::Graph& graph, Conversion& conversion) {
  if (conversion.target == nullptr) {
    co_return Result<void>();
  }
  co_return co_await graph.detach(std::move(conversion.target));
}

io::Task<Result<void>> convert(block::Graph& graph, const ConvertRequest& request,
                               Conversion& conversion) {
  Result<void> step = co_await open_sources(graph, request, conversion);
  if (step) {
    step = check_request(request, conversion);
  }
  // The target is the user's, and may stand on a backing file.
  graph.set_open_policy({});
  if (step && request.create) {
    step = co_await create_target(graph, request, conversion);
  }
  if (step) {
    step = co_await open_target(graph, request, conversion);
  }
  if (step) {
    step = co_await copy(request, conversion);
  }
  if (step && request.bitmaps) {
    step = co_await copy_bitmaps(conversion.sources.front()->node(), conversion.target->node());
  }
  Result<void> closed = co_await close_target(graph, conversion);
  step = step ? std::move(closed) : std::move(step);
  if (step && request.verify) {
    step = co_await verify_target(graph, request, conversion);
  }
  co_return step;
}

// What an interruption or a failure leaves of the target, for the user to know.
void tell_interrupted(const ConvertRequest& request, const Conversion& conversion, int signal) {
  std::string_view state = "was not made";
  if (!request.create) {
    state = "is incomplete";
  } else if (!conversion.file.fresh()) {
    state = "is empty now";
  }
  report_error(Error(ECANCELED, fmt::format("Interrupted by {}: '{}' {}", signal_name(signal),
                                            request.target.text, state))
                   .with_hint(conversion.file.kept() ? std::string(kGoOn) : ""));
}

// Gives the target its name, or takes away what there is of it.
Result<void> settle(const ConvertRequest& request, Conversion& conversion, Result<void> result) {
  const int signal = conversion.interrupt->signal();
  if (signal != 0) {
    tell_interrupted(request, conversion, signal);
    result = fail(ECANCELED, "Interrupted");
  } else if (!result) {
    Error error = conversion.file.in_users_words(std::move(result.error()));
    if (conversion.file.kept()) {
      error = std::move(error).with_hint(std::string(kGoOn));
    }
    report_error(error);
    result = fail(EIO, "This was told");
  }
  if (result || conversion.keep) {
    const Result<void> published = conversion.file.publish(!request.target_cache.no_flush);
    if (!published) {
      report_error(published.error());
      result = published;
    }
  }
  if (const Result<void> removed = conversion.file.abandon(); !removed) {
    report_warning(removed.error().message());
  }
  return result;
}

io::Task<Result<void>> convert_and_settle(block::Graph& graph, const ConvertRequest& request,
                                          Conversion& conversion) {
  Result<void> result = co_await convert(graph, request, conversion);
  for (std::unique_ptr<Edge>& source : conversion.sources) {
    Result<void> closed = co_await graph.detach(std::move(source));
    result = result ? std::move(closed) : std::move(result);
  }
  conversion.progress->finish();
  co_return settle(request, conversion, std::move(result));
}

}  // namespace

io::Task<int> convert_images(block::Graph& graph, const ConvertRequest& request,
                             const io::SignalWatcher& signals) {
  Conversion conversion;
  Interrupt interrupt(signals);
  conversion.interrupt = &interrupt;
  ProgressLine progress(progress_form(request));
  progress.announce();
  conversion.progress = &progress;
  interrupt.set_at_once([&request, &conversion](int signal) {
    tell_interrupted(request, conversion, signal);
    (void)conversion.file.abandon();
  });
  io::TaskGroup watchers;
  watchers.spawn(interrupt.watch());
  const Result<void> result = co_await convert_and_settle(graph, request, conversion);
  interrupt.over();
  co_await watchers.join();
  if (interrupt.signal() != 0 && !result) {
    end_by_signal(interrupt.signal());
  }
  co_return result ? 0 : 1;
}

}  // namespace cairn::tools
