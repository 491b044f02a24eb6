// The null drivers' entries in the driver table.
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <variant>

#include "block/graph.h"
#include "protocols/null/null.h"
#include "protocols/null/null_driver.h"
#include "schema/types_block_options.h"

namespace cairn::null {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;

// Sizes from here on could not be rounded up to sectors.
constexpr int64_t kLargestSize = INT64_MAX - 511;

Result<NullParameters> parameters_from(const schema::BlockdevOptionsNull& options) {
  NullParameters parameters;
  if (options.size.value_or(0) < 0) {
    return fail(EINVAL, "Parameter 'size' expects a non-negative number");
  }
  if (options.size.value_or(0) > kLargestSize) {
    return fail_errno(EFBIG, "Could not refresh total sector count");
  }
  if (options.latency_ns.value_or(0) > static_cast<uint64_t>(INT64_MAX)) {
    return fail(EINVAL, "latency-ns is invalid");
  }
  if (options.size) {
    parameters.length = static_cast<uint64_t>(*options.size);
  }
  parameters.latency =
      std::chrono::nanoseconds(static_cast<int64_t>(options.latency_ns.value_or(0)));
  parameters.read_zeroes = options.read_zeroes.value_or(false);
  return parameters;
}

// `options` lives until the graph has opened the node.
io::Task<Opened> open(block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& null = std::get<schema::BlockdevOptionsNull>(options.branch);
  context.node().set_filename(fmt::format("{}://", schema::to_string(options.driver)));
  const Result<NullParameters> parameters = parameters_from(null);
  if (!parameters) {
    co_return std::unexpected(parameters.error());
  }
  co_return std::make_unique<NullDriver>(*parameters);
}

}  // namespace

const block::DriverInfo kNullCoDriver = {
    .name = "null-co",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open,
};

const block::DriverInfo kNullAioDriver = {
    .name = "null-aio",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open,
};

}  // namespace cairn::null
