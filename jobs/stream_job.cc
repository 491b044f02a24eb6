#include "jobs/stream_job.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "block/engine.h"
#include "block/graph_edit.h"
#include "filters/filter_driver.h"
#include "jobs/chain.h"
#include "jobs/filter_node.h"

namespace cairn::jobs {
namespace {

using block::PermissionSet;

// Bytes that are copied in one go.
constexpr uint64_t kStreamPiece = 1 << 20;

constexpr PermissionSet kAllButResize =
    PermissionSet::kConsistentRead | PermissionSet::kWrite | PermissionSet::kWriteUnchanged;
constexpr PermissionSet kNoChanges =
    PermissionSet::kConsistentRead | PermissionSet::kWriteUnchanged;

// Marks the place of the job among the users of the image, who keep it from being resized.
class StreamFilter final : public filters::FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole /*role*/,
                                                     block::Permissions parents,
                                                     bool /*writable*/) const override {
    return {.used = parents.used | PermissionSet::kConsistentRead,
            .shared = parents.shared.without(PermissionSet::kResize)};
  }
};

constexpr block::DriverInfo kStreamFilter{.name = "copy-on-read",
                                          .kind = block::DriverInfo::Kind::kFilter};

block::NewFilter stream_filter(std::optional<std::string> name) {
  block::NewFilter wanted;
  wanted.info = &kStreamFilter;
  wanted.name = std::move(name);
  wanted.make = [](block::Edge& child) { return std::make_unique<StreamFilter>(child); };
  return wanted;
}

}  // namespace

io::Task<Result<std::unique_ptr<Job>>> StreamJob::make(JobList& list, block::Graph& graph,
                                                       StreamOptions options, InDrain drain) {
  auto job = std::make_unique<StreamJob>(graph, std::move(options));
  Result<void> result = co_await job->set_up(list, drain);
  if (!result) {
    list.withdraw(*job);
    co_return pass(result);
  }
  co_return job;
}

StreamJob::StreamJob(block::Graph& graph, StreamOptions options)
    : BlockJob(options.settings, graph, options.speed),
      options_(std::move(options)),
      writable_(graph) {
  image_ = below_filters(options_.device);
  bottom_ = below_filters(options_.bottom);
  if (options_.bottom == nullptr) {
    for (bottom_ = image_; image_behind(*bottom_) != nullptr;) {
      bottom_ = image_behind(*bottom_);
    }
  }
  layers_ = 1;
  for (auto image = image_; image != bottom_; image = image_behind(*image)) {
    ++layers_;
  }
  base_ = behind(*bottom_);
}

io::Task<Result<void>> StreamJob::set_up(JobList& list, InDrain drain) {
  Result<void> result = co_await writable_.take(image_, drain);
  if (!result) {
    co_return result;
  }
  auto inserting =
      insert_filter(graph(), options_.device, stream_filter(options_.filter_node_name), drain);
  auto filter = co_await std::move(inserting);
  if (filter) {
    filter_ = std::move(*filter);
    result = announce(list);
    if (result) {
      result = keep_nodes(filter_);
    }
  } else {
    result = pass(filter);
  }
  if (!result) {
    set_drain(drain);
    co_await clean();
  }
  co_return result;
}

Result<void> StreamJob::keep_nodes(const std::shared_ptr<block::Node>& device) {
  Result<void> kept = keep("main node", device, {});
  if (kept) {
    kept = keep("active node", image_,
                {.used = PermissionSet::kConsistentRead | PermissionSet::kWriteUnchanged,
                 .shared = kAllButResize});
  }
  for (auto image = image_; kept && image != bottom_;) {
    image = image_behind(*image);
    kept = keep("intermediate node", image, {.shared = kNoChanges});
  }
  if (kept) {
    const auto attached =
        attach(device, {.used = PermissionSet::kConsistentRead, .shared = kAllButResize});
    kept = attached ? Result<void>() : std::unexpected(attached.error());
  }
  return kept;
}

io::Task<Result<void>> StreamJob::run() {
  if (layers_ > 1) {
    set_total(image_->length());
    Result<void> streamed = co_await stream();
    if (!streamed) {
      co_return streamed;
    }
  }
  if (ignored_) {
    co_return std::unexpected(*ignored_);
  }
  co_return Result<void>();
}

io::Task<Result<void>> StreamJob::stream() {
  while (done() < total()) {
    co_await may_go_on();
    if (cancelled()) {
      co_return std::unexpected(Error::from_errno(ECANCELED));
    }
    uint64_t length = std::min(kStreamPiece, total() - done());
    Result<uint64_t> handled = co_await stream_piece(done(), length);
    if (!handled) {
      const auto action =
          on_error(options_.on_error, schema::IoOperationType::kRead, handled.error());
      if (action == schema::BlockErrorAction::kStop) {
        continue;
      }
      if (action == schema::BlockErrorAction::kReport) {
        co_return pass(handled);
      }
      // The rest may work, but the image goes on needing its chain.
      if (!ignored_) {
        ignored_ = handled.error();
      }
      handled = length;
    }
    add_done(*handled);
  }
  co_return Result<void>();
}

// The number of bytes for which all is done then.
io::Task<Result<uint64_t>> StreamJob::stream_piece(uint64_t offset, uint64_t length) {
  block::Edge& image = *kept()[1];
  const Result<block::ChainStatus> status =
      co_await image.chain_status(offset, length, base_.get());
  if (!status) {
    co_return std::unexpected(status.error());
  }
  length = std::min(length, status->status.length);
  const auto depth = static_cast<std::size_t>(status->depth);
  const bool below = status->status.allocated && depth > 0;
  // Where an image between ends, it hides what the base has there.
  const bool hidden = !status->status.allocated && depth + 1 < layers_ && base_ != nullptr &&
                      offset < base_->length();
  if (below || hidden) {
    Result<void> copied = co_await block::Engine::copy_up(image, offset, length);
    if (!copied) {
      co_return pass(copied);
    }
    charge(length);
  }
  co_return length;
}

io::Task<Result<void>> StreamJob::prepare() {
  if (layers_ == 1) {
    co_return Result<void>();
  }
  // The header is not to point elsewhere before what it does not point to any more is not needed.
  block::Edge& image = *kept()[1];
  Result<void> flushed = co_await image.flush();
  if (!flushed) {
    co_return flushed;
  }
  const auto alone = co_await graph().alone();
  co_return co_await change_backing();
}

io::Task<Result<void>> StreamJob::change_backing() {
  block::GraphEdit edit(graph());
  block::Edge& backing = *image_->child("backing");
  std::string name;
  std::string format;
  if (base_ != nullptr) {
    if (auto replaced = edit.replace_child(backing, base_); !replaced) {
      co_return replaced;
    }
    const std::shared_ptr<block::Node> base = below_filters(base_);
    name = options_.backing_file.value_or(base->filename());
    const bool protocol = base->info().kind == block::DriverInfo::Kind::kProtocol;
    format = protocol && options_.mask_protocol ? "raw" : base->info().name;
  } else {
    edit.remove_child(backing);
  }
  if (auto prepared = edit.prepare(); !prepared) {
    co_return prepared;
  }
  graph().let_through(*kept()[1]);
  block::Engine::Change change = [name, format](block::Driver& driver) {
    return driver.change_backing(name, format);
  };
  auto changing =
      block::Engine::change_image(*kept()[1], PermissionSet::kWriteUnchanged, std::move(change));
  Result<void> changed = co_await std::move(changing);
  if (!changed) {
    edit.abort();
    co_return changed;
  }
  co_return co_await edit.commit();
}

io::Task<void> StreamJob::clean() {
  if (filter_ != nullptr) {
    // Should somebody's permissions be in the way, the filter stays; it is in nobody's way.
    const Result<void> gone = co_await bypass_filter(graph(), filter_, drain());
    static_cast<void>(gone);
  }
  filter_.reset();
  co_await BlockJob::clean();
  co_await writable_.give_back(drain());
  options_.device.reset();
  options_.bottom.reset();
  base_.reset();
  bottom_.reset();
  image_.reset();
}

}  // namespace cairn::jobs
