// Commands that start jobs on backing chains.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "jobs/chain.h"
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

Result<void> check_speed(const std::optional<int64_t>& speed) {
  if (speed.value_or(0) < 0) {
    return fail(EINVAL, "Parameter 'speed' expects a non-negative value");
  }
  return {};
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
      .speed = static_cast<uint64_t>(arguments.speed.value_or(0)),
      .on_error = arguments.on_error.value_or(schema::BlockdevOnError::kReport),
      .filter_node_name = std::move(arguments.filter_node_name)};
}

}  // namespace

HandlerResult<commands::BlockStream> handle(Services& services, commands::BlockStream,
                                            schema::BlockStreamArguments arguments) {
  const std::optional<int64_t> speed = arguments.speed;
  auto options = stream_options(services, arguments);
  if (!options) {
    co_return pass(options);
  }
  if (auto good = check_speed(speed); !good) {
    co_return good;
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

}  // namespace cairn::monitor
