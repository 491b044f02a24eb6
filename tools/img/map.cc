// cairn-img map
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/sector.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

struct MapRequest : ImageRequest {
  MapRequest() { flags = {.read_only = true}; }

  uint64_t start = 0;
  uint64_t length = INT64_MAX;
};

// One line of the map: a range that is the same all over.
struct MapEntry {
  uint64_t start = 0;
  uint64_t length = 0;
  int depth = 0;
  bool present = false;
  bool zero = false;
  bool data = false;
  bool compressed = false;
  const block::Node* host = nullptr;  // null: no offset to tell
  uint64_t offset = 0;
};

MapEntry entry_of(uint64_t start, const block::ChainStatus& found) {
  const block::BlockStatus& status = found.status;
  return {.start = start,
          .length = status.length,
          .depth = found.depth,
          .present = status.allocated,
          .zero = status.zero,
          .data = status.data,
          .compressed = status.compressed,
          .host = status.host,
          .offset = status.host_offset};
}

// A file may end within a sector, whose rest reads as zeroes.
void cut_at_end(MapEntry& entry) {
  struct stat found{};
  if (entry.host == nullptr || entry.host->info().name != "file" ||
      stat(entry.host->filename().c_str(), &found) != 0 || !S_ISREG(found.st_mode)) {
    return;
  }
  const auto size = static_cast<uint64_t>(found.st_size);
  if (is_aligned(size, kSector) || entry.offset + entry.length <= size) {
    return;
  }
  if (entry.offset < size) {
    entry.length = size - entry.offset;
  } else if (entry.offset < align_up(size, kSector)) {
    entry.data = false;
    entry.zero = true;
  }
}

// `next` goes on where `entry` ends, in every respect.
bool continues(const MapEntry& entry, const MapEntry& next) {
  return entry.depth == next.depth && entry.present == next.present && entry.zero == next.zero &&
         entry.data == next.data && entry.compressed == next.compressed &&
         entry.host == next.host &&
         (entry.host == nullptr || entry.offset + entry.length == next.offset);
}

// Prints entries one by one, in either form.
class MapPrinter {
 public:
  explicit MapPrinter(bool json) : json_(json) {
    if (json_) {
      fmt::print("[");
    } else {
      fmt::print("{:<16}{:<16}{:<16}{}\n", "Offset", "Length", "Mapped to", "File");
    }
  }

  Result<void> print(const MapEntry& entry) {
    if (json_) {
      print_json(entry);
      return {};
    }
    if (!entry.data || entry.zero) {
      return {};
    }
    if (entry.host == nullptr || entry.compressed) {
      return fail(EIO, "File contains external, encrypted or compressed clusters.");
    }
    fmt::print("{:<16}{:<16}{:<16}{}\n", hex(entry.start), hex(entry.length), hex(entry.offset),
               entry.host->filename());
    return {};
  }

  void finish() {
    if (json_) {
      fmt::print("]\n");
    }
  }

 private:
  static std::string hex(uint64_t value) { return value == 0 ? "0" : fmt::format("{:#x}", value); }

  void print_json(const MapEntry& entry) {
    fmt::print(
        "{}{{ \"start\": {}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, "
        "\"data\": {}, \"compressed\": {}",
        first_ ? "" : ",\n", entry.start, entry.length, entry.depth, entry.present, entry.zero,
        entry.data, entry.compressed);
    if (entry.host != nullptr && !entry.compressed) {
      fmt::print(", \"offset\": {}", entry.offset);
    }
    fmt::print("}}");
    first_ = false;
  }

  bool json_;
  bool first_ = true;
};

io::Task<Result<void>> print_map(block::Graph& /*graph*/, block::Edge& root,
                                 const MapRequest& request) {
  MapPrinter printer(request.json);
  const uint64_t size = root.length();
  const uint64_t end = request.start >= size
                           ? request.start
                           : request.start + std::min(request.length, size - request.start);
  MapEntry current{.start = request.start};
  while (current.start + current.length < end) {
    const uint64_t position = current.start + current.length;
    Result<block::ChainStatus> found = co_await root.chain_status(position, end - position);
    if (!found) {
      co_return pass(found, "Failed to read image metadata: ");
    }
    MapEntry next = entry_of(position, *found);
    cut_at_end(next);
    if (current.length == 0) {
      current = next;
    } else if (continues(current, next)) {
      current.length += next.length;
    } else {
      if (auto printed = printer.print(current); !printed) {
        co_return printed;
      }
      current = next;
    }
  }
  auto printed = printer.print(current);
  if (printed) {
    printer.finish();
  }
  co_return printed;
}

io::Task<int> map(block::Graph& graph, const MapRequest& request) {
  return act_on_image(graph, request, request.flags, print_map, true);
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, MapRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kTaken) {
      continue;
    }
    switch (option->id) {
      case 's':
      case 'l': {
        const bool start = option->id == 's';
        const auto size = parse_size_argument(start ? "start offset" : "max length", option->value);
        if (!size) {
          return fail_command(size.error());
        }
        (start ? request.start : request.length) = *size;
        break;
      }
    }
  }
  return line.exit_code();
}

}  // namespace

int img_map(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 kOutputOption,
                                 OptionSpec{'s', "start-offset", true},
                                 OptionSpec{'l', "max-length", true}};
  MapRequest request;
  ImgCommandLine line("map", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  return run_in_session(map, request);
}

}  // namespace cairn::tools
