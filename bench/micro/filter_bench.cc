// What a filter that changes nothing costs each request: reads and writes of a null node, with more
// and more throttle nodes above it whose group has no limits. No I/O, no other work: the difference
// from one line to the next is one filter.
//
//   filter_bench [requests]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "block/graph.h"
#include "filters/throttle.h"
#include "io/reactor.h"
#include "io/throttle.h"
#include "protocols/null/null.h"
#include "schema/types_block_options.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr int kFilters = 8;
// Short runs, of which the best counts: others may want the processor, too.
constexpr int kRuns = 300;

template <typename T>
void require(const Result<T>& result) {
  if (!result) {
    fmt::print(stderr, "filter_bench: {}\n", result.error().message());
    std::exit(1);
  }
}

io::Task<void> make_requests(block::Edge& edge, bool write, uint64_t count) {
  std::array<std::byte, 4096> data{};
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t offset = i * data.size() % (1 << 30);
    Result<void> result;
    if (write) {
      result = co_await edge.write(offset, data.data(), data.size());
    } else {
      result = co_await edge.read(offset, data.data(), data.size());
    }
    require(result);
  }
}

// The best of a few runs, in nanoseconds a request.
double measure(io::Reactor& reactor, block::Edge& edge, bool write, uint64_t count) {
  double best = 0;
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    reactor.block_on(make_requests(edge, write, count));
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
    const double each = time.count() / static_cast<double>(count);
    best = i == 0 ? each : std::min(best, each);
  }
  return best;
}

schema::BlockdevOptions filter_over(const std::string& below, const std::string& name) {
  schema::BlockdevOptionsThrottle branch;
  branch.throttle_group = "g";
  branch.file.value = below;
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kThrottle;
  options.node_name = name;
  options.branch = std::move(branch);
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 5000;
  auto reactor = io::Reactor::create(io::BackendKind::kAuto);
  require(reactor);
  block::DriverTable drivers;
  drivers.add(null::kNullCoDriver);
  drivers.add(filters::kThrottleDriver);
  block::Graph graph(drivers);
  const auto unlimited = std::make_shared<io::Throttle>();
  graph.set_throttle_lookup([&](const std::string&) { return unlimited; });
  schema::BlockdevOptions null;
  null.driver = schema::BlockdevDriver::kNullCo;
  null.node_name = "node0";
  null.branch = schema::BlockdevOptionsNull{};
  require((*reactor)->block_on(graph.add_monitor_node(null)));
  std::array<double, 2> first{};
  std::array<double, 2> last{};
  for (int depth = 0; depth <= kFilters; ++depth) {
    const std::string name = fmt::format("node{}", depth);
    if (depth > 0) {
      const auto options = filter_over(fmt::format("node{}", depth - 1), name);
      require((*reactor)->block_on(graph.add_monitor_node(options)));
    }
    auto edge = graph.attach(graph.find(name), "bench",
                             {block::PermissionSet::kConsistentRead | block::PermissionSet::kWrite,
                              block::PermissionSet::all()});
    require(edge);
    for (const bool write : {false, true}) {
      last[write ? 1 : 0] = measure(**reactor, **edge, write, count);
    }
    require((*reactor)->block_on(graph.detach(std::move(*edge))));
    first = depth == 0 ? last : first;
    fmt::print("{} filters: read {:6.1f} ns, write {:6.1f} ns\n", depth, last[0], last[1]);
  }
  fmt::print("a filter: read {:6.1f} ns, write {:6.1f} ns\n", (last[0] - first[0]) / kFilters,
             (last[1] - first[1]) / kFilters);
  require((*reactor)->block_on(graph.close_all()));
  return 0;
}
