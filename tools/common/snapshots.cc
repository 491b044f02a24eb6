#include "tools/common/snapshots.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include <fmt/format.h>

#include "base/size_text.h"
#include "block/graph.h"
#include "schema/types_block_info.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

std::string local_date(int64_t seconds) {
  const time_t time = seconds;
  tm parts{};
  localtime_r(&time, &parts);
  std::array<char, 64> text{};
  const size_t length = strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return {text.data(), length};
}

std::string clock_text(int64_t seconds, int64_t nanoseconds) {
  return fmt::format("{:04}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60,
                     nanoseconds / 1'000'000);
}

void append_line(std::string& out, int indent, std::string_view id, std::string_view name,
                 std::string_view size, std::string_view date, std::string_view clock,
                 std::string_view icount) {
  out += fmt::format("{:{}}{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}\n", "", indent, id, name, size,
                     date, clock, icount);
}

}  // namespace

std::string snapshot_list_text(std::span<const schema::SnapshotInfo> snapshots, int indent) {
  std::string text;
  if (snapshots.empty()) {
    return text;
  }
  text += fmt::format("{:{}}Snapshot list:\n", "", indent);
  append_line(text, indent, "ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT");
  for (const schema::SnapshotInfo& snapshot : snapshots) {
    append_line(text, indent, snapshot.id, snapshot.name,
                format_size(static_cast<uint64_t>(snapshot.vm_state_size)),
                local_date(snapshot.date_sec),
                clock_text(snapshot.vm_clock_sec, snapshot.vm_clock_nsec),
                snapshot.icount ? std::to_string(*snapshot.icount) : "--");
  }
  return text;
}

Result<SnapshotChoice> parse_snapshot_choice(std::string_view text, char opening_quote) {
  SnapshotChoice choice;
  if (!text.starts_with("snapshot.")) {
    choice.either = text;
    return choice;
  }
  choice.by_parts = true;
  const auto wrong = [text, opening_quote](std::string_view name) {
    return fail(EINVAL, "Invalid parameter '{}'\n{}: Failed in parsing snapshot param {}{}'", name,
                program_name(), opening_quote, text);
  };
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, comma);
    const size_t equals = std::min(part.find('='), part.size());
    const std::string_view name = part.substr(0, equals);
    std::string* target = name == "snapshot.id"     ? &choice.id
                          : name == "snapshot.name" ? &choice.name
                                                    : nullptr;
    if (target == nullptr || equals == part.size()) {
      return wrong(name);
    }
    *target = part.substr(equals + 1);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return choice;
}

io::Task<Result<void>> show_snapshot(block::Edge& root, SnapshotChoice choice) {
  const Result<std::vector<block::Snapshot>> snapshots = root.snapshots();
  std::string id;
  if (snapshots) {
    const block::Snapshot* found = nullptr;
    if (choice.id.empty() && choice.name.empty()) {
      found = block::find_snapshot(*snapshots, choice.either);
    } else {
      const auto it = std::ranges::find_if(*snapshots, [&choice](const block::Snapshot& snapshot) {
        return (choice.id.empty() || snapshot.id == choice.id) &&
               (choice.name.empty() || snapshot.name == choice.name);
      });
      found = it == snapshots->end() ? nullptr : &*it;
    }
    if (found == nullptr) {
      co_return fail(ENOENT, "Failed to load snapshot: Can't find snapshot");
    }
    id = found->id;
  }
  Result<void> shown = co_await root.show_snapshot(std::move(id));
  if (!shown) {
    co_return pass(shown, "Failed to load snapshot: ");
  }
  const block::Node& node = root.node();  // its disk may have had another size
  co_return node.graph().open_policy().check_length(node.filename(), node.length());
}

}  // namespace cairn::tools
