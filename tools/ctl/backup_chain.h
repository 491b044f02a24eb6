// BackupChain: the list of a disk's backups in a directory, as its file chain.json holds it.
//
// That file alone decides which backups exist. It is replaced as a whole, so that a cut leaves the
// old list or the new one. Nothing in it names a file outside of the directory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::ctl {

// The disk at one moment.
struct BackupPoint {
  uint64_t number = 0;  // from 1
  bool full = false;    // else it holds what has changed since the point before it
  std::string time;     // "2026-01-31T12:00:00Z"
  uint64_t virtual_size = 0;
  uint64_t length = 0;  // of the file, in bytes
  std::string sha256;   // of the file
  std::string bitmap;   // on the disk: it records what changes from this moment on

  // "0001.qcow2"
  [[nodiscard]] std::string file() const;
};

struct BackupChain {
  std::string id;    // 16 hexadecimal digits, by which nodes, jobs and bitmaps are recognised
  std::string node;  // the disk
  std::vector<BackupPoint> points;

  // A chain without points, with an id of its own.
  [[nodiscard]] static Result<BackupChain> make(std::string node);

  [[nodiscard]] const BackupPoint* last() const {
    return points.empty() ? nullptr : &points.back();
  }
  [[nodiscard]] const BackupPoint* find(uint64_t number) const;
  // From a full point to that with this number: the files that together are the disk.
  [[nodiscard]] std::span<const BackupPoint> needed_for(uint64_t number) const;

  // "cairn-backup-ID-": what the names of all bitmaps of the chain begin with.
  [[nodiscard]] std::string bitmap_prefix() const;
  // A name that no point had before, not even one of a copy of the directory: a bitmap of that name
  // has recorded since this point and no other.
  [[nodiscard]] Result<std::string> new_bitmap(uint64_t number) const;

  [[nodiscard]] schema::JsonValue to_json() const;
};

// "0001.qcow2"; more digits where four are not enough.
[[nodiscard]] std::string backup_file(uint64_t number);

// The point as it stands in chain.json.
[[nodiscard]] schema::JsonValue point_json(const BackupPoint& point);

// EINVAL when it is no chain, ENOTSUP when it is one of another version.
[[nodiscard]] Result<BackupChain> parse_backup_chain(std::string_view text);

// From DIRECTORY/chain.json; nothing when there is none.
[[nodiscard]] Result<std::optional<BackupChain>> load_backup_chain(const std::string& directory);
// Durable when it returns. After an error either list may be there.
[[nodiscard]] Result<void> save_backup_chain(const std::string& directory,
                                             const BackupChain& chain);

}  // namespace cairn::ctl
