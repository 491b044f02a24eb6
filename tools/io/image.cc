// cairn-io: commands on an open image that move no data.
#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "base/sector.h"
#include "block/node_info.h"
#include "schema/types_block_info.h"
#include "tools/common/info.h"
#include "tools/common/options.h"
#include "tools/common/report.h"
#include "tools/io/io.h"
#include "tools/io/limits.h"
#include "tools/io/text.h"

namespace cairn::tools {
namespace {

using block::PermissionSet;

// How much of a range belongs to the image itself and not to what is below it.
struct Allocation {
  uint64_t length = 0;  // bytes for which it holds
  bool allocated = false;
};

io::Task<Result<Allocation>> allocation_at(block::Edge& root, uint64_t offset, uint64_t end) {
  Allocation found;
  while (offset < end) {
    Result<block::BlockStatus> status = co_await root.status(offset, end - offset);
    if (!status) {
      co_return pass(status);
    }
    if (found.length != 0 && status->allocated != found.allocated) {
      break;
    }
    found.allocated = status->allocated;
    found.length += status->length;
    offset += status->length;
  }
  co_return found;
}

// A driver that filenames can begin with is told by both of its names, which are one.
constexpr std::array<std::string_view, 7> kNamedTwice = {
    "file", "host_device", "nbd", "null-co", "null-aio", "blkdebug", "blkverify"};

int fail_io(const Error& error) {
  report_error(error);
  return 1;
}

}  // namespace

int io_discard(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'C', nullptr, false}, OptionSpec{'q', nullptr, false}};
  bool machine_readable = false;
  bool quiet = false;
  OptionReader reader(arguments[0], std::span(arguments).subspan(1), kSpecs);
  while (const auto option = reader.next()) {
    if (option->id == 0) {
      print_io_usage("discard");
      return 1;
    }
    (option->id == 'C' ? machine_readable : quiet) = true;
  }
  const std::vector<std::string> operands = reader.operands();
  if (operands.size() != 2) {
    print_io_usage("discard");
    return 1;
  }
  const auto offset = parse_io_number(operands[0]);
  const auto count = offset ? parse_io_number(operands[1]) : std::nullopt;
  if (!count) {
    return 1;
  }
  if (*count > kLargestIoRequest) {
    fmt::print("length cannot exceed {}, given {}\n", kLargestIoRequest, operands[1]);
    return 1;
  }
  const auto begin = std::chrono::steady_clock::now();
  const Result<void> done = shell.session().run(shell.root().discard(*offset, *count));
  if (!done) {
    fmt::print("discard failed: {}\n", std::strerror(done.error().code()));
    return 1;
  }
  if (!quiet) {
    print_io_figures({.verb = "discard",
                      .offset = *offset,
                      .asked = *count,
                      .done = *count,
                      .elapsed = std::chrono::steady_clock::now() - begin,
                      .machine_readable = machine_readable});
  }
  return 0;
}

int io_flush(IoShell& shell, const IoArguments& /*arguments*/) {
  // Scripts look at the exit code.
  return shell.session().run(shell.root().flush()) ? 0 : 1;
}

int io_truncate(IoShell& shell, const IoArguments& arguments) {
  constexpr std::array kSpecs = {OptionSpec{'m', nullptr, true}};
  // A device has the size that it has: asking for less is no failure.
  block::ResizeOptions options{.exact = false};
  OptionReader reader(arguments[0], std::span(arguments).subspan(1), kSpecs);
  while (const auto option = reader.next()) {
    if (option->id == 0) {
      print_io_usage("truncate");
      return 1;
    }
    const auto mode = parse_preallocation(option->value);
    if (!mode) {
      return fail_io(mode.error());
    }
    options.preallocation = *mode;
  }
  const std::vector<std::string> operands = reader.operands();
  if (operands.empty()) {
    print_io_usage("truncate");
    return 1;
  }
  // The field shows the first word, whatever it is.
  const auto length = parse_io_number(operands[0], arguments[1]);
  if (!length) {
    return 1;
  }
  block::Edge& root = shell.root();
  block::Graph& graph = shell.session().graph();
  const block::Permissions usual = root.permissions();
  block::Permissions with_resize = usual;
  with_resize.used |= PermissionSet::kResize;
  if (const auto granted = graph.set_permissions(root, with_resize); !granted) {
    return fail_io(granted.error());
  }
  const Result<void> done = shell.session().run(root.resize(*length, options));
  (void)graph.set_permissions(root, usual);
  return done ? 0 : fail_io(done.error());
}

int io_length(IoShell& shell, const IoArguments& /*arguments*/) {
  fmt::print("{}\n", io_size_text(static_cast<double>(shell.root().length())));
  return 0;
}

int io_info(IoShell& shell, const IoArguments& /*arguments*/) {
  const block::Node& top = shell.root().node();
  const block::Node& node = shell.request().copy_on_read ? top.backing()->node() : top;
  const Result<schema::BlockNodeInfo> info = shell.session().run(block::describe_image(node));
  if (!info) {
    return fail_io(info.error());
  }
  const block::Driver& driver = node.driver();
  fmt::print("format name: {}\n", node.info().name);
  if (std::ranges::find(kNamedTwice, node.info().name) != kNamedTwice.end()) {
    fmt::print("format name: {}\n", node.info().name);
  }
  if (!driver.dirty()) {
    return 1;  // nothing is stored, and there is nothing more to tell
  }
  fmt::print("cluster size: {}\nvm state offset: {}\n", io_size_text(driver.cluster_size()),
             io_size_text(static_cast<double>(driver.vm_state_offset())));
  if (info->format_specific) {
    fmt::print("{}", specific_info_text(*info->format_specific));
  }
  return 0;
}

int io_map(IoShell& shell, const IoArguments& /*arguments*/) {
  const uint64_t length = shell.root().length();
  for (uint64_t offset = 0; offset < length;) {
    const Result<Allocation> found =
        shell.session().run(allocation_at(shell.root(), offset, length));
    if (!found) {
      return fail_io(Error(found.error()).prefix("Failed to get allocation status: "));
    }
    fmt::print("{} (0x{:x}) bytes {} allocated at offset {} (0x{:x})\n",
               io_size_text(static_cast<double>(found->length)), found->length,
               found->allocated ? "   " : "not", io_size_text(static_cast<double>(offset)), offset);
    offset += found->length;
  }
  return 0;
}

int io_alloc(IoShell& shell, const IoArguments& arguments) {
  const auto start = parse_io_number(arguments[1]);
  if (!start) {
    return 1;
  }
  uint64_t count = kSector;
  if (arguments.size() > 2) {
    const auto given = parse_io_number(arguments[2]);
    if (!given) {
      return 1;
    }
    count = *given;
  }
  const uint64_t length = shell.root().length();
  const uint64_t begin = std::min(*start, length);
  count = std::min(count, length - begin);
  uint64_t allocated = 0;
  for (uint64_t offset = begin; offset < begin + count;) {
    const Result<Allocation> found =
        shell.session().run(allocation_at(shell.root(), offset, begin + count));
    if (!found) {
      fmt::print("is_allocated failed: {}\n", Error::from_errno(found.error().code()).message());
      return 1;
    }
    allocated += found->allocated ? found->length : 0;
    offset += found->length;
  }
  fmt::print("{}/{} bytes allocated at offset {}\n", allocated, count,
             io_size_text(static_cast<double>(*start)));
  return 0;
}

}  // namespace cairn::tools
