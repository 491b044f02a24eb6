#include "tools/common_snapshots.h"

#include <array>
#include <ctime>

#include <fmt/format.h>

#include "base/size_text.h"
#include "schema/types_block_info.h"

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

}  // namespace cairn::tools
