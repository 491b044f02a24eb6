// Commands that start jobs on backing chains.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "jobs/chain.h"
#include "jobs/commit_job.h"
#include "jobs/stream_job.h"
#include "monitor/find_node.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

using NodePtr = std::shared_ptr<block::Node>;

template <typename Arguments>
jobs::JobSettings settings_of(const Arguments& arguments, schema::JobType type) {
  return {.id = arguments.job_id.value_or(""),
          .type = type,
          .auto_finalize = arguments.auto_finalize.value_or(true),
          .auto_dismiss = arguments.auto_dismiss.value_or(true)};
}

Result<void> check_exclusive(const schema::BlockStreamArguments& arguments) {
  const auto both = [](std::string_view one, std::string_view other) {
    return fail(EINVAL, "'{}' and '{}' cannot be specified at the same time", one, other);
  };
  if (arguments.base && arguments.base_node) {
    return both("base", "base-node");
  }
  if (arguments.base && arguments.bottom) {
    return both("base", "bottom");
  }
  if (arguments.bottom && arguments.base_node) {
    return both("bottom", "base-node");
  }
  return {};
}

Result<NodePtr> find_bottom(Services& services, const block::Node& device,
                            const std::string& name) {
  auto bottom = find_device_or_node(services.graph, "", name);
  if (!bottom) {
    return bottom;
  }
  if ((*bottom)->info().kind == block::DriverInfo::Kind::kFilter) {
    return fail(EINVAL, "Node '{}' is a filter, use a non-filter node as 'bottom'", name);
  }
  if (!jobs::in_chain(device, **bottom)) {
    return fail(EINVAL, "Node '{}' is not in a chain starting from '{}'", name, device.name());
  }
  return bottom;
}

// The last image to be streamed from; null for the whole chain.
Result<NodePtr> find_bottom(Services& services, const NodePtr& device,
                            const schema::BlockStreamArguments& arguments) {
  if (arguments.bottom) {
    return find_bottom(services, *device, *arguments.bottom);
  }
  NodePtr base;
  if (arguments.base) {
    base = jobs::find_behind(*jobs::below_filters(device), *arguments.base);
    if (base == nullptr) {
      return fail(EINVAL, "Can't find '{}' in the backing chain", *arguments.base);
    }
  }
  if (arguments.base_node) {
    auto found = find_device_or_node(services.graph, "", *arguments.base_node);
    if (!found) {
      return found;
    }
    base = std::move(*found);
    if (jobs::image_above(device, *base) == nullptr) {
      return fail(EINVAL, "Node '{}' is not a backing image of '{}'", base->name(), device->name());
    }
  }
  return base != nullptr ? jobs::image_above(device, *base) : nullptr;
}

Result<jobs::StreamOptions> stream_options(Services& services,
                                           schema::BlockStreamArguments& arguments) {
  if (auto exclusive = check_exclusive(arguments); !exclusive) {
    return pass(exclusive);
  }
  auto device = find_device_or_node(services.graph, arguments.device, arguments.device);
  if (!device) {
    return pass(device);
  }
  auto bottom = find_bottom(services, *device, arguments);
  if (!bottom) {
    return pass(bottom);
  }
  for (NodePtr image = jobs::below_filters(*device); image != nullptr;
       image = image != *bottom ? jobs::image_behind(*image) : nullptr) {
    if (auto free = services.jobs.check_free(*image); !free) {
      return pass(free);
    }
  }
  const bool whole = !arguments.base && !arguments.base_node && !arguments.bottom;
  if (arguments.backing_file && whole) {
    return fail(EINVAL, "backing file specified, but streaming the entire chain");
  }
  return jobs::StreamOptions{
      .settings = settings_of(arguments, schema::JobType::kStream),
      .device = std::move(*device),
      .bottom = std::move(*bottom),
      .backing_file = std::move(arguments.backing_file),
      .mask_protocol = arguments.backing_mask_protocol.value_or(false),
      .speed = arguments.speed.value_or(0),
      .on_error = arguments.on_error.value_or(schema::BlockdevOnError::kReport),
      .filter_node_name = std::move(arguments.filter_node_name)};
}

}  // namespace

HandlerResult<commands::BlockStream> handle(Services& services, commands::BlockStream,
                                            schema::BlockStreamArguments arguments) {
  auto options = stream_options(services, arguments);
  if (!options) {
    co_return pass(options);
  }
  auto making =
      jobs::StreamJob::make(services.jobs, services.graph, std::move(*options), jobs::InDrain::kNo);
  auto job = co_await std::move(making);
  if (!job) {
    co_return pass(job);
  }
  services.jobs.start(std::move(*job));
  co_return Result<void>{};
}

namespace {

// The device of a commit: nothing but jobs and users from outside may be above it.
Result<NodePtr> find_commit_device(Services& services, const std::string& name) {
  if (services.graph.find(name) == nullptr) {
    Error error(ENODEV, fmt::format("Device '{}' not found", name), ErrorClass::kDeviceNotFound);
    return std::unexpected(std::move(error));
  }
  return find_root_node(services.graph, name);
}

Result<NodePtr> find_in_chain(Services& services, const block::Node& above,
                              const std::string& name) {
  auto node = find_device_or_node(services.graph, "", name);
  if (node && !jobs::in_chain(above, **node)) {
    return fail(EINVAL, "'{}' is not in this backing file chain", name);
  }
  return node;
}

Result<NodePtr> find_commit_top(Services& services, const NodePtr& device,
                                const schema::BlockCommitArguments& arguments) {
  if (arguments.top_node) {
    return find_in_chain(services, *device, *arguments.top_node);
  }
  const NodePtr image = jobs::below_filters(device);
  if (!arguments.top || jobs::same_image(image->filename(), *arguments.top)) {
    return device;
  }
  NodePtr top = jobs::find_behind(*image, *arguments.top);
  if (top == nullptr) {
    return fail(EINVAL, "Top image file {} not found", *arguments.top);
  }
  return top;
}

Result<NodePtr> find_commit_base(Services& services, const NodePtr& top,
                                 const schema::BlockCommitArguments& arguments) {
  if (arguments.base_node) {
    return find_in_chain(services, *top, *arguments.base_node);
  }
  const NodePtr image = jobs::below_filters(top);
  if (arguments.base) {
    NodePtr base = jobs::find_behind(*image, *arguments.base);
    if (base == nullptr) {
      return fail(EINVAL, "Can't find '{}' in the backing chain", *arguments.base);
    }
    return base;
  }
  NodePtr last = image;
  while (NodePtr next = jobs::image_behind(*last)) {
    last = std::move(next);
  }
  return last;
}

// The images that a commit works on are nobody else's.
Result<void> check_images_free(const Services& services, NodePtr image, const NodePtr& last) {
  while (image != nullptr) {
    if (auto free = services.jobs.check_free(*image); !free) {
      return free;
    }
    image = image != last ? jobs::image_behind(*image) : nullptr;
  }
  return {};
}

Result<jobs::CommitJobOptions> commit_options(Services& services,
                                              schema::BlockCommitArguments& arguments) {
  auto device = find_commit_device(services, arguments.device);
  if (!device) {
    return pass(device);
  }
  if (arguments.top_node && arguments.top) {
    return fail(EINVAL, "'top-node' and 'top' are mutually exclusive");
  }
  auto top = find_commit_top(services, *device, arguments);
  if (!top) {
    return pass(top);
  }
  if (arguments.base_node && arguments.base) {
    return fail(EINVAL, "'base-node' and 'base' are mutually exclusive");
  }
  auto base = find_commit_base(services, *top, arguments);
  if (!base) {
    return pass(base);
  }
  const NodePtr image = jobs::below_filters(*top);
  const NodePtr target = jobs::below_filters(*base);
  const bool active = image == jobs::below_filters(*device);
  if (image == target && (!active || *top == *base)) {
    return fail(EINVAL, "cannot commit an image into itself");
  }
  if (auto free = check_images_free(services, image, target); !free) {
    return pass(free);
  }
  if (active && arguments.backing_file) {
    return fail(EINVAL, "'backing-file' specified, but 'top' is the active layer");
  }
  if (image == target) {
    return fail(EINVAL, "Can't mirror node into itself");
  }
  return jobs::CommitJobOptions{
      .settings = settings_of(arguments, schema::JobType::kCommit),
      .device = std::move(*device),
      .top = std::move(*top),
      .base = std::move(*base),
      .backing_file = std::move(arguments.backing_file),
      .mask_protocol = arguments.backing_mask_protocol.value_or(false),
      .speed = arguments.speed.value_or(0),
      .on_error = arguments.on_error.value_or(schema::BlockdevOnError::kReport),
      .filter_node_name = std::move(arguments.filter_node_name)};
}

}  // namespace

HandlerResult<commands::BlockCommit> handle(Services& services, commands::BlockCommit,
                                            schema::BlockCommitArguments arguments) {
  auto options = commit_options(services, arguments);
  if (!options) {
    co_return pass(options);
  }
  auto making =
      jobs::CommitJob::make(services.jobs, services.graph, std::move(*options), jobs::InDrain::kNo);
  auto job = co_await std::move(making);
  if (!job) {
    co_return pass(job);
  }
  services.jobs.start(std::move(*job));
  co_return Result<void>{};
}

}  // namespace cairn::monitor
